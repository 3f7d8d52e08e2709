"""What happens around the training: scores, metrics, checkpoints, and resuming from one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Callable, NoReturn

import torch

from train import checkpoints, progress
from train.checkpoints import Checkpoint
from train.interrupts import STOP
from train.options import BUNDLED, Settings
from train.outputs import Metrics
from train.parallel import SingleProcess

Say = Callable[[str], object]
OnStep = Callable[[int, int, float], object]  # of the step, of all steps, and the loss

# A run that continues with other values of these would be another run.
FIXED_SETTINGS = (
    "model",
    "data",
    "max_train_samples",
    "seed",
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "warmup",
    "max_length",
    "pad_to_max_length",
    "dropout",
    "pretrain",
    "pretrain_rows",
)


def fixed_settings(settings: Settings) -> dict[str, Any]:
    """The settings that must not change when a run is resumed."""
    return {name: getattr(settings, name) for name in FIXED_SETTINGS}


class Callbacks:
    """What the training loop calls. These do nothing; `Recorder` writes down what happens and saves checkpoints."""

    def on_train_begin(
        self,
        team: SingleProcess,
        optimizer: Any,
        schedule: Any,
        order: Any,
        steps: int,
    ) -> list[float]:
        """Before the first step; returns the losses so far, which a resumed run has some of."""
        return []

    def finished_epochs(self) -> int:
        """How many epochs are over, their evaluation too."""
        return 0

    def on_epoch_begin(self, order: Any) -> None:
        """Before the batches of an epoch are drawn from the generator `order`."""

    def on_step_end(self, losses: list[float], stop: bool) -> None:
        """After each optimizer step; `stop`: some process wants to end the run."""

    def on_epoch_end(self, number: int, losses: list[float]) -> None:
        """After each epoch, counted from 1."""


class Recorder(Callbacks):
    """Evaluates after each epoch, reports, and with --output keeps metrics and checkpoints there."""

    # Set by `on_train_begin`.
    team: SingleProcess
    optimizer: Any
    schedule: Any
    order: Any
    steps: int
    progress: progress.Progress

    def __init__(
        self,
        settings: Settings,
        evaluate: Callable[[], Any],
        say: Say,
        on_step: OnStep | None = None,
    ) -> None:
        self.settings = settings
        self.evaluate = evaluate
        self.say = say
        self.on_step = on_step
        self.output = Path(settings.output) if settings.output else None
        self.epochs: list[dict[str, float]] = []
        self.metrics: Metrics | None = None
        self.last_saved = 0
        self.started = 0.0
        self.order_state: Any = None

    def on_train_begin(
        self,
        team: SingleProcess,
        optimizer: Any,
        schedule: Any,
        order: Any,
        steps: int,
    ) -> list[float]:
        self.team = team
        self.optimizer = optimizer
        self.schedule = schedule
        self.order = order
        self.steps = steps
        self.order_state = order.get_state()
        self.started = time.monotonic()
        losses = self.resume()
        self.last_saved = len(losses)
        if self.output and team.is_main_process:
            if not losses:
                self.remove_old_run(self.output)
            self.metrics = Metrics(self.output, append=bool(losses))
        self.progress = progress.Progress(steps, len(losses))
        STOP.can_save = self.output is not None
        return losses

    def remove_old_run(self, output: Path) -> None:
        removed = checkpoints.remove_old_run(output)
        if removed:
            self.say(f"removed from an earlier run in {output}: {', '.join(removed)}")

    def resume(self) -> list[float]:
        """Continue from the last checkpoint, if one is wanted and exists; returns the losses until then."""
        if not self.settings.resume or not self.output:
            return []
        step = self.last_step(self.output)
        if step == 0:
            return []
        checkpoint = checkpoints.load(self.output, step, fixed_settings(self.settings))
        losses = self.restore(checkpoint)
        self.say(f"resuming after batch {len(losses)} of {self.steps}")
        return losses

    def last_step(self, output: Path) -> int:
        """Of the last checkpoint that any process sees, 0 without one: all processes must resume from the same."""
        steps_by_rank = self.team.gather_objects(checkpoints.steps(output))
        last = 0
        for steps in steps_by_rank or []:
            last = max(last, *steps, 0)
        step: int = self.team.broadcast(last)
        return step

    def restore(self, checkpoint: Checkpoint) -> list[float]:
        """Put everything as it was; returns the losses until then."""
        state = checkpoint.state
        self.team.load(checkpoint.model, self.optimizer, checkpoint.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        rates = self.schedule.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        order_state = torch.tensor(state["order"], dtype=torch.uint8)
        self.order.set_state(order_state)
        # A run of fewer processes had no generators of the higher ranks.
        rank = str(self.team.rank)
        if rank in checkpoint.random:
            checkpoints.set_random_states(checkpoint.random[rank])
        self.epochs = state["epochs"]
        self.started -= state["seconds"]
        losses: list[float] = state["losses"]
        return losses

    def seconds(self) -> float:
        """The time spent on training, also before the run was resumed, without the evaluations."""
        return time.monotonic() - self.started

    def finished_epochs(self) -> int:
        if not self.epochs:
            return 0
        return int(self.epochs[-1]["epoch"])

    def on_epoch_begin(self, order: Any) -> None:
        self.order_state = order.get_state()

    def on_step_end(self, losses: list[float], stop: bool) -> None:
        step = len(losses)
        loss = losses[-1]
        self.report(step, loss)
        if self.metrics:
            rate = self.schedule.get_last_lr()[0]
            self.metrics.add(step, loss=loss, learning_rate=rate)
        every = self.settings.save_every
        is_due = every is not None and step - self.last_saved >= every
        if stop or is_due:
            self.save(losses)
        if stop:
            self.end(step)

    def report(self, step: int, loss: float) -> None:
        if self.on_step:
            self.on_step(step, self.steps, loss)
        line = self.progress.report(step, loss)
        if line and progress.is_needed():
            self.say(line)

    def end(self, step: int) -> NoReturn:
        """The user interrupted the run, and it is saved."""
        line = f"saved after batch {step}: continue with `--resume`"
        self.say(line)
        self.close()
        self.team.shutdown()
        sys.exit(130)

    def close(self) -> None:
        """Nothing more is measured: TensorBoard writes what it still holds."""
        if self.metrics:
            self.metrics.close()

    def on_epoch_end(self, number: int, losses: list[float]) -> None:
        begun = time.monotonic()
        scores = self.score(number)
        evaluation = time.monotonic() - begun
        self.started += evaluation
        self.progress.pause(evaluation)
        if self.metrics:
            self.metrics.add(len(losses), **scores)
        # The next epoch is drawn from here.
        self.order_state = self.order.get_state()
        self.save(losses)

    def score(self, number: int) -> dict[str, float]:
        """Evaluate after an epoch; returns what goes into metrics.jsonl."""
        accuracy, negated = self.evaluate()
        self.epochs.append(
            {
                "epoch": number,
                "accuracy": accuracy,
                "negated": negated,
            }
        )
        line = f"epoch {number}: accuracy {accuracy:.3f} on held-out texts"
        if self.settings.data == BUNDLED:
            line += f", {negated:.3f} on the negated ones"
        self.say(line)
        return {"accuracy": accuracy}

    def save(self, losses: list[float]) -> None:
        """A checkpoint, unless this step has one already. Every process contributes what it holds."""
        if not self.output or len(losses) <= self.last_saved:
            return
        step = len(losses)
        model = self.team.gather_model()
        optimizer_state = self.team.optimizer_state(self.optimizer)
        random_states = self.team.gather_objects(checkpoints.random_states())
        if random_states is not None:
            # This is the main process.
            checkpoint = Checkpoint(
                model=model.state_dict(),
                optimizer=optimizer_state,
                random={str(rank): states for rank, states in enumerate(random_states)},
                state=self.state(losses),
            )
            checkpoints.save(self.output, step, checkpoint)
        self.last_saved = step

    def state(self, losses: list[float]) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        return {
            "same": fixed_settings(self.settings),
            "losses": losses,
            "epochs": self.epochs,
            "seconds": self.seconds(),
            "order": self.order_state.tolist(),
            "schedule": self.schedule.state_dict(),
        }


class PretrainingRecorder(Recorder):
    """The same for the pre-training, whose scores are the shares of words and pairs that were predicted correctly."""

    def score(self, number: int) -> dict[str, float]:
        scores: dict[str, float] = self.evaluate()
        self.epochs.append({**scores, "epoch": number})
        shares = []
        for name, share in scores.items():
            plain_name = name.replace("_", " ")
            shares.append(f"{share:.3f} of the {plain_name}")
        line = ", ".join(shares)
        self.say(f"pre-training, epoch {number}: predicted {line}")
        return scores
