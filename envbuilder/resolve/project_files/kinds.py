"""Which reader a file of a project has, by its name."""

import re
from collections.abc import Callable, Collection, Iterator

from envbuilder.resolve.project_files.conda_environment import read_environment
from envbuilder.resolve.project_files.docker_file import read_dockerfile
from envbuilder.resolve.project_files.lock_files import (
    read_poetry_lock,
    read_pylock,
    read_uv_lock,
)
from envbuilder.resolve.project_files.project_toml import read_pipfile, read_pyproject
from envbuilder.resolve.project_files.requirements_txt import read_requirements
from envbuilder.resolve.project_files.statements import FileProblem, FileStatement

PROJECT_FILES = (
    "pyproject.toml",
    "requirements.txt",
    "environment.yml",
    "environment.yaml",
    "Pipfile",
    "Dockerfile",
)
"""The names that `envbuilder init` looks for in a folder, the best one first."""

Reader = Callable[[str, str], Iterator[FileStatement]]

_READERS: tuple[tuple[str, Reader], ...] = (
    (r"uv\.lock", read_uv_lock),
    (r"pylock(?:\.[a-z0-9_-]+)?\.toml", read_pylock),
    (r"poetry\.lock", read_poetry_lock),
    (r"pipfile", read_pipfile),
    (r".*\.ya?ml", read_environment),
    (
        r"(?:dockerfile|containerfile)(?:\..*)?|.*\.(?:dockerfile|containerfile)",
        read_dockerfile,
    ),
    (r".*\.(?:txt|in|pip)", read_requirements),
)
_HINTS = {
    "setup.py": "it is a program, which is not run",
    "setup.cfg": "setup.cfg is not read",
    "pipfile.lock": "name the Pipfile",
    "conda-lock.yml": "name the environment.yml",
}
KINDS = "requirements.txt, pyproject.toml, uv.lock, pylock.toml, poetry.lock, Pipfile, environment.yml or Dockerfile"


def read_project_file(
    text: str, file: str, chosen: Collection[str] = ()
) -> list[FileStatement]:
    """What a file says, by the reader for its name. Raises `FileProblem`."""
    name = file.rsplit("/", maxsplit=1)[-1].lower()
    reason = _HINTS.get(name)
    if reason:
        raise FileProblem(f"{file}: {reason}; name one of {KINDS}")
    if name == "pyproject.toml":
        return list(read_pyproject(text, file, chosen))
    if chosen:
        raise FileProblem(f"{file}: only a pyproject.toml has extras and groups")
    for pattern, reader in _READERS:
        if re.fullmatch(pattern, name):
            return list(reader(text, file))
    raise FileProblem(f"{file}: its name is none of {KINDS}")


def read_constraints(text: str, file: str) -> list[FileStatement]:
    """What a constraints file says."""
    return list(read_requirements(text, file, constraints=True))
