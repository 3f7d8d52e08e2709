"""compose.yaml, the files that extend it, .env.example and the notebook's image: the stack on one machine."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import cast

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder import resources
from envbuilder.errors import UsageError
from envbuilder.lock.target_platform import markers
from envbuilder.model import PYPI, BaseSource, Stack
from envbuilder.render import base_variable
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
_MIRRORS = ("packages", "torch", "debian", "hub")
_PYTHON_MINORS = range(8, 16)  # those that templates/compose/notebook.txt is for
_ENTRY = re.compile(
    r"^[a-z0-9].*\n(?: .*\n)*", re.MULTILINE
)  # a requirement and the lines with its hashes


def files(project: Project) -> Mapping[str, str]:
    """Relative path → text. Raises `UsageError` for an image or a context that cannot be used in a compose file."""
    stack = project.lock.stack
    _plain("Dockerfile", project.dockerfile)
    base_name = _plain("base", stack.base_name)
    variable = f"${{{base_variable.NAME}:-{base_name}}}"
    values = {
        "notice": NOTICE,
        "name": _plain("name", stack.name),
        "image": project.image_on(variable),
        "default_image": _plain("image", project.image),
        "context": _plain("context", project.context),
        "dockerfile": project.dockerfile_on(variable),
        "platform": stack.platform,
        "cuda": stack.cuda is not None,
        "own_index": stack.index != PYPI,
        "base": stack.base.reference,
        "base_name": base_name,
        "bootstrapped": stack.base.source is BaseSource.BOOTSTRAP,
        "mirrors": {name: project.mirrors.get(name, "") for name in _MIRRORS},
    }
    rendered = {
        "compose.yaml": fill("compose/compose.yaml.j2", values),
        "compose.notebook.yaml": fill("compose/compose.notebook.yaml.j2", values),
        "compose.cluster.yaml": fill("compose/compose.cluster.yaml.j2", values),
        ".env.example": fill("compose/env.example.j2", values),
        "docker/notebook/Dockerfile": fill("compose/notebook.Dockerfile.j2", values),
        "docker/notebook/requirements.txt": _notebook_requirements(stack),
    }
    if stack.cuda is not None:
        rendered["compose.gpu.yaml"] = fill("compose/compose.gpu.yaml.j2", values)
        rendered["docker/gpu-access.yaml"] = fill("compose/gpu-access.yaml.j2", values)
    return rendered


def _plain(what: str, value: str) -> str:
    """A value that YAML, Compose (`$`) and the Dockerfile all take as it is."""
    if not _PLAIN.fullmatch(value):
        raise UsageError(
            f"the {what} would be {value!r}: that cannot be used in a compose file"
        )
    return value


def _notebook_requirements(stack: Stack) -> str:
    """JupyterLab and all beneath it, hashed: what some Python on the stack's platform needs. Its base can change."""
    text = resources.text("templates", "compose/notebook.txt")
    header = f"# JupyterLab. {NOTICE}\n"
    environments = []
    for minor in _PYTHON_MINORS:
        python = Version(f"{stack.python.major}.{minor}")
        other = replace(stack, python=python)
        environments.append(cast("dict[str, str]", markers(other)))
    return header + "".join(_fitting(text, environments))


def _fitting(text: str, environments: Sequence[dict[str, str]]) -> Iterator[str]:
    """The entries of a hashed requirements file that one of these environments needs, each with its hashes."""
    for entry, marker in _parsed(text):
        if _is_needed(marker, environments):
            yield entry


def _is_needed(marker: Marker | None, environments: Sequence[dict[str, str]]) -> bool:
    if marker is None:
        return True
    return any(map(marker.evaluate, environments))


@cache
def _parsed(text: str) -> tuple[tuple[str, Marker | None], ...]:
    """The entries of a hashed requirements file and their markers; every lock of a repository asks for the same."""
    entries = []
    for match in _ENTRY.finditer(text):
        entry = match[0]
        first_line, _, _ = entry.partition("\n")
        requirement = Requirement(first_line.removesuffix("\\"))
        entries.append((entry, requirement.marker))
    return tuple(entries)
