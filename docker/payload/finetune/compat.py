"""Where transformers 4.26 to 5.x differ, in one place."""

from __future__ import annotations

import inspect
from typing import Any, Dict

import torch
import transformers

from train.errors import JobError

# The newest name, and the one that older releases have.
OLDER = {
    "eval_strategy": "evaluation_strategy",  # until 4.46
    "use_cpu": "no_cuda",  # until 4.34
    "activation_checkpointing": "gradient_checkpointing",  # until 5.23
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
    "processing_class": "tokenizer",  # of Trainer, until 4.46
}
# Left out where a release does not have it; there it is, or does, nothing else than the default.
OPTIONAL = (
    "activation_checkpointing_kwargs",  # from 4.35
    "save_safetensors",  # 4.28 to 4.57; later always
    "ddp_backend",
    "optim",
)


def training_arguments(values: Dict[str, Any]) -> Any:
    """`TrainingArguments`, by the names that this transformers has."""
    complete_cpu_module()
    known = inspect.signature(transformers.TrainingArguments.__init__).parameters
    return transformers.TrainingArguments(**renamed(values, known))


def complete_cpu_module() -> None:
    """What accelerate calls with several processes on a CPU, and `torch.cpu` has from 2.1 on: a CPU is one device."""
    if not hasattr(torch.cpu, "device_count"):
        torch.cpu.device_count = lambda: 1
        torch.cpu.set_device = lambda _: None


def trainer_arguments(values: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments of `Trainer`, likewise."""
    known = inspect.signature(transformers.Trainer.__init__).parameters
    return renamed(values, known)


def renamed(
    values: Dict[str, Any],
    known: Any,
) -> Dict[str, Any]:
    result = {}
    for name, value in values.items():
        used = (
            name
            if name in known
            else OLDER.get(
                name,
                name,
            )
        )
        if used in known:
            result[used] = value
        elif name not in OPTIONAL:
            raise JobError(f"transformers {transformers.__version__} has no {name}")
    return result


def warmup(share: float, steps: int) -> Dict[str, Any]:
    """By a number of steps, which every release has; `warmup_ratio` is on its way out."""
    return {"warmup_steps": int(share * steps)}


def dtype_argument(dtype: Any) -> Dict[str, Any]:
    """`dtype` of `from_pretrained`, which was `torch_dtype` before 5.0."""
    major = int(transformers.__version__.split(".", maxsplit=1)[0])
    return {"dtype" if major >= 5 else "torch_dtype": dtype}


def check_checkpoint(trusted: bool) -> None:
    """Whether a checkpoint can be loaded. Its optimizer and random states are pickles.

    Newer releases of transformers refuse torch.load with torch < 2.6, where it can run a file's code even with
    `weights_only` (CVE-2025-32434). Only the user knows whose checkpoint it is.
    """
    from transformers import trainer

    check = getattr(trainer, "check_torch_load_is_safe", None)
    if check is None:
        return
    if trusted:
        trainer.check_torch_load_is_safe = lambda: None
        return
    try:
        check()
    except ValueError as error:
        raise JobError(
            f"torch {torch.__version__} does not load checkpoints safely (CVE-2025-32434), and this transformers "
            "refuses it",
            "if this run wrote the checkpoint and nobody else can write there, add --trust-checkpoint",
        ) from error


def device_of(choice: str) -> str:
    """ "cuda" or "cpu"; raises `JobError` for a GPU that does not exist."""
    if choice == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if choice == "cuda":
        raise JobError(
            "no GPU is visible", "give the container one: `docker run --gpus all …`"
        )
    return "cpu"
