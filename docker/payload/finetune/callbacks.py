"""What happens between the steps: the order of the rows, progress, metrics, and the wish to stop."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List, Sequence

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from finetune.options import Settings
from train import progress
from train.interrupts import STOP
from train.outputs import Metrics

# Rows are sorted by length within pools of so many batches, as transformers' LengthGroupedSampler does.
POOL_BATCHES = 50


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


class SimilarLengths(Sampler):
    """Row numbers in batches of similar length, shuffled anew each epoch.

    transformers' LengthGroupedSampler draws its order from torch's global generator, where dropout draws too: after
    the epoch in which it was resumed, a run would see another order than one that was never interrupted.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = random.Random(f"{self.seed} {self.epoch}")
        rows = list(range(len(self.lengths)))
        generator.shuffle(rows)
        by_length: list[int] = []
        for pool in chunks(
            rows,
            self.batch * POOL_BATCHES,
        ):
            by_length += sorted(
                pool,
                key=self.lengths.__getitem__,
            )
        batches = chunks(
            by_length,
            self.batch,
        )
        # The last, smaller one stays last: whoever cuts this into batches again gets the same ones.
        last = batches.pop()
        generator.shuffle(batches)
        for batch in [*batches, last]:
            yield from batch


def chunks(rows: List[int], size: int) -> List[List[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Reporter(TrainerCallback):
    """Writes metrics, prints progress, and ends the run where the user wants it to end."""

    def __init__(self, settings: Settings, sampler: SimilarLengths) -> None:
        self.settings = settings
        self.sampler = sampler
        self.metrics: Metrics | None = None
        self.progress: progress.Progress | None = None
        self.loss = float("nan")
        self.compiling: Compiling | None = None

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        **_: Any,
    ) -> None:
        self.progress = progress.Progress(
            state.max_steps,
            state.global_step,
        )
        if is_main_process():
            output = Path(self.settings.output or "")
            self.metrics = Metrics(
                output,
                append=state.global_step > 0,
            )
            if state.global_step:
                print(f"resuming after step {state.global_step} of {state.max_steps}")
            if self.settings.compile:
                self.compiling = Compiling()
        STOP.can_save = True

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.sampler.epoch = int((state.epoch or 0) + 1e-6)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.compiling:
            self.compiling.end()
            self.compiling = None
        if any_process(STOP.requested, args.device):
            STOP.requested = True
            control.should_save = True
            control.should_training_stop = True
        log_before_saving(control)
        if self.progress and is_main_process() and progress.is_needed():
            line = self.progress.report(state.global_step, self.loss)
            if line:
                print(line, flush=True)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        log_before_saving(control)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any
    ) -> None:
        numbers = {}
        for name, value in (logs or {}).items():
            if name in ("loss", "learning_rate", "grad_norm") or is_score(name):
                numbers[name] = float(value)
        self.loss = numbers.get("loss", self.loss)
        if self.metrics and numbers:
            self.metrics.add(state.global_step, **numbers)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        if self.progress:
            self.progress.pause((metrics or {}).get("eval_runtime", 0.0))
        if not is_main_process():
            return
        scores = []
        for name, value in (metrics or {}).items():
            if is_score(name):
                scores.append(f"{name[5:]} {value:.4f}")
        print(f"epoch {state.epoch:.2f}: {', '.join(scores)}", flush=True)

    def close(self) -> None:
        if self.metrics:
            self.metrics.close()
            self.metrics = None


def is_score(name: str) -> bool:
    """Whether a logged number says how good the model is, and not how long the evaluation took."""
    return name.startswith("eval_") and not name.endswith(("runtime", "second", "time"))


def log_before_saving(control: Any) -> None:
    """A logged loss is the mean since the last log, which a checkpoint does not hold: log, then save."""
    if control.should_save:
        control.should_log = True


def any_process(wish: bool, device: Any) -> bool:
    """Whether some process wants to stop: all have to at the same step."""
    if world_size() == 1:
        return wish
    flag = torch.tensor([float(wish)], device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


class Compiling:
    """Until the first step is over: a line every 30 seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.over = threading.Event()
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self) -> None:
        print("compiling …", flush=True)
        while not self.over.wait(progress.INTERVAL):
            print(f"compiling … {self.seconds():.0f} s", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def end(self) -> None:
        self.over.set()
        print(f"compiled in {self.seconds():.0f} s", flush=True)
