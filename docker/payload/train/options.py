"""The options of `train`. Nothing heavy is imported here: `train --help` answers at once.

python train/options.py OPTIONS    validate options; exits with 2 as `train` does, but before torchrun starts it
"""

from __future__ import annotations

import argparse
import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from train.reviews import max_reviews

BUNDLED = "bundled"


@dataclass
class Settings:
    """What `train` was asked to do; each field is an option of the same name."""

    model: str
    data: str
    test_data: str | None
    text_column: str | None
    label_column: str | None
    max_train_samples: int | None
    max_eval_samples: int | None
    epochs: int
    batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    warmup: float
    max_length: int
    pad_to_max_length: bool
    dropout: float | None
    seed: int
    pretrain: int | None
    pretrain_rows: int | None
    num_layers: int
    hidden_size: int
    num_heads: int
    device: str
    precision: str
    gradient_checkpointing: bool
    compile: bool
    parallel: str | None
    micro_batches: int
    stages: int | None
    output: str | None
    save_every: int | None
    resume: bool
    quantize: bool


@dataclass(frozen=True)
class Defaults:
    """Defaults that depend on the model."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    max_length: int
    pad_to_max_length: bool


# Measured to work for the small bundled model: docs/decisions/0006-the-fine-tune.md.
SMALL = Defaults(
    epochs=4,
    batch_size=32,
    learning_rate=1e-3,
    warmup=0.1,
    max_length=24,
    pad_to_max_length=True,
)
# Those of the guide, for any other model.
GUIDE = Defaults(
    epochs=3,
    batch_size=8,
    learning_rate=5e-5,
    warmup=0.0,
    max_length=512,
    pad_to_max_length=False,
)


def positive_int(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def positive_float(text: str) -> float:
    """A finite number above 0."""
    number = _to_float(text)
    if number is None or not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    number = _to_float(text)
    if number is None or not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number


def _to_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """The settings; an option that is not given has its measured default for the bundled model, or the guide's."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(explain_unknown(parser, unknown))
    problem = find_problem(options)
    if problem:
        parser.error(problem)
    set_defaults(options)
    limit = max_reviews()
    if (
        options.data == BUNDLED
        and options.max_train_samples + options.max_eval_samples > limit
    ):
        parser.error(
            f"--max-train-samples and --max-eval-samples: there are only {limit} bundled reviews"
        )
    del options.padding
    return Settings(**vars(options))


def explain_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """argparse's own words for arguments that it does not know, and the nearest option."""
    message = f"unrecognized arguments: {' '.join(unknown)}"
    names: list[str] = []
    for action in parser._actions:
        names.extend(action.option_strings)
    word = unknown[0].split("=", maxsplit=1)[0]
    close = difflib.get_close_matches(word, names, n=1)
    if not close:
        return message
    return f"{message} (did you mean {close[0]}?)"


def set_defaults(options: argparse.Namespace) -> None:
    """Fill in the defaults that depend on other options."""
    if options.padding is not None:
        options.pad_to_max_length = options.padding == "max"
    defaults = SMALL if options.model == BUNDLED else GUIDE
    for name, value in vars(defaults).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.data == BUNDLED:
        options.max_train_samples = options.max_train_samples or 2000
        options.max_eval_samples = options.max_eval_samples or 500
        if options.pretrain:
            options.pretrain_rows = options.pretrain_rows or 4000


def make_parser() -> argparse.ArgumentParser:
    """The command line. Where Hugging Face's Trainer has an option that means the same, its name is accepted too."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Fine-tune BERT for text classification: on the bundled reviews in seconds, or on your own data.",
        epilog="The guide's job:\n  train --model bert-base-uncased --data imdb --pad-to-max-length --output runs/imdb",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_options(parser.add_argument_group("model and data"))
    add_training_options(
        parser.add_argument_group("training (defaults: [bundled model, other models])")
    )
    add_pretraining_options(
        parser.add_argument_group("pre-training, on the texts without their labels")
    )
    add_bundled_model_options(parser.add_argument_group("size of the bundled model"))
    add_hardware_options(parser.add_argument_group("hardware"))
    add_parallel_options(parser.add_argument_group("several processes or devices"))
    add_output_options(parser.add_argument_group("output"))
    return parser


def add_data_options(group: Any) -> None:
    group.add_argument(
        "--model",
        "--model-name-or-path",
        default=BUNDLED,
        metavar="NAME",
        help="hub model or directory [%(default)s]",
    )
    group.add_argument(
        "--data",
        "--dataset-name",
        default=BUNDLED,
        metavar="NAME",
        help="hub dataset, directory, or CSV, JSON lines or Parquet file [%(default)s]",
    )
    group.add_argument(
        "--test-data",
        metavar="FILE",
        help="data to evaluate on [the test split, else rows held out of --data]",
    )
    group.add_argument(
        "--text-column",
        "--text-column-name",
        metavar="NAME",
        help="[text, sentence, review or content]",
    )
    group.add_argument(
        "--label-column",
        "--label-column-name",
        metavar="NAME",
        help="[label, labels, sentiment or target]",
    )
    group.add_argument(
        "--max-train-samples",
        "--rows",
        type=positive_int,
        metavar="N",
        help="rows to train on [2000 bundled, else all]",
    )
    group.add_argument(
        "--max-eval-samples",
        "--held-out",
        type=positive_int,
        metavar="N",
        help="rows to evaluate on [500, or the whole test split]",
    )


def add_training_options(group: Any) -> None:
    group.add_argument(
        "--epochs",
        "--num-train-epochs",
        type=positive_int,
        metavar="N",
        help="passes over the data [4, 3]",
    )
    group.add_argument(
        "--batch-size",
        "--batch",
        type=positive_int,
        metavar="N",
        help="global batch size, of all processes [32, 8]",
    )
    group.add_argument(
        "--gradient-accumulation-steps",
        "--accumulate",
        type=positive_int,
        default=1,
        metavar="N",
        help="batches per optimizer step [%(default)s]",
    )
    group.add_argument(
        "--learning-rate",
        type=positive_float,
        metavar="RATE",
        help="peak AdamW learning rate [1e-3, 5e-5]",
    )
    group.add_argument(
        "--warmup",
        "--warmup-ratio",
        type=fraction,
        metavar="SHARE",
        help="share of the steps to warm up in [0.1, 0]",
    )
    group.add_argument(
        "--max-length",
        "--max-seq-length",
        type=positive_int,
        metavar="N",
        help="tokens per text [24, 512]",
    )
    group.add_argument(
        "--pad-to-max-length",
        action="store_true",
        default=None,
        help="pad every text to --max-length [yes, no: batch texts of similar length, padded to their longest]",
    )
    group.add_argument(
        "--no-pad-to-max-length",
        dest="pad_to_max_length",
        action="store_false",
        default=None,
    )
    group.add_argument(
        "--padding", choices=["longest", "max"], help=argparse.SUPPRESS
    )  # the old name of the two above
    group.add_argument(
        "--dropout",
        type=fraction,
        metavar="SHARE",
        help="dropout probability [the model's own]",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of weights, order and dropout [%(default)s]",
    )


def add_pretraining_options(group: Any) -> None:
    group.add_argument(
        "--pretrain",
        type=positive_int,
        metavar="EPOCHS",
        help="first learn to predict masked words and whether one sentence follows another",
    )
    group.add_argument(
        "--pretrain-rows",
        type=positive_int,
        metavar="N",
        help="texts to use [4000 bundled, else all of --data]",
    )


def add_bundled_model_options(group: Any) -> None:
    group.add_argument(
        "--num-layers",
        "--layers",
        type=positive_int,
        default=2,
        metavar="N",
        help="encoder layers [%(default)s]",
    )
    group.add_argument(
        "--hidden-size",
        "--hidden",
        type=positive_int,
        default=128,
        metavar="N",
        help="width of the encoder [%(default)s]",
    )
    group.add_argument(
        "--num-heads",
        "--heads",
        type=positive_int,
        default=2,
        metavar="N",
        help="attention heads per layer [%(default)s]",
    )


def add_hardware_options(group: Any) -> None:
    group.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="[%(default)s]",
    )
    group.add_argument(
        "--precision",
        choices=["fp32", "tf32", "bf16", "fp16"],
        default="fp32",
        help="arithmetic [%(default)s]",
    )
    group.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="recompute activations to save memory",
    )
    group.add_argument(
        "--compile",
        "--torch-compile",
        action="store_true",
        help="train through torch.compile (slow first steps)",
    )


def add_parallel_options(group: Any) -> None:
    group.add_argument(
        "--parallel",
        choices=["ddp", "fsdp", "model", "pipeline"],
        help="ddp: each process has the whole model and a share of each batch; fsdp: and only a share of the weights; "
        "model, pipeline: each has some of the layers [ddp under torchrun]",
    )
    group.add_argument(
        "--micro-batches",
        type=positive_int,
        default=4,
        metavar="N",
        help="parts of a batch in a pipeline [%(default)s, at least one per stage]",
    )
    group.add_argument(
        "--stages",
        type=positive_int,
        metavar="N",
        help="devices for model or pipeline parallelism in one process [all GPUs, or 2 on a CPU]",
    )


def add_output_options(group: Any) -> None:
    group.add_argument(
        "--output",
        "--output-dir",
        metavar="DIR",
        help="directory for model, tokenizer, metrics, plot and report; several nodes must share it",
    )
    group.add_argument(
        "--save-every",
        type=positive_int,
        metavar="BATCHES",
        help="batches between two checkpoints [one epoch]",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint in --output, if any [start over and delete old checkpoints]",
    )
    group.add_argument(
        "--quantize",
        action="store_true",
        help="also evaluate the model with 8-bit weights",
    )


def find_problem(options: argparse.Namespace) -> str | None:
    """Options that contradict each other; None if there are none."""
    custom_data = options.test_data or options.text_column or options.label_column
    if options.hidden_size % options.num_heads:
        return f"--hidden-size {options.hidden_size} is not divisible by --num-heads {options.num_heads}"
    if options.resume and not options.output:
        return "--resume needs --output, the directory with the checkpoints"
    if options.model == BUNDLED and options.data != BUNDLED:
        return "--data needs --model: the bundled model only knows the words of the bundled reviews"
    if options.data == BUNDLED and custom_data:
        return "--test-data, --text-column and --label-column need --data: they are for your own data"
    return find_pretraining_problem(options)


def find_pretraining_problem(options: argparse.Namespace) -> str | None:
    """The same for --pretrain and the options that belong to it."""
    if options.pretrain_rows and not options.pretrain:
        return "--pretrain-rows needs --pretrain EPOCHS"
    # Two halves of a text, and three special tokens around them.
    max_length = options.max_length
    too_short = max_length is not None and max_length < 8
    if options.pretrain and too_short:
        return "--pretrain needs --max-length 8 or more"
    return None


if __name__ == "__main__":
    parse_settings()
