"""compose.yaml, the files that extend it, .env.example and the notebook's image: the stack on one machine."""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from packaging.requirements import Requirement

from envbuilder import resources
from envbuilder.errors import UsageError
from envbuilder.lock.target_platform import markers
from envbuilder.model import PYPI, BaseSource, Stack
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
_MIRRORS = ("packages", "torch", "debian", "hub")
_ENTRY = re.compile(
    r"^[a-z0-9].*\n(?: .*\n)*", re.MULTILINE
)  # a requirement and the lines with its hashes


def files(project: Project) -> Mapping[str, str]:
    """Relative path → text. Raises `UsageError` for an image or a context that cannot be used in a compose file."""
    stack = project.lock.stack
    values = {
        "notice": NOTICE,
        "name": _plain("name", stack.name),
        "image": _plain("image", project.image),
        "context": _plain("context", project.context),
        "dockerfile": _plain("Dockerfile", project.dockerfile),
        "lock": project.lock_file,
        "platform": stack.platform,
        "cuda": stack.cuda is not None,
        "own_index": stack.index != PYPI,
        "base": stack.base.reference,
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
    """JupyterLab and all beneath it, hashed: of the locked versions those that fit the stack's Python."""
    text = resources.text("templates", "compose/notebook.txt")
    header = f"# JupyterLab for Python {stack.python}. {NOTICE}\n"
    environment = cast("dict[str, str]", markers(stack))
    entries = _fitting(text, environment)
    return header + "".join(entries)


def _fitting(text: str, environment: dict[str, str]) -> Iterator[str]:
    """The entries of a hashed requirements file whose marker holds, each with its hashes."""
    for match in _ENTRY.finditer(text):
        entry = match[0]
        first_line, _, _ = entry.partition("\n")
        requirement = Requirement(first_line.removesuffix("\\"))
        marker = requirement.marker
        if marker is None or marker.evaluate(environment):
            yield entry
