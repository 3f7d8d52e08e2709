"""LoRA and QLoRA by peft: small adapters are trained, the model's own weights stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import torch
import transformers

from finetune import compat
from finetune.options import Settings
from finetune.tasks import AUTO_CLASSES
from train.errors import JobError, first_line

PEFT_TASKS = {
    "classification": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "tokens": "TOKEN_CLS",
    "mlm": None,
    "causal": "CAUSAL_LM",
}


def quantization(bits: str, device: str) -> Dict[str, Any]:
    """What `from_pretrained` takes for weights of 8 or 4 bits."""
    four = bits == "4"
    try:
        config = transformers.BitsAndBytesConfig(
            load_in_8bit=not four,
            load_in_4bit=four,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    except (AttributeError, ImportError, TypeError) as error:
        raise JobError(
            f"bitsandbytes does not work here: {first_line(error)}",
            "leave out --quantize",
        ) from error
    # The whole model on the one device of this process.
    place: Any = {"": torch.cuda.current_device()} if device == "cuda" else {"": "cpu"}
    return {"quantization_config": config, "device_map": place}


def add_adapters(model: Any, settings: Settings) -> Any:
    """The model with LoRA adapters, which alone are trained (next to a new head)."""
    import peft

    if settings.quantize:
        model = peft.prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=settings.gradient_checkpointing
        )
    elif settings.gradient_checkpointing:
        # Else no gradient reaches the adapters of a checkpointed layer.
        model.enable_input_require_grads()
    targets: Any = settings.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in targets.split(",")]
    config = peft.LoraConfig(
        task_type=PEFT_TASKS[settings.task],
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise JobError(
            f"no adapters fit: {first_line(error)}",
            "name modules of this model with --lora-targets, e.g. query,value or q_proj,v_proj",
        ) from error


def merge(model: Any, folder: Path) -> None:
    """The full model with its adapters merged in: it loads without peft."""
    model.merge_and_unload().save_pretrained(str(folder))


def load(
    folder: str,
    task: str,
    head: Dict[str, Any],
    device: str,
) -> Any:
    """A model that `finetune` saved, with or without adapters, on the device and ready to answer."""
    auto = getattr(
        transformers,
        AUTO_CLASSES[task],
    )
    adapters = Path(
        folder,
        "adapter_config.json",
    )
    if not adapters.is_file():
        model = auto.from_pretrained(
            folder,
            **compat.dtype_argument("auto"),
        )
        return model.to(device).eval()
    import peft

    base = json.loads(adapters.read_text(encoding="utf-8"))["base_model_name_or_path"]
    model = auto.from_pretrained(
        base,
        **head,
        **compat.dtype_argument(torch.float32),
    )
    return (
        peft.PeftModel.from_pretrained(
            model,
            folder,
        )
        .to(device)
        .eval()
    )
