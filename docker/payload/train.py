#!/usr/bin/env python3
"""Fine-tune BERT to tell good reviews from bad ones. Read it from top to bottom: it is all here.

    train [--epochs 4] [--output DIR] …

A small BERT with random weights learns the bundled reviews (reviews.py) in seconds, without a network: data, tokenizer,
model, optimiser, loop, evaluation, in the order in which they are needed.
"""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time


def interrupted(number, frame):
    """Ctrl-C and `docker stop` are one line and exit code 130."""
    os.write(2, b"interrupted\n")
    os._exit(130)  # no exception: one that is raised in a destructor is lost, and the job would go on


if __name__ == "__main__":  # before the imports below, which take seconds: as process 1 it would not even hear SIGTERM
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)

for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")  # before the imports below: nothing here needs a network

import torch  # noqa: E402
from datasets import Dataset, disable_progress_bar  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from tqdm import tqdm  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    get_linear_schedule_with_warmup,
)

from reviews import make_reviews, most, vocabulary  # noqa: E402

# --- knobs: settings that were measured to work, docs/decisions/0006-the-fine-tune.md ---------------------------------


def count(text):
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parse_settings(words=None):
    """The knobs, from the command line."""
    parser = argparse.ArgumentParser(prog="train", description="Fine-tune BERT on the bundled reviews.")
    parser.add_argument("--rows", type=count, default=2000, help="reviews to train on [%(default)s]")
    parser.add_argument("--held-out", type=count, default=500, help="reviews to evaluate on [%(default)s]")
    parser.add_argument("--epochs", type=count, default=4, help="passes over the data [%(default)s]")
    parser.add_argument("--batch", type=count, default=32, help="reviews in a step [%(default)s]")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="AdamW's, at its height [%(default)s]")
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the steps to warm up in [%(default)s]")
    parser.add_argument("--max-length", type=count, default=24, help="tokens in a review [%(default)s]")
    parser.add_argument("--layers", type=count, default=2, help="of the encoder [%(default)s]")
    parser.add_argument("--hidden", type=count, default=128, help="size of the encoder's states [%(default)s]")
    parser.add_argument("--heads", type=count, default=2, help="attention heads in a layer [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout [%(default)s]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="[%(default)s]")
    parser.add_argument("--output", metavar="DIR", help="where to leave model, tokenizer and metrics.json")
    settings = parser.parse_args(words)
    if settings.rows + settings.held_out > most():
        parser.error("--rows and --held-out: there are %d reviews in all" % most())
    if settings.hidden % settings.heads:
        parser.error("--hidden %d cannot be shared by --heads %d" % (settings.hidden, settings.heads))
    if settings.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is visible in here; `docker run --gpus all …` shows it one")
    return settings


# --- data ----------------------------------------------------------------------------------------------------------


def make_tokenizer(words=None):
    """A BERT tokenizer that knows the reviews' words."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.txt")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("".join(word + "\n" for word in words or vocabulary()))
        return BertTokenizer(path)  # the first argument: transformers 5 ignores `vocab_file=` without a word


def tokenize(reviews, tokenizer, max_length):
    """Reviews → a dataset of input_ids, attention_mask (max_length each) and labels. Unknown words are an error."""

    def encode(batch):
        return tokenizer(batch["text"], padding="max_length", truncation=True, max_length=max_length)

    columns = {name: [review[name] for review in reviews] for name in ("text", "label", "negated")}
    data = Dataset.from_dict(columns).map(encode, batched=True)
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in data["input_ids"])
    if unknown:
        raise ValueError("the tokenizer does not know %d of the reviews' words" % unknown)
    data = data.rename_column("label", "labels")
    data.set_format("torch", columns=["input_ids", "attention_mask", "labels"])
    return data


# --- model ---------------------------------------------------------------------------------------------------------


def make_model(settings, words):
    """A small BERT with a classifier on top, weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        vocab_size=words,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden * 4,
        max_position_embeddings=max(64, settings.max_length),
        num_labels=2,
        initializer_range=0.05,  # BERT's 0.02 is for wide layers; with it one seed in five sticks at counting words
    )
    return BertForSequenceClassification(config)


def pick_device(wanted):
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


# --- training ------------------------------------------------------------------------------------------------------


def train(model, data, settings, device, *, on_epoch=None, on_step=None):
    """AdamW with a linear schedule; returns the losses. Calls `on_epoch(number)`, `on_step(step, steps, loss)`."""
    order = torch.Generator().manual_seed(settings.seed)
    batches = DataLoader(data, batch_size=settings.batch, shuffle=True, generator=order)
    steps = len(batches) * settings.epochs
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=settings.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(steps * settings.warmup), steps)
    losses = []
    for epoch in range(settings.epochs):
        model.train()
        for batch in tqdm(batches, desc="epoch %d" % (epoch + 1), disable=None, leave=False):
            loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if on_step:
                on_step(len(losses), steps, losses[-1])
        if on_epoch:
            on_epoch(epoch + 1)
    return losses


@torch.no_grad()
def evaluate(model, data, negated, device, batch=256):
    """Accuracy on all of `data`, and on those of its rows that `negated` marks."""
    model.eval()
    right = []
    for rows in DataLoader(data, batch_size=batch):
        labels = rows.pop("labels")
        logits = model(**{name: value.to(device) for name, value in rows.items()}).logits
        right += (logits.argmax(-1).cpu() == labels).tolist()
    chosen = [good for good, turned in zip(right, negated) if turned]
    return sum(right) / len(right), sum(chosen) / max(1, len(chosen))


def peak_memory(device):
    """Bytes: of the GPU where there is one, else of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fine_tune(settings, say=str, on_step=None):
    """The whole job; returns what was measured, and the model and tokenizer with it."""
    if not sys.stderr.isatty():
        disable_progress_bar()
    device = pick_device(settings.device)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    say("device: %s, %d threads" % (name, torch.get_num_threads()))
    rows, held_out = make_reviews(settings.rows, settings.held_out)
    tokenizer = make_tokenizer()
    train_data = tokenize(rows, tokenizer, settings.max_length)
    test_data = tokenize(held_out, tokenizer, settings.max_length)
    negated = [review["negated"] for review in held_out]
    model = make_model(settings, len(tokenizer)).to(device)
    epochs = []

    def on_epoch(number):
        overall, on_negated = evaluate(model, test_data, negated, device)
        epochs.append({"epoch": number, "accuracy": overall, "negated": on_negated})
        say("epoch %d: accuracy %.3f on held-out reviews, %.3f on the negated ones" % (number, overall, on_negated))

    started = time.monotonic()
    losses = train(model, train_data, settings, device, on_epoch=on_epoch, on_step=on_step)
    seconds = time.monotonic() - started
    measured = {
        "accuracy": epochs[-1]["accuracy"],
        "negated": epochs[-1]["negated"],
        "loss": sum(losses[-10:]) / len(losses[-10:]),
        "losses": [round(loss, 5) for loss in losses],
        "epochs": epochs,
        "steps": len(losses),
        "seconds": round(seconds, 2),
        "samples_per_second": round(settings.rows * settings.epochs / seconds, 1),
        "peak_memory_bytes": peak_memory(device),
        "tokens": settings.max_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": name,
        "seed": settings.seed,
    }
    return measured, model, tokenizer


# --- the command ---------------------------------------------------------------------------------------------------


def save(folder, measured, model, tokenizer):
    """Model (safetensors), tokenizer and metrics.json."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as stream:
        json.dump(measured, stream, indent=1)


def main():
    settings = parse_settings()
    try:
        if settings.output:
            os.makedirs(settings.output, exist_ok=True)
        measured, model, tokenizer = fine_tune(settings, say=lambda text: print(text, flush=True))
        if settings.output:
            save(settings.output, measured, model, tokenizer)
    except OSError as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    print("%(steps)d steps in %(seconds).1f s, %(samples_per_second).0f reviews a second, loss %(loss).4f" % measured)
    if settings.output:
        print("model, tokenizer and metrics.json: %s" % settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
