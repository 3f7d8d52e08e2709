"""Checkpoints that can be trusted: safetensors, written completely or not at all, enough to continue with equal losses.

accelerate's `save_state` pickles the optimizer and the random states; a pickle runs code when it is loaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from train.errors import JobError, first_line

Tensors = Dict[str, Any]
NestedTensors = Dict[str, Tensors]
Values = Mapping[str, Any]

KEEP = 2
_UNFINISHED = ".checkpoint-"
_NAME = re.compile(r"checkpoint-(\d+)$")
_METRICS = ("metrics.json", "metrics.jsonl", "tensorboard")


class CheckpointError(JobError):
    """The checkpoint cannot be read, or belongs to another run."""


@dataclass
class Checkpoint:
    """Everything that a run needs to continue."""

    model: Tensors  # of each parameter
    optimizer: NestedTensors  # of each parameter: {"exp_avg": tensor, …}
    random: NestedTensors  # the generators' states of each process, by rank
    state: dict[str, Any]  # the rest, as JSON can hold it


def directory_of(output: Path, step: int) -> Path:
    return output / f"checkpoint-{step}"


def save(output: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write OUTPUT/checkpoint-STEP completely or not at all, and remove all but the last two."""
    output.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(output)
    target = directory_of(output, step)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=str(output)) as work:
        new = Path(work, "new")
        new.mkdir()
        _write_files(new, step, checkpoint)
        for path in new.iterdir():
            sync(path)
        if target.exists():
            target.rename(Path(work, "old"))
        new.rename(target)
    sync(output)
    for number in steps(output)[:-KEEP]:
        shutil.rmtree(directory_of(output, number))


def _remove_unfinished(output: Path) -> None:
    """What a run left that was killed while it saved."""
    for path in output.iterdir():
        if path.name.startswith(_UNFINISHED):
            shutil.rmtree(path, ignore_errors=True)


def _write_files(directory: Path, step: int, checkpoint: Checkpoint) -> None:
    tensors = {
        "model": checkpoint.model,
        "optimizer": flatten(checkpoint.optimizer),
        "random": flatten(checkpoint.random),
    }
    for name, values in tensors.items():
        save_file(_separate(values), str(directory / f"{name}.safetensors"))
    state = dict(checkpoint.state, step=step)
    (directory / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _separate(values: Tensors) -> Tensors:
    """Copies on the CPU: safetensors refuses tensors that share memory, as tied weights do."""
    copies = {}
    for name, value in values.items():
        copies[name] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    return copies


def flatten(states: NestedTensors) -> Tensors:
    """{"1": {"a": x}} → {"1.a": x}"""
    flat = {}
    for name, values in states.items():
        for key, value in values.items():
            flat[f"{name}.{key}"] = value
    return flat


def unflatten(tensors: Tensors) -> NestedTensors:
    """{"1.a": x} → {"1": {"a": x}}; names may have dots, keys have none."""
    nested: NestedTensors = {}
    for path, value in tensors.items():
        name, key = path.rsplit(".", 1)
        nested.setdefault(name, {})[key] = value
    return nested


def sync(path: Path) -> None:
    """Flush a file or directory to the disk before anything relies on it."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def steps(output: Path) -> list[int]:
    """The steps of the checkpoints in a directory, in order."""
    if not output.is_dir():
        return []
    found = []
    for path in output.iterdir():
        match = _NAME.match(path.name)
        if match:
            found.append(int(match.group(1)))
    return sorted(found)


def remove_old_run(output: Path) -> list[str]:
    """Remove the checkpoints and metrics of an earlier run, and return their names.

    A run that starts over would lose its own checkpoints to older ones with higher numbers, and its plots would mix.
    """
    if not output.is_dir():
        return []
    removed = []
    for path in sorted(output.iterdir()):
        if not _NAME.match(path.name) and path.name not in _METRICS:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        removed.append(path.name)
    return removed


def load(output: Path, step: int, settings: Values) -> Checkpoint:
    """A step's checkpoint as it was saved. Raises if it was made with other settings."""
    directory = directory_of(output, step)
    if not directory.is_dir():
        hint = "--output must be one directory that all nodes share"
        raise CheckpointError(
            f"{directory} does not exist here, but another process sees it", hint
        )
    try:
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        check_same_settings(directory, state["same"], settings)
        return Checkpoint(
            model=_read(directory, "model"),
            optimizer=unflatten(_read(directory, "optimizer")),
            random=unflatten(_read(directory, "random")),
            state=state,
        )
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        SafetensorError,
    ) as error:
        hint = f"remove it (`rm -r {directory}`): `--resume` then continues from the previous one, or starts over"
        raise CheckpointError(
            f"cannot read {directory}: {first_line(error)}", hint
        ) from error


def _read(directory: Path, name: str) -> Tensors:
    tensors: Tensors = load_file(str(directory / f"{name}.safetensors"))
    return tensors


def check_same_settings(path: Path, before: Values, now: Values) -> None:
    """Raise if what is at `path` was made with other settings than this run's."""
    for name, value in now.items():
        earlier = before.get(name)
        if earlier != value:
            option = "--" + name.replace("_", "-")
            message = f"{path} was made with {option} {earlier}, this run has {value}"
            raise CheckpointError(
                message,
                "use another --output, or start over without --resume",
            )


def random_states() -> Tensors:
    """The generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Tensors) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
