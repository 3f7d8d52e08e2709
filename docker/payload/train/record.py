"""What is done beside the training: scores, metrics, checkpoints, and going on from one."""

import sys
import time
from itertools import chain

import torch

from train import checkpoints
from train.interrupts import STOP
from train.options import BUNDLED
from train.outputs import Metrics


class Run:
    """Nothing is done. `train()` calls these; `Recorded` writes down what happens and keeps checkpoints."""

    def begin(self, team, optimizer, schedule, order, steps):
        """Called before the first step; returns the losses so far, which are some where a run goes on."""
        return []

    def begin_epoch(self, order):
        """Called before the batches of an epoch are drawn from `order`."""

    def end_step(self, losses, stop):
        """Called after each step; `stop`: somebody wants to end the run."""

    def end_epoch(self, number, losses):
        """Called after each epoch, whose numbers start at 1."""


class Recorded(Run):
    """Evaluates after each epoch, says how it went, and with a folder keeps metrics and checkpoints there."""

    SAME = tuple("model data rows seed epochs batch accumulate learning_rate warmup max_length padding dropout".split())
    SAME += ("pretrain", "pretrain_rows")

    def __init__(self, settings, score, say, on_step=None):
        self.settings, self.score, self.say, self.on_step = settings, score, say, on_step
        self.epochs, self.metrics, self.saved, self.steps, self.started = [], None, 0, 0, 0.0

    def begin(self, team, optimizer, schedule, order, steps):
        self.team, self.optimizer, self.schedule, self.order, self.steps = team, optimizer, schedule, order, steps
        self.order_state, losses, folder = order.get_state(), [], self.settings.output
        self.started = time.monotonic()
        step = self.last_step() if self.settings.resume else 0
        if step:
            losses = self.go_on(step)
            self.saved = len(losses)
            self.say("going on after batch %d of %d" % (len(losses), steps))
        if folder and team.leads:
            removed = [] if step else checkpoints.forget(folder)
            if removed:
                self.say("removed of an earlier run in %s: %s" % (folder, ", ".join(removed)))
            self.metrics = Metrics(folder, going_on=bool(losses))
        STOP["may_wait"] = bool(folder)
        return losses

    def last_step(self):
        """Of the last checkpoint that any process sees, 0 without one; told to all, so that all go on from the same."""
        seen = self.team.collect(checkpoints.numbers(self.settings.output))
        return self.team.tell(max((0, *chain(*seen))) if self.team.leads else None)

    def go_on(self, step):
        """Everything as it was at this step's checkpoint; returns the losses until then."""
        model, optimizer, random, state = checkpoints.load(self.settings.output, step, self.same())
        self.team.load(model, self.optimizer, optimizer)
        self.schedule.load_state_dict(state["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr()):
            group["lr"] = rate
        self.order.set_state(torch.tensor(state["order"], dtype=torch.uint8))
        if str(self.team.rank) in random:
            checkpoints.set_random_states(random[str(self.team.rank)])
        self.epochs = state["epochs"]
        self.started -= state["seconds"]
        return state["losses"]

    def seconds(self):
        """How long was trained, in turns before this one as well, and without the evaluations."""
        return time.monotonic() - self.started

    def same(self):
        return {name: getattr(self.settings, name) for name in self.SAME}

    def begin_epoch(self, order):
        self.order_state = order.get_state()

    def end_step(self, losses, stop):
        if self.on_step:
            self.on_step(len(losses), self.steps, losses[-1])
        if self.metrics:
            self.metrics.add(len(losses), loss=losses[-1], learning_rate=self.schedule.get_last_lr()[0])
        if stop or len(losses) - self.saved >= (self.settings.save_every or float("inf")):
            self.save(losses)
        if stop:
            self.say("saved after batch %d: go on with `--resume`" % len(losses))
            self.close()
            self.team.leave()
            sys.exit(130)

    def close(self):
        """Nothing more is measured: what TensorBoard still holds is written."""
        if self.metrics:
            self.metrics.close()

    def end_epoch(self, number, losses):
        begun = time.monotonic()
        scores = self.judge(number)
        self.started += time.monotonic() - begun  # the time of training stands still
        if self.metrics:
            self.metrics.add(len(losses), **scores)
        self.order_state = self.order.get_state()  # the next epoch is drawn from here
        self.save(losses)

    def judge(self, number):
        """What an epoch has come to, for metrics.jsonl."""
        overall, on_negated = self.score()
        self.epochs.append({"epoch": number, "accuracy": overall, "negated": on_negated})
        rest = "" if self.settings.data != BUNDLED else ", %.3f on the negated ones" % on_negated
        self.say("epoch %d: accuracy %.3f on held-out texts%s" % (number, overall, rest))
        return {"accuracy": overall}

    def save(self, losses):
        """A checkpoint, if there is a folder and there is none of this step. All processes give what they have."""
        if not self.settings.output or len(losses) <= self.saved:
            return
        model, optimizer = self.team.gather(), self.team.optimizer_state(self.optimizer)
        random = self.team.collect(checkpoints.random_states())
        if self.team.leads:
            state = {"same": self.same(), "losses": losses, "epochs": self.epochs, "seconds": self.seconds()}
            state.update(order=self.order_state.tolist(), schedule=self.schedule.state_dict())
            checkpoints.save(self.settings.output, len(losses), (model.state_dict(), optimizer), random, state)
        self.saved = len(losses)


class RecordedPretraining(Recorded):
    """The same for the pre-training, whose score is what share of the words and of the pairs were guessed right."""

    def judge(self, number):
        scores = self.score()
        self.epochs.append(dict(scores, epoch=number))
        text = ", ".join("%.3f of the %s" % (share, name.replace("_", " ")) for name, share in scores.items())
        self.say("pre-training, epoch %d: guessed %s" % (number, text))
        return scores
