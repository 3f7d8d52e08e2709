"""Lock → the files of the tools that build or run an image: compose, devcontainer, Kubernetes, Slurm, CI, bake.

A target is a module of this package with `files(project)`: relative path → text, pure, the same bytes for the same
project; `SETTINGS` names what `--set` may change, `EXECUTABLE` the files that get the run bit, `WHOLE` that they are
the same whichever of the repository's locks is the project's own. Its templates are in templates/<target>/. Every file
says that envbuilder rendered it (`MARK`): what carries the mark may be replaced, what does not is somebody's own.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from envbuilder.errors import EnvbuilderError, UsageError
from envbuilder.model import Context, Lock

MARK = "Rendered by envbuilder"
TARGETS: Mapping[str, str] = {
    "compose": "train, notebook, TensorBoard and a cluster by `docker compose`",
    "kubernetes": "an Indexed Job with its Service, and a Kubeflow TrainJob",
    "slurm": "a batch script with Apptainer",
    "devcontainer": "VS Code and PyCharm work in the image",
    "workflow": "GitHub checks the files, builds the image and reports",
    "bake": "every image of the repository by `docker buildx bake`",
}
"""Name of a target, as `--target` takes it → what it is for. The module has the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What the files of a target are made from."""

    lock: Lock
    image: str  # the tag that `envbuilder build` gives: "envbuilder:cu117-…"
    context: str  # folder of the Dockerfile, relative to the project: "docker/images/cu117-…"
    settings: Mapping[str, str] = field(default_factory=dict)  # what a target lets people change, by its own names
    images: Mapping[str, Lock] = field(default_factory=dict)  # every build context of the repository, as `context` is


def render(project: Project, *targets: str) -> Context:
    """The files of some targets. Raises `UsageError` for a target or a setting that there is not."""
    files: dict[str, str] = {}
    executable: set[str] = set()
    unknown = unknown_settings(project.settings, *targets)
    if unknown:
        raise UsageError("these targets have other settings", problems=unknown)
    for module in map(_module, targets):
        files |= module.files(project)
        executable |= set(getattr(module, "EXECUTABLE", ()))
    return Context(files=dict(sorted(files.items())), executable=frozenset(executable))


def unknown_settings(settings: Mapping[str, str], *targets: str) -> list[str]:
    """The settings that none of these targets has; a module lists its own in `SETTINGS`."""
    known = {name for target in targets for name in getattr(_module(target), "SETTINGS", ())}
    return [f"unknown setting {name!r}; settings: {', '.join(sorted(known))}" for name in settings if name not in known]


def are_whole(*targets: str) -> bool:
    """Whether the files of these targets need no choice among the locks of the repository."""
    return all(getattr(_module(target), "WHOLE", False) for target in targets)


def _module(target: str) -> ModuleType:
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r}", hint=f"targets: {', '.join(TARGETS)}")
    return importlib.import_module(f"envbuilder.targets.{target}")


def strangers(context: Context, folder: Path) -> list[str]:
    """The files that are there, differ, and are not ours to replace."""
    return [
        name
        for name, text in context.files.items()
        if (folder / name).exists() and (told := _read(folder / name)) != text and MARK not in told
    ]


def stale(context: Context, folder: Path) -> list[str]:
    """`missing: compose.yaml`, `stale: compose.yaml`: how the folder differs from what would be written."""
    found = {name: _read(folder / name) if (folder / name).exists() else None for name in context.files}
    return [
        f"{'missing' if text is None else 'stale'}: {name}"
        for name, text in found.items()
        if text != context.files[name]
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvbuilderError(f"{path} cannot be read: {error}") from error
