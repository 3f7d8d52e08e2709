#!/usr/bin/env python3
"""Fine-tune BERT to tell texts apart. Read it from top to bottom: data, tokenizer, model, loop, evaluation, in the
order in which they are needed. Beside it: options.py (the knobs), data.py (where texts come from), checkpoints.py,
outputs.py (metrics, picture, page), predict.py.

    train                                                     the bundled reviews, in seconds, without a network
    train --model bert-base-uncased --data imdb --output runs/imdb      the guide's job
"""

import copy
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext

from options import BUNDLED, parse_settings

STOP = {"asked": False, "may_wait": False}


def interrupted(number, frame):
    """Ctrl-C and `docker stop`: a run that can save its work does so at its next step, any other ends here."""
    if STOP["may_wait"] and not STOP["asked"]:
        STOP["asked"] = True
        os.write(2, b"interrupted: saving; once more ends it at once\n")
        return
    os.write(2, b"interrupted\n")
    os._exit(130)  # no exception: one that is raised in a destructor is lost, and the job would go on


if __name__ == "__main__":  # before the imports below, which take seconds: as process 1 it would not even hear SIGTERM
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    SETTINGS = parse_settings()
    LOCAL = all(name == BUNDLED or os.path.exists(name) for name in (SETTINGS.model, SETTINGS.data))
else:
    LOCAL = True

for _name in ("HF_HUB_DISABLE_TELEMETRY", *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE") * LOCAL):
    os.environ.setdefault(_name, "1")  # before the imports below: what is on the disk needs no network

import torch  # noqa: E402
from datasets import disable_progress_bar  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from tqdm import tqdm  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

import checkpoints  # noqa: E402
from data import DataError, load_data, reason  # noqa: E402
from outputs import Metrics, draw, write_page  # noqa: E402
from reviews import vocabulary  # noqa: E402

if not sys.stderr.isatty():
    disable_progress_bar()


class JobError(Exception):
    """The job cannot be done, and why, in a line; `hint` says what to change."""

    def __init__(self, message, hint=""):
        super().__init__(message)
        self.hint = hint


# --- tokenizer and data --------------------------------------------------------------------------------------------


def make_tokenizer(words=None):
    """A BERT tokenizer that knows the bundled reviews' words."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.txt")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("".join(word + "\n" for word in words or vocabulary()))
        return BertTokenizer(path)  # the first argument: transformers 5 ignores `vocab_file=` without a word


def tokenize(data, tokenizer, settings):
    """Texts → input_ids, attention_mask and labels, with --padding max all of --max-length."""
    padding = "max_length" if settings.padding == "max" else False

    def encode(rows):
        return tokenizer(rows["text"], padding=padding, truncation=True, max_length=settings.max_length)

    data = data.map(encode, batched=True, load_from_cache_file=False, desc="tokenizing")
    if settings.model == BUNDLED:
        unknown = sum(ids.count(tokenizer.unk_token_id) for ids in data["input_ids"])
        if unknown:
            raise ValueError("the tokenizer does not know %d of the reviews' words" % unknown)
    data = data.rename_column("label", "labels")
    data.set_format("torch", columns=["input_ids", "attention_mask", "labels"])
    return data


class ByLength:
    """Batches of texts of similar length, in random order: little padding, and every text once an epoch.

    Sorts within pools of fifty batches, as transformers' LengthGroupedSampler does, which draws from one seed only.
    """

    def __init__(self, lengths, batch, generator):
        self.lengths, self.batch, self.generator = lengths, batch, generator

    def __len__(self):
        return (len(self.lengths) + self.batch - 1) // self.batch

    def __iter__(self):
        order = torch.randperm(len(self.lengths), generator=self.generator).tolist()
        pool = self.batch * 50
        batches = []
        for start in range(0, len(order), pool):
            part = sorted(order[start : start + pool], key=lambda row: self.lengths[row])
            batches += [part[first : first + self.batch] for first in range(0, len(part), self.batch)]
        for number in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[number]


def make_batches(data, settings, order, tokenizer=None):
    """The training data in batches, in the order that the generator `order` gives."""
    if settings.padding == "max":
        return DataLoader(data, batch_size=settings.batch, shuffle=True, generator=order)
    lengths = [len(ids) for ids in data["input_ids"]]
    return DataLoader(
        data,
        batch_sampler=ByLength(lengths, settings.batch, order),
        collate_fn=DataCollatorWithPadding(tokenizer),
        generator=order,
    )


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
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        initializer_range=0.05,  # BERT's 0.02 is for wide layers; with it one seed in five sticks at counting words
    )
    return BertForSequenceClassification(config)


def load_model(settings, names):
    """The model and its tokenizer: the bundled one, or a pretrained one with a new classifier for the labels."""
    if settings.model == BUNDLED:
        tokenizer = make_tokenizer()
        return make_model(settings, len(tokenizer)), tokenizer
    torch.manual_seed(settings.seed)
    try:
        tokenizer = BertTokenizer.from_pretrained(settings.model)
        model = BertForSequenceClassification.from_pretrained(
            settings.model,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError(
            "the model %s cannot be had: %s" % (settings.model, reason(error)),
            "a hub or a mirror (HF_ENDPOINT) must be reachable, or give a folder that holds the model",
        ) from error
    most = model.config.max_position_embeddings
    if settings.max_length > most:
        raise JobError("--max-length %d is more than the %d that this model takes" % (settings.max_length, most))
    return model, tokenizer


# --- training ------------------------------------------------------------------------------------------------------


def pick_device(settings):
    """ "cuda" or "cpu"; raises `JobError` for what this machine or this torch cannot do."""
    seen = torch.cuda.is_available()
    device = "cuda" if seen and settings.device != "cpu" else "cpu"
    if settings.device == "cuda" and not seen:
        raise JobError("no GPU is visible in here", "`docker run --gpus all …` shows it one")
    if settings.precision in ("fp16", "tf32") and device == "cpu":
        raise JobError("--precision %s needs a GPU" % settings.precision, "a CPU has bf16")
    if settings.precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise JobError("this GPU has no bf16", "use --precision fp16")
    return device


def train(model, data, settings, device, *, tokenizer=None, run=None):
    """AdamW with a linear schedule; returns the loss of every batch. `run` is told of steps and epochs."""
    run = run or Run()
    order = torch.Generator().manual_seed(settings.seed)
    batches = make_batches(data, settings, order, tokenizer)
    steps = (len(batches) + settings.accumulate - 1) // settings.accumulate * settings.epochs
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=settings.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(steps * settings.warmup), steps)
    scaler = make_scaler(settings)
    losses = run.begin(model, optimizer, schedule, order, len(batches) * settings.epochs)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    for epoch in range(len(losses) // len(batches), settings.epochs):
        model.train()
        run.begin_epoch(order)
        skip = len(losses) - epoch * len(batches)
        for number, batch in enumerate(tqdm(batches, desc="epoch %d" % (epoch + 1), disable=None, leave=False), 1):
            if number <= skip:  # it was trained on before the run was interrupted
                continue
            with precision(settings, device):
                loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            scaler.scale(loss / settings.accumulate).backward()
            losses.append(loss.item())
            if number % settings.accumulate == 0 or number == len(batches):
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                optimizer.zero_grad()
                run.end_step(losses)
        run.end_epoch(epoch + 1, losses)
    return losses


def precision(settings, device):
    """Where to compute in: 16 bits where that is safe (torch.autocast), 32 elsewhere."""
    if settings.precision in ("bf16", "fp16"):
        return torch.autocast(device, dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float16)
    torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    return nullcontext()


def make_scaler(settings):
    """Keeps the small gradients of fp16 from vanishing; does nothing for the others."""
    scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
    return scaler(enabled=settings.precision == "fp16")


class Run:
    """What is done beside the training: nothing. `Recorded` writes down what happens and keeps checkpoints."""

    def begin(self, model, optimizer, schedule, order, steps):
        """Called before the first step; returns the losses so far, which are some where a run goes on."""
        return []

    def begin_epoch(self, order):
        """Called before the batches of an epoch are drawn from `order`."""

    def end_step(self, losses):
        """Called after each step."""

    def end_epoch(self, number, losses):
        """Called after each epoch, whose numbers start at 1."""


@torch.no_grad()
def evaluate(model, data, device, *, negated=(), tokenizer=None, batch=256):
    """Accuracy on all of `data`, and on those of its rows that `negated` marks."""
    model.eval()
    right = []
    for rows in DataLoader(
        data, batch_size=batch, collate_fn=DataCollatorWithPadding(tokenizer) if tokenizer else None
    ):
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


class Recorded(Run):
    """Evaluates after each epoch, says how it went, and with a folder keeps metrics and checkpoints there."""

    SAME = tuple("model data rows seed epochs batch accumulate learning_rate warmup max_length padding".split())

    def __init__(self, settings, score, say, on_step=None):
        self.settings, self.score, self.say, self.on_step = settings, score, say, on_step
        self.epochs, self.metrics, self.saved, self.before, self.steps = [], None, 0, 0, 0
        self.between = 0.0  # seconds in which nothing was trained: evaluation and checkpoints after the epochs

    def begin(self, model, optimizer, schedule, order, steps):
        self.parts, self.schedule, self.order, self.steps = (model, optimizer, schedule), schedule, order, steps
        self.order_state, losses, folder = order.get_state(), [], self.settings.output
        if self.settings.resume and checkpoints.numbers(folder):
            state = checkpoints.load(folder, self.parts, self.same())
            losses, self.epochs = state["losses"], state["epochs"]
            order.set_state(torch.tensor(state["order"], dtype=torch.uint8))
            self.saved = self.before = len(losses)
            self.say("going on after batch %d of %d" % (len(losses), steps))
        if folder:
            self.metrics = Metrics(folder, going_on=bool(losses))
        STOP["may_wait"] = bool(folder)
        return losses

    def same(self):
        return {name: getattr(self.settings, name) for name in self.SAME}

    def begin_epoch(self, order):
        self.order_state = order.get_state()

    def end_step(self, losses):
        if self.on_step:
            self.on_step(len(losses), self.steps, losses[-1])
        if self.metrics:
            self.metrics.add(len(losses), loss=losses[-1], learning_rate=self.schedule.get_last_lr()[0])
        if STOP["asked"] or len(losses) - self.saved >= (self.settings.save_every or float("inf")):
            self.save(losses)
        if STOP["asked"]:
            self.say("saved after batch %d: go on with `--resume`" % len(losses))
            self.metrics.close()
            sys.exit(130)

    def end_epoch(self, number, losses):
        started = time.monotonic()
        overall, on_negated = self.score()
        self.epochs.append({"epoch": number, "accuracy": overall, "negated": on_negated})
        rest = "" if self.settings.data != BUNDLED else ", %.3f on the negated ones" % on_negated
        self.say("epoch %d: accuracy %.3f on held-out texts%s" % (number, overall, rest))
        if self.metrics:
            self.metrics.add(len(losses), accuracy=overall)
            self.order_state = self.order.get_state()  # the next epoch is drawn from here
            self.save(losses)
        self.between += time.monotonic() - started

    def save(self, losses):
        """A checkpoint, if there is a folder and there is none of this step."""
        if self.settings.output and len(losses) > self.saved:
            state = {"same": self.same(), "losses": losses, "epochs": self.epochs}
            state["order"] = self.order_state.tolist()
            checkpoints.save(self.settings.output, len(losses), self.parts, state)
            self.saved = len(losses)


def fine_tune(settings, say=str, on_step=None):
    """The whole job; returns what was measured, and the model and tokenizer with it."""
    device = pick_device(settings)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    say("device: %s, %d threads" % (name, torch.get_num_threads()))
    rows, held_out, names = load_data(settings)
    model, tokenizer = load_model(settings, names)
    train_data, test_data = (tokenize(part, tokenizer, settings) for part in (rows, held_out))
    negated = held_out["negated"] if "negated" in held_out.column_names else []
    model.to(device)

    def score(one, where="cpu"):
        return evaluate(one, test_data, where, negated=negated, tokenizer=tokenizer, batch=4 * settings.batch)

    run = Recorded(settings, lambda: score(model, device), say, on_step)
    started = time.monotonic()
    losses = train(model, train_data, settings, device, tokenizer=tokenizer, run=run)
    seconds = time.monotonic() - started
    trained = settings.epochs * len(train_data) * (1 - run.before / len(losses))
    STOP["may_wait"] = False
    measured = {
        "accuracy": run.epochs[-1]["accuracy"],
        "negated": run.epochs[-1]["negated"],
        "loss": sum(losses[-10:]) / len(losses[-10:]),
        "losses": [round(loss, 5) for loss in losses],
        "epochs": run.epochs,
        "steps": len(losses),
        "seconds": round(seconds, 2),
        "samples_per_second": round(trained / (seconds - run.between), 2),
        "peak_memory_bytes": peak_memory(device),
        "tokens": settings.max_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": name,
        "seed": settings.seed,
    }
    if settings.quantize:
        measured["quantized"] = quantize(model, score)
        say("quantized: %(share).2f of the size, accuracy %(accuracy).3f" % measured["quantized"])
    return measured, model, tokenizer


def quantize(model, score):
    """The model with 8-bit weights in its linear layers: {"bytes", "share" of the model's, "accuracy", "negated"}."""
    library = getattr(torch, "ao", torch).quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a successor that BERT does not need yet
        small = library.quantize_dynamic(copy.deepcopy(model).cpu().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    sizes = []
    for one in (model, small):
        stream = io.BytesIO()
        torch.save(one.state_dict(), stream)
        sizes.append(stream.tell())
    accuracy, negated = score(small)
    return {"bytes": sizes[1], "share": round(sizes[1] / sizes[0], 3), "accuracy": accuracy, "negated": negated}


# --- the command ---------------------------------------------------------------------------------------------------


def save(folder, measured, model, tokenizer):
    """Model (safetensors), tokenizer and metrics.json."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as stream:
        json.dump(measured, stream, indent=1)


def explain(error):
    """An error as a line for a person, and what to change."""
    text = str(error)
    if "out of memory" in text or "can't allocate memory" in text:
        hint = "halve --batch, or shorten --max-length; on a GPU, see who else uses it: `nvidia-smi`"
        return "out of memory: %s" % text.split("\n", maxsplit=1)[0][:200], hint
    return text, getattr(error, "hint", "")


def main(settings):
    known = (JobError, DataError, checkpoints.CheckpointError, OSError)
    try:
        if settings.output:
            os.makedirs(settings.output, exist_ok=True)
        measured, model, tokenizer = fine_tune(settings, say=lambda text: print(text, flush=True))
        if settings.output:
            save(settings.output, measured, model, tokenizer)
            draw(settings.output)
            write_page(settings.output, measured, vars(settings))
    except Exception as error:
        message, hint = explain(error)
        if not isinstance(error, known) and not message.startswith("out of memory"):
            raise
        print("error: %s" % message, file=sys.stderr)
        if hint:
            print("hint: %s" % hint, file=sys.stderr)
        return 1
    print("%(steps)d steps in %(seconds).1f s, %(samples_per_second).0f texts a second, loss %(loss).4f" % measured)
    if settings.output:
        print("model, metrics, learning-curve.png and report.html: %s" % settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(SETTINGS))
