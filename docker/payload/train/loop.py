"""The training loop and the evaluation.

transformers' Trainer does this too. Written out, the acceptance suite can hold each step against a reference, and a
resumed or distributed run against one that was neither.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ContextManager, List, Sequence

import torch
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_accuracy
from tqdm import tqdm
from transformers import (
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

from train.compiling import compile_model, padding_multiple
from train.interrupts import STOP
from train.options import Settings
from train.parallel import SingleProcess
from train.record import Callbacks

if TYPE_CHECKING:
    from datasets import Dataset

Batches = List[List[int]]  # the row numbers of each batch

# Without --pad-to-max-length, rows are sorted by length within pools of so many batches, as transformers'
# LengthGroupedSampler does.
POOL_BATCHES = 50


def train(
    model: Any,
    data: Dataset,
    settings: Settings,
    device: str,
    *,
    tokenizer: Any = None,
    callbacks: Callbacks | None = None,
    team: SingleProcess | None = None,
) -> list[float]:
    """AdamW with a linear schedule; returns the loss of every batch."""
    team = team or SingleProcess(settings, device, partial(autocast, settings, device))
    callbacks = callbacks or Callbacks()
    running = compile_model(team.prepare(model), settings, device)
    if team.rank > 0:
        # Each process drops out for itself.
        torch.manual_seed(settings.seed + team.rank)
    order = torch.Generator().manual_seed(settings.seed)
    lengths = [len(ids) for ids in data["input_ids"]]
    batches = len(plan_batches(lengths, settings, torch.Generator()))
    optimizer = make_optimizer(running, settings)
    schedule = make_schedule(optimizer, settings, batches)
    scaler = make_scaler(settings)
    losses = callbacks.on_train_begin(
        team, optimizer, schedule, order, batches * settings.epochs
    )
    # A run that was cut off between the last batch of an epoch and its evaluation goes on with the evaluation.
    for epoch in range(callbacks.finished_epochs(), settings.epochs):
        running.train()
        callbacks.on_epoch_begin(order)
        plan = plan_batches(lengths, settings, order)
        # A resumed run has trained on the first ones already.
        done = len(losses) - epoch * batches
        remaining = plan[done:]
        own_rows = [team.local_rows(rows) for rows in remaining]
        loader = make_loader(data, settings, own_rows, tokenizer)
        bar = progress_bar(loader, f"epoch {epoch + 1}", team)
        for number, (rows, batch) in enumerate(zip(remaining, bar), done + 1):
            is_last = number == batches
            step_is_complete = (
                is_last or number % settings.gradient_accumulation_steps == 0
            )
            with nullcontext() if step_is_complete else team.no_sync(running):
                with autocast(settings, device):
                    loss = running(**to_device(batch, device)).loss * team.loss_weight(
                        rows
                    )
                scaler.scale(loss / settings.gradient_accumulation_steps).backward()
            batch_loss, stop = team.reduce_loss(loss.detach(), STOP.requested)
            losses.append(batch_loss)
            if step_is_complete:
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                optimizer.zero_grad()
                callbacks.on_step_end(losses, stop)
        callbacks.on_epoch_end(epoch + 1, losses)
    return losses


def make_optimizer(running: Any, settings: Settings) -> Any:
    parameters = [
        parameter for parameter in running.parameters() if parameter.requires_grad
    ]
    return torch.optim.AdamW(parameters, lr=settings.learning_rate)


def make_schedule(optimizer: Any, settings: Settings, batches: int) -> Any:
    """The learning rate: up during the warm-up, then down to 0. An epoch has so many batches."""
    # The last step of an epoch may have fewer batches.
    steps_per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    steps = steps_per_epoch * settings.epochs
    return get_linear_schedule_with_warmup(
        optimizer,
        num_warmup_steps=int(steps * settings.warmup),
        num_training_steps=steps,
    )


def plan_batches(
    lengths: Sequence[int], settings: Settings, order: torch.Generator
) -> Batches:
    """The row numbers of each batch of an epoch, drawn from the generator `order`.

    Without --pad-to-max-length, texts of similar length go together: little padding, and every text once an epoch.
    """
    size = settings.batch_size
    rows = shuffled(range(len(lengths)), order)
    if settings.pad_to_max_length:
        return chunks(rows, size)
    by_length: list[int] = []
    for pool in chunks(rows, size * POOL_BATCHES):
        pool.sort(key=lengths.__getitem__)
        by_length += pool
    batches = chunks(by_length, size)
    return shuffled(batches, order)


def shuffled(values: Sequence[Any], generator: torch.Generator) -> list[Any]:
    positions = torch.randperm(len(values), generator=generator).tolist()
    return [values[position] for position in positions]


def chunks(rows: list[int], size: int) -> Batches:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def make_loader(
    data: Dataset,
    settings: Settings,
    batches: Batches,
    tokenizer: Any,
) -> Any:
    """The rows of each batch as tensors, padded to the longest of them if they are not all padded already."""
    collate = None
    if not settings.pad_to_max_length:
        collate = DataCollatorWithPadding(
            tokenizer, pad_to_multiple_of=padding_multiple(settings)
        )
    # A loader draws from a generator when it starts, and must not draw from dropout's.
    own_generator = torch.Generator()
    return DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=collate,
        generator=own_generator,
    )


def progress_bar(loader: Any, description: str, team: SingleProcess) -> Any:
    """None: tqdm shows a bar on a terminal only; without one see progress.py."""
    return tqdm(
        loader,
        desc=description,
        leave=False,
        disable=None if team.is_main_process else True,
    )


def to_device(batch: Any, device: str) -> dict[str, Any]:
    return {name: value.to(device) for name, value in batch.items()}


def autocast(settings: Settings, device: str) -> ContextManager[Any]:
    """16-bit arithmetic where it is safe, 32-bit elsewhere."""
    sixteen_bits = {"bf16": torch.bfloat16, "fp16": torch.float16}
    kind = sixteen_bits.get(settings.precision)
    context: ContextManager[Any] = nullcontext()
    if kind:
        context = torch.autocast(device, dtype=kind)
    else:
        torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    return context


def make_scaler(settings: Settings) -> Any:
    """Keeps the small gradients of fp16 from vanishing; does nothing for other precisions."""
    scaler = (
        torch.amp.GradScaler
        if hasattr(torch.amp, "GradScaler")
        else torch.cuda.amp.GradScaler
    )
    return scaler(enabled=settings.precision == "fp16")


@torch.no_grad()
def evaluate(
    model: Any,
    data: Dataset,
    device: str,
    *,
    negated: Sequence[Any] = (),
    tokenizer: Any = None,
    batch: int = 256,
) -> tuple[float, float]:
    """The accuracy on all of `data`, and on those of its rows that `negated` marks."""
    model.eval()
    collate = DataCollatorWithPadding(tokenizer) if tokenizer else None
    all_answers, all_labels = [], []
    for rows in DataLoader(data, batch_size=batch, collate_fn=collate):
        all_labels.append(rows.pop("labels"))
        logits = model(**to_device(rows, device)).logits
        all_answers.append(logits.argmax(-1).cpu())
    answers, labels = torch.cat(all_answers), torch.cat(all_labels)
    classes = model.config.num_labels
    overall = accuracy(answers, labels, classes)
    if not len(negated):
        return overall, 0.0
    selected = torch.tensor([bool(value) for value in negated], dtype=torch.bool)
    return overall, accuracy(answers[selected], labels[selected], classes)


def accuracy(answers: Any, labels: Any, classes: int) -> float:
    """The share of correct answers among all; the classes are not weighted."""
    if not len(labels):
        return 0.0
    value: float = multiclass_accuracy(answers, labels, classes, average="micro").item()
    return round(value, 6)
