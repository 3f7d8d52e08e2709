"""The options of `finetune`: one field each. Nothing heavy is imported here, so that mistakes are found at once."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn, Sequence

from train.options import explain_unknown, fraction, positive_float, positive_int

TASKS = ("classification", "regression", "tokens", "mlm", "causal")
# The first is the metric by which the best checkpoint is chosen, unless --metric names another.
METRICS = {
    "classification": ("f1", "accuracy", "loss"),
    "regression": ("rmse", "mae", "pearson", "loss"),
    "tokens": ("f1", "precision", "recall", "accuracy", "loss"),
    "mlm": ("loss",),
    "causal": ("loss",),
}
LOWER_IS_BETTER = ("loss", "rmse", "mae")
TRACKERS = ("wandb", "mlflow")
# A run that continues with other values of these would be another run.
FIXED = (
    "task model data data_config validation text_column pair_column label_column multi_label label_separator "
    "validation_share max_train_samples epochs max_steps batch_size gradient_accumulation_steps learning_rate warmup "
    "weight_decay scheduler optimizer max_length packing loss_on_prompt mask_share seed lora lora_rank lora_alpha "
    "lora_dropout lora_targets quantize"
).split()


def option(
    text: str,
    default: Any = None,
    kind: Callable[[str], Any] | type[bool] = str,
    *,
    flags: str = "",
    choices: Sequence[str] | None = None,
    metavar: str = "N",
) -> Any:
    """A field of `Settings` that is an option: `--its-name`, and the other names in `flags`."""
    return field(
        default=default,
        metadata={
            "help": text,
            "kind": kind,
            "flags": flags.split(),
            "choices": choices,
            "metavar": None if choices else metavar,
        },
    )


@dataclass
class Settings:
    """What `finetune` has to do. Where transformers' Trainer has an option that means the same, its name works too."""

    # fmt: off
    task: str = option("what the model learns", "", choices=TASKS)
    model: str = option("model: hub name or directory", "", flags="--model-name-or-path", metavar="NAME")
    data: str = option(
        "data: file (CSV, TSV, JSON lines, Parquet, CoNLL, text), directory or hub dataset",
        "", flags="--dataset-name", metavar="NAME")
    data_config: str | None = option("configuration of a hub dataset", flags="--dataset-config-name", metavar="NAME")
    validation: str | None = option(
        "file to evaluate on [the validation split, else rows held out]",
        flags="--validation-file", metavar="FILE")
    test: str | None = option(
        "file for a last evaluation, with the best model [the test split]",
        flags="--test-file", metavar="FILE")
    predict: str | None = option("file to predict at the end: predictions.jsonl", metavar="FILE")
    validation_share: float = option(
        "share of the rows held out for evaluation [%(default)s]",
        0.1, fraction, metavar="SHARE")
    text_column: str | None = option("text, tokens or messages [found by its name]", metavar="NAME")
    pair_column: str | None = option("second text of a pair [found by its name]", metavar="NAME")
    label_column: str | None = option("label, number or tags [found by its name]", metavar="NAME")
    multi_label: bool = option("a row may have several labels, or none", False, bool)
    label_separator: str = option("between the labels of a row [%(default)s]", ",", metavar="TEXT")
    encoding: str | None = option("of text files [UTF-8, else detected]", metavar="NAME")
    delimiter: str | None = option("of CSV files [detected: comma, semicolon or tab]", metavar="TEXT")
    max_train_samples: int | None = option("rows to train on [all]", None, positive_int)
    max_eval_samples: int | None = option("rows to evaluate on [all]", None, positive_int)

    epochs: int = option("passes over the data [%(default)s]", 3, positive_int, flags="--num-train-epochs")
    max_steps: int | None = option("end after so many steps [not before the last epoch]", None, positive_int)
    batch_size: int = option(
        "rows per device and batch [%(default)s]",
        8, positive_int, flags="--per-device-train-batch-size")
    gradient_accumulation_steps: int = option("batches per optimizer step [%(default)s]", 1, positive_int)
    learning_rate: float | None = option(
        "peak learning rate [5e-5; 2e-4 with --lora]",
        None, positive_float, metavar="RATE")
    warmup: float = option(
        "share of the steps to warm up in [%(default)s]",
        0.1, fraction, flags="--warmup-ratio", metavar="SHARE")
    weight_decay: float = option("of AdamW [%(default)s]", 0.0, fraction, metavar="RATE")
    scheduler: str = option(
        "of the learning rate, e.g. linear, cosine [%(default)s]",
        "linear", flags="--lr-scheduler-type", metavar="NAME")
    optimizer: str = option("a name that Trainer knows [%(default)s]", "adamw_torch", flags="--optim", metavar="NAME")
    max_length: int | None = option(
        "tokens per text [what the model takes; 512, causal 1024 at most]",
        None, positive_int, flags="--max-seq-length")
    metric: str | None = option(
        "chooses the best checkpoint [f1, rmse or loss, by task]",
        flags="--metric-for-best-model", metavar="NAME")
    early_stopping: int | None = option(
        "end after so many evaluations without a better one",
        None, positive_int, flags="--early-stopping-patience")
    eval_every: int | None = option(
        "steps between evaluations and checkpoints [an epoch]",
        None, positive_int, flags="--eval-steps")
    log_every: int = option("steps between logged losses [%(default)s]", 10, positive_int, flags="--logging-steps")
    seed: int = option("of weights, order, dropout and held-out rows [%(default)s]", 0, int)

    packing: bool | None = option(
        "fill each row with as many texts as fit [yes for plain text, no for chats and pairs]",
        None, bool)
    loss_on_prompt: bool = option("learn the prompts too, not only the answers", False, bool)
    mask_share: float = option(
        "share of the tokens to mask [%(default)s]",
        0.15, fraction, flags="--mlm-probability", metavar="SHARE")

    lora: bool = option("train small adapters instead of all weights (peft)", False, bool, flags="--use-peft")
    lora_rank: int = option("[%(default)s]", 16, positive_int, flags="--lora-r")
    lora_alpha: int = option("[%(default)s]", 32, positive_int)
    lora_dropout: float = option("[%(default)s]", 0.05, fraction, metavar="SHARE")
    lora_targets: str = option(
        "names of modules, with commas [%(default)s]",
        "all-linear", flags="--lora-target-modules", metavar="NAMES")
    quantize: str | None = option("load the model in 8 or 4 bits (bitsandbytes), for --lora", choices=("8", "4"))
    merge: bool = option("also save the model with the adapters merged in, in merged/", False, bool)

    device: str = option("[%(default)s]", "auto", choices=("auto", "cpu", "cuda"))
    precision: str = option("arithmetic [%(default)s]", "fp32", choices=("fp32", "tf32", "bf16", "fp16"))
    gradient_checkpointing: bool = option("recompute activations to save memory", False, bool)
    compile: bool = option("train through torch.compile", False, bool, flags="--torch-compile")
    trust_remote_code: bool = option("run the code that a model or dataset brings", False, bool)

    output: str | None = option(
        "directory for everything that a run leaves [runs/TASK-DATA]",
        flags="--output-dir", metavar="DIR")
    overwrite: bool = option("remove an earlier run in --output first", False, bool, flags="--overwrite-output-dir")
    resume: bool = option("continue from the last checkpoint in --output, if any", False, bool)
    trust_checkpoint: bool = option("resume with torch < 2.6, which can run code hidden in a checkpoint", False, bool)
    report_to: str | None = option(
        "also log there; metrics.jsonl and TensorBoard are always written",
        choices=TRACKERS)
    push_to_hub: str | None = option(
        "upload the model to this repository at the end, private if new",
        flags="--hub-model-id", metavar="NAME")
    check: bool = option("check options and local data, train nothing", False, bool)
    # fmt: on


GROUPS = {
    "task": "model and data",
    "epochs": "training",
    "packing": "texts without labels, and chats (mlm, causal)",
    "lora": "adapters",
    "device": "hardware",
    "output": "output",
}
EPILOG = """finetune predict DIR TEXT …   answer with the model in DIR; `finetune predict --help`

  finetune --task classification --model bert-base-chinese --data reviews.csv
  finetune --task causal --model Qwen/Qwen2.5-0.5B --data chats.jsonl --lora --precision bf16
  torchrun --nproc-per-node 2 --no-python finetune …
  accelerate launch --config_file fsdp.yaml --no_python finetune …
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line, out of the fields of `Settings`."""
    parser = argparse.ArgumentParser(
        prog="finetune",
        usage="finetune --task TASK --model NAME --data NAME [OPTION …]",
        description="Fine-tune a model on your data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group: Any = parser
    for setting in fields(Settings):
        if setting.name in GROUPS:
            group = parser.add_argument_group(GROUPS[setting.name])
        add_option(group, setting)
    return parser


def add_option(group: Any, setting: Any) -> None:
    """One field as an option; a switch that is neither on nor off by default gets its opposite too."""
    name = setting.name.replace("_", "-")
    data = setting.metadata
    names = [f"--{name}", *data["flags"]]
    if data["kind"] is bool:
        group.add_argument(
            *names, action="store_true", default=setting.default, help=data["help"]
        )
        if setting.default is None:
            group.add_argument(
                f"--no-{name}",
                dest=setting.name,
                action="store_false",
                default=None,
                help=argparse.SUPPRESS,
            )
        return
    group.add_argument(
        *names,
        type=data["kind"],
        default=setting.default,
        choices=data["choices"],
        metavar=data["metavar"],
        required=setting.default == "",
        help=data["help"],
    )


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """The settings; ends with exit code 2 and one sentence if they contradict each other or this environment."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(explain_unknown(parser, unknown))
    settings = Settings(**vars(options))
    for problem in find_problems(settings):
        parser.error(problem)
    if settings.learning_rate is None:
        settings.learning_rate = 2e-4 if settings.lora else 5e-5
    if settings.metric is None:
        settings.metric = METRICS[settings.task][0]
    if settings.output is None:
        settings.output = default_output(settings)
    return settings


def default_output(settings: Settings) -> str:
    """`runs/classification-reviews`: a directory that Compose mounts, so that the results stay."""
    name = Path(settings.data.rstrip("/")).stem or "data"
    return f"runs/{settings.task}-{name}"


def find_problems(settings: Settings) -> Iterator[str]:
    """What is wrong with the options, one sentence each."""
    yield from find_task_problems(settings)
    if settings.quantize and not settings.lora:
        yield "--quantize needs --lora: weights of 8 or 4 bits are not trained, adapters are"
    if settings.merge and not settings.lora:
        yield "--merge needs --lora"
    if settings.merge and settings.quantize:
        yield "--merge cannot be combined with --quantize: load the adapters over the full model to merge them"
    if settings.resume and settings.overwrite:
        yield "--resume continues an earlier run and --overwrite removes it: give one of them"
    if settings.device == "cpu" and settings.precision in ("fp16", "tf32"):
        yield f"--precision {settings.precision} needs a GPU: use bf16 or fp32"
    if not 0 < settings.validation_share < 1:
        yield "--validation-share is a number between 0 and 1"
    yield from find_model_problems(settings)
    yield from find_missing_packages(settings)


def find_task_problems(settings: Settings) -> Iterator[str]:
    task, metrics = settings.task, METRICS[settings.task]
    if settings.metric and settings.metric not in metrics:
        yield f"--metric {settings.metric} is not measured for {task}: choose {', '.join(metrics)}"
    if settings.multi_label and task != "classification":
        yield "--multi-label is for --task classification"
    if settings.packing and task not in ("mlm", "causal"):
        yield "--packing is for --task mlm and causal"
    if settings.pair_column and task not in ("classification", "regression"):
        yield "--pair-column is for --task classification and regression"


def find_missing_packages(settings: Settings) -> Iterator[str]:
    """Packages that an option needs and this environment lacks."""
    needs = {
        "peft": ("--lora", settings.lora),
        "bitsandbytes": ("--quantize", bool(settings.quantize)),
        "evaluate": ("--task tokens", settings.task == "tokens"),
    }
    if settings.report_to:
        needs[settings.report_to] = (f"--report-to {settings.report_to}", True)
    needs["accelerate"] = ("the training", not settings.check)
    for package, (what, needed) in needs.items():
        if needed and find_spec(package) is None:
            yield (
                f"{what} needs the package {package}: `pip install {package}`, or add it to the image with "
                f"`envbuilder lock --package {package}`"
            )


def find_model_problems(settings: Settings) -> Iterator[str]:
    """What can be said of a model on this disk without loading it."""
    folder = Path(settings.model)
    if not folder.exists():
        if settings.model.startswith(("/", ".", "~")) or settings.model.count("/") > 1:
            yield f"no such directory: {settings.model} (inside a container only mounted paths exist)"
        return
    config = folder / "config.json"
    if not config.is_file():
        if (folder / "adapter_config.json").is_file():
            yield f"{settings.model} has adapters only: name the model that they were trained on"
        yield f"no model in {settings.model}: it has no config.json"
        return
    try:
        limit = json.loads(config.read_text(encoding="utf-8")).get(
            "max_position_embeddings"
        )
    except (ValueError, AttributeError):
        yield f"{config} is not a JSON object"
        return
    if isinstance(limit, int) and (settings.max_length or 0) > limit:
        yield f"--max-length {settings.max_length}: {settings.model} takes {limit} tokens at most"


def fail(message: str, hint: str = "", code: int = 2) -> NoReturn:
    """End with one sentence, as a wrong option does."""
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    raise SystemExit(code)
