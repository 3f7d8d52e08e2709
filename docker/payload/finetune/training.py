"""The run: tokenizer and model, rows as tokens, transformers' Trainer, the best model's scores."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import torch
import transformers
from datasets import Dataset

from finetune import adapters, compat, tasks
from finetune.callbacks import Reporter, SimilarLengths, is_main_process, world_size
from finetune.data import Data
from finetune.options import LOWER_IS_BETTER, Settings
from train.data import hint_for, reason
from train.errors import JobError
from train.interrupts import STOP

LIMITS = {"causal": 1024}  # tokens of a row, unless --max-length says otherwise
LIMIT = 512
CHECKPOINTS = 2  # that are kept: the best and the last


class Run(NamedTuple):
    """What a run leaves in memory."""

    trainer: Any
    tokenizer: Any
    measured: Dict[str, Any]


class LengthTrainer(transformers.Trainer):
    """Trainer with batches of texts of similar length, in an order that only the seed and the epoch decide."""

    sampler: SimilarLengths | None = None

    def _get_train_sampler(self, *args: Any) -> Any:
        # Before 4.30 Trainer, and not accelerate, gave each process its rows.
        if world_size() > 1 and not hasattr(self, "accelerator"):
            return super()._get_train_sampler(*args)
        return self.sampler


def train(settings: Settings, data: Data) -> Run:
    """Fine-tune, and evaluate the best model; every process calls it."""
    say = print if is_main_process() else lambda *_: None
    device = compat.device_of(settings.device)
    check_hardware(settings, device)
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    tokenizer = load_tokenizer(settings)
    rows = encode_all(data, tokenizer, settings, say)
    steps = count_steps(len(rows["train"]), settings)
    arguments = make_arguments(settings, device, steps)
    model = load_model(settings, data.labels, tokenizer, device)
    collator = tasks.make_collator(tokenizer, settings)
    if settings.task == "mlm":
        for split in ("validation", "test"):
            if split in rows:
                rows[split] = tasks.mask_once(rows[split], collator, settings.seed)
    lengths = [len(ids) for ids in rows["train"]["input_ids"]]
    sampler = SimilarLengths(lengths, settings.batch_size * world_size(), settings.seed)
    reporter = Reporter(settings, sampler)
    trainer = LengthTrainer(
        **compat.trainer_arguments(
            {
                "model": model,
                "args": arguments,
                "data_collator": collator,
                "train_dataset": rows["train"],
                "eval_dataset": rows["validation"],
                "processing_class": tokenizer,
                "compute_metrics": tasks.make_scorer(settings, data.labels),
                "preprocess_logits_for_metrics": (
                    tasks.smaller_logits if settings.task == "tokens" else None
                ),
                "callbacks": make_callbacks(settings, reporter),
            }
        )
    )
    trainer.sampler = sampler
    # The reporter says what happens; Trainer's own would print a dictionary for each log.
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    say(describe(model, settings, device, rows, steps))
    checkpoint = last_checkpoint(settings)
    if checkpoint:
        compat.check_checkpoint(settings.trust_checkpoint)
    started, processor = time.monotonic(), time.process_time()
    result = trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - started
    STOP.can_save = False
    reporter.close()
    if STOP.requested:
        say(f"saved after step {trainer.state.global_step}: continue with --resume")
        raise SystemExit(130)
    processor = time.process_time() - processor
    measured = measure(trainer, result, seconds, device)
    measured["processor_seconds"] = round(processor, 2)
    measured.update(evaluate(trainer, rows, settings, data.labels))
    return Run(trainer, tokenizer, measured)


def check_hardware(settings: Settings, device: str) -> None:
    """What this machine or this torch cannot do, before minutes are spent."""
    precision = settings.precision
    if device == "cpu" and precision in ("fp16", "tf32"):
        raise JobError(f"--precision {precision} needs a GPU", "use bf16 or fp32")
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise JobError("this GPU does not support bf16", "use --precision fp16")
    if settings.compile:
        from train import compiling

        if compiling.is_torch_2_0():
            # Its answers on a CPU come from the weights of the first evaluation: docs/decisions/0009.
            raise JobError("--compile needs torch ≥ 2.1", "leave out --compile")
        compiling.check_compiler(device)


# --- model and rows ------------------------------------------------------------------------------------------------


def load_tokenizer(settings: Settings) -> Any:
    tokenizer = load(
        transformers.AutoTokenizer,
        settings,
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise JobError(f"the tokenizer of {settings.model} has no token to pad with")
    config = load(
        transformers.AutoConfig,
        settings,
    )
    config = getattr(
        config,
        "text_config",
        config,
    )
    limit = (
        getattr(
            config,
            "max_position_embeddings",
            None,
        )
        or sys.maxsize
    )
    # RoBERTa's positions begin at 2: what its tokenizer says is less.
    limit = min(
        limit,
        tokenizer.model_max_length or sys.maxsize,
    )
    if settings.max_length is None:
        settings.max_length = min(
            limit,
            LIMITS.get(
                settings.task,
                LIMIT,
            ),
        )
    elif settings.max_length > limit:
        raise JobError(
            f"--max-length {settings.max_length}: {settings.model} takes {limit} tokens at most"
        )
    return tokenizer


def load(auto: Any, settings: Settings, **more: Any) -> Any:
    """Something of the model; raises `JobError` with the library's own words in one line."""
    if settings.trust_remote_code:
        more["trust_remote_code"] = True
    try:
        return auto.from_pretrained(settings.model, **more)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise JobError(
            f"cannot load model {settings.model}: {reason(error)}",
            hint_for(settings.model, error),
        ) from error


def load_model(
    settings: Settings, labels: Sequence[str], tokenizer: Any, device: str
) -> Any:
    """The model with the head that the task needs, in 32 bits where its weights are trained."""
    auto = getattr(transformers, tasks.AUTO_CLASSES[settings.task])
    more = tasks.head_settings(settings, labels)
    if more:
        # A head for other labels is made anew.
        more["ignore_mismatched_sizes"] = True
    small = settings.lora and (settings.quantize or settings.precision == "bf16")
    more.update(compat.dtype_argument(torch.bfloat16 if small else torch.float32))
    if settings.quantize:
        more.update(adapters.quantization(settings.quantize, device))
    model = load(auto, settings, **more)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if settings.task == "causal":
        model.config.use_cache = False
    if settings.lora:
        model = adapters.add_adapters(model, settings)
    return model


def encode_all(
    data: Data, tokenizer: Any, settings: Settings, say: Any
) -> Dict[str, Dataset]:
    """Every split as tokens; the rows to evaluate on by length, so that their batches have little padding."""
    rows = {}
    for split, table in data.tables.items():
        encoded = tasks.encode(table, tokenizer, settings, data.labels)
        if encoded.cut:
            say(
                f"{encoded.cut} of {len(table)} rows to {VERBS[split]} have more than {settings.max_length} tokens "
                "and are cut (--max-length)"
            )
        if encoded.dropped:
            say(f"{encoded.dropped} of {len(table)} left out: no answer within that")
        rows[split] = encoded.rows
        if split != "train":
            lengths = [len(ids) for ids in encoded.rows["input_ids"]]
            order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
            rows[split] = encoded.rows.select(order)
    return rows


VERBS = {"train": "train on", "validation": "evaluate on", "test": "test on"}


# --- Trainer -------------------------------------------------------------------------------------------------------


def count_steps(
    rows: int,
    settings: Settings,
) -> int:
    """Optimizer steps of the whole run."""
    if settings.max_steps:
        return settings.max_steps
    batches = math.ceil(rows / (settings.batch_size * world_size()))
    return settings.epochs * max(
        1,
        batches // settings.gradient_accumulation_steps,
    )


def make_arguments(settings: Settings, device: str, steps: int) -> Any:
    """`TrainingArguments` for the settings."""
    strategy = "steps" if settings.eval_every else "epoch"
    large = settings.task in (
        "mlm",
        "causal",
    )  # their logits are as wide as the vocabulary
    values: dict[str, Any] = {
        "output_dir": settings.output,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size * (1 if large else 4),
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "weight_decay": settings.weight_decay,
        "optim": settings.optimizer,
        "seed": settings.seed,
        "eval_strategy": strategy,
        "save_strategy": strategy,
        "save_total_limit": CHECKPOINTS,
        "save_safetensors": True,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{settings.metric}",
        "greater_is_better": settings.metric not in LOWER_IS_BETTER,
        "prediction_loss_only": large,
        "logging_strategy": "steps",
        "logging_steps": settings.log_every,
        "report_to": [settings.report_to] if settings.report_to else [],
        "disable_tqdm": not sys.stderr.isatty(),
        "activation_checkpointing": settings.gradient_checkpointing,
        "torch_compile": settings.compile,
        "use_cpu": device == "cpu",
    }
    values.update(compat.warmup(settings.warmup, steps))
    if settings.precision != "fp32":
        values[settings.precision] = True
    if settings.eval_every:
        values["eval_steps"] = values["save_steps"] = settings.eval_every
    if settings.gradient_checkpointing:
        values["activation_checkpointing_kwargs"] = {"use_reentrant": False}
    if device == "cpu" and world_size() > 1:
        values["ddp_backend"] = "gloo"
    return compat.training_arguments(values)


def make_callbacks(settings: Settings, reporter: Reporter) -> List[Any]:
    callbacks: list[Any] = [reporter]
    if settings.early_stopping:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stopping))
    return callbacks


def last_checkpoint(settings: Settings) -> str | None:
    """The last complete one: Trainer writes its state last, so a run that was killed while it saved has none there."""
    if not settings.resume:
        return None
    best, last = None, 0
    for folder in Path(settings.output or "").glob("checkpoint-*"):
        step = folder.name.rpartition("-")[2]
        if not step.isdigit() or int(step) <= last:
            continue
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        best, last = str(folder), int(step)
    return best


# --- what came of it -----------------------------------------------------------------------------------------------


def describe(
    model: Any,
    settings: Settings,
    device: str,
    rows: Dict[str, Dataset],
    steps: int,
) -> str:
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    line = f"device: {name}, {torch.get_num_threads()} threads"
    if world_size() > 1:
        line += f", {world_size()} processes"
    counts = f"{len(rows['train'])} rows to train on, {len(rows['validation'])} to evaluate on"
    return f"{line}\n{counts}, {steps} steps, {trained:,} parameters"


def measure(trainer: Any, result: Any, seconds: float, device: str) -> Dict[str, Any]:
    """How long it took, and what it took."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    speed = result.metrics.get("train_samples_per_second", 0.0)
    return {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0, 2),
        "seconds": round(seconds, 2),
        "samples_per_second": speed,
        "train_loss": round(result.training_loss, 5),
        "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name,
        "peak_memory_bytes": memory,
        "parameters": sum(part.numel() for part in trainer.model.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "processes": world_size(),
    }


def evaluate(
    trainer: Any,
    rows: Dict[str, Dataset],
    settings: Settings,
    labels: Sequence[str],
) -> Dict[str, Any]:
    """The best model's scores on each split that was not trained on, and label by label."""
    measured: dict[str, Any] = {}
    for split in ("validation", "test"):
        if split not in rows:
            continue
        prediction = trainer.predict(
            rows[split],
            metric_key_prefix=split,
        )
        scores = {}
        for name, value in prediction.metrics.items():
            if not name.endswith(("runtime", "second", "time")):
                scores[name[len(split) + 1 :]] = round(
                    value,
                    6,
                )
        if settings.task in ("mlm", "causal"):
            scores["perplexity"] = round(
                math.exp(
                    min(
                        scores["loss"],
                        50,
                    )
                ),
                4,
            )
        measured[split] = scores
        measured[f"{split}_labels"] = tasks.by_label(
            prediction,
            settings,
            labels,
        )
    return measured


def save(run: Run, settings: Settings, data: Data) -> None:
    """The model as `from_pretrained` takes it, and what `finetune predict` has to know of it."""
    folder = Path(settings.output or "")
    if settings.task == "causal":
        run.trainer.model.config.use_cache = True
    run.trainer.save_model(str(folder))
    if not is_main_process():
        return
    (folder / "training_args.bin").unlink()  # a pickle; finetune.json says the same
    run.tokenizer.save_pretrained(str(folder))
    document = {"settings": asdict(settings), "labels": data.labels}
    (folder / "finetune.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "metrics.json").write_text(
        json.dumps(run.measured, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    if settings.merge:
        adapters.merge(run.trainer.model, folder / "merged")
        run.tokenizer.save_pretrained(str(folder / "merged"))
