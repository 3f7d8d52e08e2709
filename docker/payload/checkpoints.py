"""Checkpoints that can be trusted: safetensors, written whole or not at all, enough to go on with the same losses."""

import json
import os
import re
import shutil
import tempfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

KEEP = 2
_WORK = ".checkpoint-"
_NAME = re.compile(r"checkpoint-(\d+)$")


class CheckpointError(Exception):
    """The checkpoint cannot be read, or is of another run; `hint` says what to do."""

    def __init__(self, message, hint=""):
        super().__init__(message)
        self.hint = hint


def save(folder, step, parts, state):
    """(model, optimizer, schedule) and state as DIR/checkpoint-STEP; the older ones go, but for the last two."""
    model, optimizer, schedule = parts
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.startswith(_WORK):  # of a run that was killed while it saved
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    target = os.path.join(folder, "checkpoint-%d" % step)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=folder) as work:
        fresh = os.path.join(work, "new")
        os.mkdir(fresh)
        # Tied weights are stored once each: `contiguous().clone()` parts what shares memory.
        save_file(
            {name: value.contiguous().clone() for name, value in model.state_dict().items()},
            os.path.join(fresh, "model.safetensors"),
        )
        tensors, plain = split_optimizer(optimizer.state_dict())
        save_file(tensors, os.path.join(fresh, "optimizer.safetensors"))
        save_file(random_states(), os.path.join(fresh, "random.safetensors"))
        document = dict(state, step=step, optimizer=plain, schedule=schedule.state_dict())
        with open(os.path.join(fresh, "state.json"), "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        for name in os.listdir(fresh):
            sync(os.path.join(fresh, name))
        if os.path.exists(target):
            os.rename(target, os.path.join(work, "old"))
        os.rename(fresh, target)
    sync(folder)
    for number in numbers(folder)[:-KEEP]:
        shutil.rmtree(os.path.join(folder, "checkpoint-%d" % number))


def sync(path):
    """Have it on the disk before it is relied on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbers(folder):
    """The steps that there are checkpoints of, in order."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(match.group(1)) for match in map(_NAME.match, names) if match)


def load(folder, parts, same):
    """Put everything as it was at the last checkpoint; returns its state. `same`: what must not have changed."""
    model, optimizer, schedule = parts
    last = os.path.join(folder, "checkpoint-%d" % numbers(folder)[-1])
    try:
        with open(os.path.join(last, "state.json"), encoding="utf-8") as stream:
            state = json.load(stream)
        for name, value in same.items():
            if state["same"].get(name) != value:
                raise CheckpointError(
                    "%s was made with --%s %s, this run has %s"
                    % (last, name.replace("_", "-"), state["same"].get(name), value)
                )
        model.load_state_dict(load_file(os.path.join(last, "model.safetensors")))
        optimizer.load_state_dict(
            join_optimizer(load_file(os.path.join(last, "optimizer.safetensors")), state["optimizer"])
        )
        schedule.load_state_dict(state["schedule"])
        set_random_states(load_file(os.path.join(last, "random.safetensors")))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        hint = "remove it (`rm -r %s`): `--resume` then takes the one before it, or begins anew" % last
        raise CheckpointError("%s cannot be read: %s" % (last, str(error).split("\n")[0]), hint) from error
    return state


def split_optimizer(state):
    """An optimizer's state as tensors by name, and what is left as JSON can hold it."""
    tensors = {
        "%s.%s" % (number, name): torch.as_tensor(value).clone().contiguous()
        for number, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, {"groups": state["param_groups"]}


def join_optimizer(tensors, plain):
    state = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": plain["groups"]}


def random_states():
    """The generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states):
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
