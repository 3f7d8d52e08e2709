"""The knobs of `train`, from the command line. Nothing heavy is imported here: `train --help` answers at once.

python train/options.py OPTIONS    are these right? Ends with 2 if not, as `train` does, but before torchrun starts it
"""

import argparse
import os
import sys

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from train.reviews import most

BUNDLED = "bundled"
# What was measured to work for the small bundled model (docs/decisions/0006-the-fine-tune.md), and the guide's numbers.
SMALL = {"epochs": 4, "batch": 32, "learning_rate": 1e-3, "warmup": 0.1, "max_length": 24, "padding": "max"}
GUIDE = {"epochs": 3, "batch": 8, "learning_rate": 5e-5, "warmup": 0.0, "max_length": 512, "padding": "longest"}


def count(text):
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def positive(text):
    """A number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def share(text):
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(text)
    return number


def parse_settings(words=None):
    """The knobs. Where a number is not given it is the measured one for the bundled model, the guide's for another."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Fine-tune BERT to classify texts: on the bundled reviews in seconds, or on data of your own.",
        epilog="The guide's job: train --model bert-base-uncased --data imdb --padding max --output runs/imdb",
    )
    add_what_to_learn(parser)
    add_where_and_what_to_leave(parser)
    settings = parser.parse_args(words)
    problem = find_problem(settings)
    if problem:
        parser.error(problem)
    for name, value in (SMALL if settings.model == BUNDLED else GUIDE).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    if settings.data == BUNDLED:
        settings.rows, settings.held_out = settings.rows or 2000, settings.held_out or 500
        if settings.rows + settings.held_out > most():
            parser.error("--rows and --held-out: there are %d reviews in all" % most())
        if settings.pretrain:
            settings.pretrain_rows = settings.pretrain_rows or 4000
    return settings


def add_what_to_learn(parser):
    what = parser.add_argument_group("what to train")
    what.add_argument("--model", default=BUNDLED, metavar="NAME", help="a hub's name, a folder, or [%(default)s]")
    what.add_argument(
        "--data", default=BUNDLED, metavar="NAME", help="a hub's name, a folder, a CSV, JSON lines or Parquet file"
    )
    what.add_argument("--test-data", metavar="FILE", help="what to evaluate on [the test split, or some rows held out]")
    what.add_argument("--text-column", metavar="NAME", help="[text, sentence, review or content]")
    what.add_argument("--label-column", metavar="NAME", help="[label, labels, sentiment or target]")
    what.add_argument("--rows", type=count, help="rows to train on [2000 of the bundled, else all]")
    what.add_argument("--held-out", type=count, help="rows to evaluate on [500, or all of a test split]")
    how = parser.add_argument_group("how to train; the defaults are for the bundled model, then for others")
    how.add_argument("--epochs", type=count, help="passes over the data [4, 3]")
    how.add_argument("--batch", type=count, help="rows in a step, of all processes together [32, 8]")
    how.add_argument("--accumulate", type=count, default=1, help="batches whose gradients make a step [%(default)s]")
    how.add_argument("--learning-rate", type=positive, help="AdamW's, at its height [1e-3, 5e-5]")
    how.add_argument("--warmup", type=share, help="share of the steps to warm up in [0.1, 0]")
    how.add_argument("--max-length", type=count, help="tokens of a text [24, 512]")
    how.add_argument(
        "--padding",
        choices=["longest", "max"],
        help="longest: batches of texts of similar length, padded to their longest; max: all to --max-length "
        "[max for the bundled model, else longest]",
    )
    how.add_argument("--dropout", type=share, help="share of the activations to drop out [the model's own]")
    how.add_argument("--seed", type=int, default=0, help="of weights, order and dropout [%(default)s]")
    before = parser.add_argument_group("what to do before, on texts without their labels")
    before.add_argument(
        "--pretrain",
        type=count,
        metavar="EPOCHS",
        help="first learn to guess masked words and whether one sentence follows another",
    )
    before.add_argument(
        "--pretrain-rows", type=count, metavar="ROWS", help="texts for that [4000 bundled ones, else all of --data]"
    )
    small = parser.add_argument_group("the bundled model")
    small.add_argument("--layers", type=count, default=2, help="of the encoder [%(default)s]")
    small.add_argument("--hidden", type=count, default=128, help="size of the encoder's states [%(default)s]")
    small.add_argument("--heads", type=count, default=2, help="attention heads in a layer [%(default)s]")


def add_where_and_what_to_leave(parser):
    where = parser.add_argument_group("what the machine does")
    where.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="[%(default)s]")
    where.add_argument(
        "--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="fp32", help="of the arithmetic [%(default)s]"
    )
    where.add_argument(
        "--gradient-checkpointing", action="store_true", help="compute activations twice rather than keep them"
    )
    several = parser.add_argument_group("several processes or devices")
    several.add_argument(
        "--parallel",
        choices=["ddp", "fsdp", "model", "pipeline"],
        help="ddp: each process has the model and a share of each batch; fsdp: and of the model only a share; model, "
        "pipeline: each has some of the layers [ddp, under torchrun]",
    )
    several.add_argument(
        "--micro-batches", type=count, default=4, help="parts of a batch in a pipeline [%(default)s, or one a stage]"
    )
    several.add_argument("--stages", type=count, help="devices to share the layers, where one process does [all, 2]")
    where.add_argument(
        "--compile", action="store_true", help="train through torch.compile, which takes its time at first"
    )
    after = parser.add_argument_group("what to leave")
    after.add_argument(
        "--output",
        metavar="DIR",
        help="where to leave model, tokenizer, metrics, picture and report; one folder that all nodes see",
    )
    after.add_argument("--save-every", type=count, metavar="BATCHES", help="checkpoint so often [each epoch]")
    after.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in --output, if any [begin anew, and remove those that are there]",
    )
    after.add_argument("--quantize", action="store_true", help="also measure the model with 8-bit weights")


def find_problem(settings):
    """What about the settings cannot be, as far as the command line tells; None if nothing."""
    if settings.hidden % settings.heads:
        return "--hidden %d cannot be shared by --heads %d" % (settings.hidden, settings.heads)
    if settings.resume and not settings.output:
        return "--resume needs --output, where the checkpoints are"
    if settings.model == BUNDLED and settings.data != BUNDLED:
        return "--data needs --model: the bundled model knows the words of the bundled reviews only"
    if settings.data == BUNDLED and (settings.test_data or settings.text_column or settings.label_column):
        return "--test-data, --text-column and --label-column are for data of your own: give --data"
    return find_pretraining_problem(settings)


def find_pretraining_problem(settings):
    """The same for --pretrain and what belongs to it."""
    if settings.pretrain_rows and not settings.pretrain:
        return "--pretrain-rows needs --pretrain EPOCHS"
    if settings.pretrain and settings.max_length is not None and settings.max_length < 8:
        return "--pretrain needs --max-length 8 or more: two halves of a text, and three tokens around them"
    return None


if __name__ == "__main__":
    parse_settings()
