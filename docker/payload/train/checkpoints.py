"""Checkpoints that can be trusted: safetensors, written whole or not at all, enough to go on with the same losses."""

import json
import os
import re
import shutil
import tempfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from train.errors import JobError

KEEP = 2
_WORK = ".checkpoint-"
_NAME = re.compile(r"checkpoint-(\d+)$")
_METRICS = ("metrics.json", "metrics.jsonl", "tensorboard")


class CheckpointError(JobError):
    """The checkpoint cannot be read, or is of another run."""


def save(folder, step, tensors, random, state):
    """DIR/checkpoint-STEP, whole or not at all; the older ones go, but for the last two.

    `tensors`: the model's, {name: tensor}, and the optimizer's, {name: {"exp_avg": tensor, …}}; `random`: the states of
    each process's generators, by rank; `state`: what else there is, as JSON can hold it.
    """
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.startswith(_WORK):  # of a run that was killed while it saved
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    target = os.path.join(folder, "checkpoint-%d" % step)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=folder) as work:
        fresh = os.path.join(work, "new")
        os.mkdir(fresh)
        model, optimizer = tensors
        files = {"model": model, "optimizer": flat(optimizer), "random": flat(dict(enumerate(random)))}
        for name, part in files.items():
            # Tied weights are stored once each: `clone` parts what shares memory.
            parted = {key: torch.as_tensor(value).detach().cpu().clone().contiguous() for key, value in part.items()}
            save_file(parted, os.path.join(fresh, name + ".safetensors"))
        with open(os.path.join(fresh, "state.json"), "w", encoding="utf-8") as stream:
            json.dump(dict(state, step=step), stream)
        for name in os.listdir(fresh):
            sync(os.path.join(fresh, name))
        if os.path.exists(target):
            os.rename(target, os.path.join(work, "old"))
        os.rename(fresh, target)
    sync(folder)
    for number in numbers(folder)[:-KEEP]:
        shutil.rmtree(os.path.join(folder, "checkpoint-%d" % number))


def flat(states):
    """{1: {"a": x}} → {"1.a": x}"""
    return {"%s.%s" % (name, key): value for name, inner in states.items() for key, value in inner.items()}


def nested(states):
    """{"1.a": x} → {"1": {"a": x}}; names may have dots, keys have none."""
    found = {}
    for path, value in states.items():
        name, key = path.rsplit(".", 1)
        found.setdefault(name, {})[key] = value
    return found


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


def forget(folder):
    """Remove the checkpoints and metrics of an earlier run, and return their names.

    A run that begins anew would lose its own checkpoints to older ones with higher numbers, and its curves would mix.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = sorted(name for name in names if _NAME.match(name) or name in _METRICS)
    for path in (os.path.join(folder, name) for name in found):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    return found


def load(folder, step, same):
    """(model, optimizer, random, state) of a step's checkpoint, as `save` got them; `same` must not have changed."""
    last = os.path.join(folder, "checkpoint-%d" % step)
    if not os.path.isdir(last):
        hint = "--output must be one folder that every node sees"
        raise CheckpointError("%s is not there, though another process sees it" % last, hint)
    try:
        with open(os.path.join(last, "state.json"), encoding="utf-8") as stream:
            state = json.load(stream)
        model, optimizer, random = (
            load_file(os.path.join(last, name + ".safetensors")) for name in ("model", "optimizer", "random")
        )
        check_same(last, state["same"], same)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        hint = "remove it (`rm -r %s`): `--resume` then takes the one before it, or begins anew" % last
        raise CheckpointError("%s cannot be read: %s" % (last, str(error).split("\n")[0]), hint) from error
    return model, nested(optimizer), nested(random), state


def check_same(path, before, same):
    """What is at `path` was made with the settings `before`: raises where this run's differ."""
    for name, value in same.items():
        if before.get(name) != value:
            message = "%s was made with --%s %s, this run has %s"
            hint = "give another --output, or leave --resume out"
            raise CheckpointError(message % (path, name.replace("_", "-"), before.get(name), value), hint)


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
