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

from envbuilder.errors import UsageError
from envbuilder.files import exists, read_text
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import Context, Lock
from envbuilder.render.context import place_of

MARK = "Rendered by envbuilder"
TARGETS: Mapping[str, str] = {
    "compose": "train, notebook, TensorBoard and a cluster by `docker compose`",
    "kubernetes": "an Indexed Job with its Service, and a Kubeflow TrainJob",
    "slurm": "a batch script with Apptainer",
    "devcontainer": "VS Code and PyCharm work in the image",
    "workflow": "GitHub checks the files, builds the image and reports",
    "bake": "every image of the repository by `docker buildx bake`",
}
"""Name of a target, as `--target` takes it → what it is for."""
_MODULES = {"workflow": "github_actions"}  # the others have their target's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What the files of a target are made from."""

    lock: Lock
    image: str  # the tag that `envbuilder build` gives: "envbuilder:cu117-…"
    context: str  # the build context, relative to the project: "docker"
    settings: Mapping[str, str] = field(default_factory=dict)  # what a target lets people change, by its own names
    images: Mapping[str, Lock] = field(default_factory=dict)  # of every image of the repository, by its stack's name

    @property
    def dockerfile(self) -> str:
        """The image's Dockerfile, relative to the build context."""
        return f"{place_of(self.lock.stack)}/Dockerfile"

    @property
    def lock_file(self) -> str:
        """The lock, relative to the project."""
        return f"{self.context}/{place_of(self.lock.stack)}/{LOCK_FILE}"


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
    return importlib.import_module(f"envbuilder.render.targets.{_MODULES.get(target, target)}")


def strangers(context: Context, folder: Path) -> list[str]:
    """The files that are there, differ, and are not ours to replace."""
    found = []
    for name, text in context.files.items():
        if not exists(folder / name):
            continue
        there = read_text(folder / name)
        if there != text and MARK not in there:
            found.append(name)
    return found
