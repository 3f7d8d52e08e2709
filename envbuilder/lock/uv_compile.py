"""The one uv command that decides which versions are locked; everything it depends on is in it."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.target_platform import uv_platform
from envbuilder.lock.torch_index import FAMILY, TorchIndex, torch_index
from envbuilder.model import Stack
from envbuilder.network import TORCH_INDEX
from envbuilder.processes import Completed

REQUIREMENTS = "requirements.in"
PROJECT = "pyproject.toml"
EXCLUDES = "excludes.txt"
CONSTRAINTS = "constraints.txt"
PYLOCK = "pylock.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """How to call uv: its path, a function that runs it, and the index it uses (None: uv's own default).

    `run` hands the address to uv in the environment (`network.uv_environment`): it may hold a password, and the
    arguments of a command can be read by everybody on the machine.
    """

    program: str
    run: Callable[[Sequence[str]], Completed]
    index_url: str | None = None
    torch_index: str | None = None  # as the user gave it; None: the stack's own address
    client: IndexClient | None = None  # for what uv does not tell: sizes, and hashes

    def index_for(self, stack: Stack) -> TorchIndex | None:
        """The index of the stack's torch family, if uv must not look for it with everything else."""
        return torch_index(stack, self.torch_index, package_index=self.index_url)


def compile_argv(
    uv: Uv,
    stack: Stack,
    folder: Path,
    *,
    alone: bool = False,
    wheels_only: bool = True,
) -> list[str]:
    """The command for the requirements in `folder`, which writes its answer there.

    `alone`: only the named packages, not what they depend on, with warnings on stderr. `wheels_only`: without source
    packages.
    """
    index = uv.index_for(stack)
    source = PROJECT if index else REQUIREMENTS
    # The days of PyTorch's index are those of a second upload, or there are none; the family is pinned anyway.
    days = []
    for name in FAMILY if index else ():
        days += ["--exclude-newer-package", f"{name}=false"]
    for package in stack.package_days:
        end = _end_of(package.as_of)
        days += ["--exclude-newer-package", f"{package.name}={end}"]
    kinds = ["--only-binary", ":all:"] if wheels_only else []
    argv = [
        uv.program, "pip", "compile", str(folder / source),
        "--output-file", str(folder / PYLOCK), "--format", PYLOCK,
        "--no-config", "--no-header", "--no-deps" if alone else "--quiet",
        "--python", sys.executable, "--python-version", str(stack.python),
        "--python-platform", uv_platform(stack),
        *kinds, "--exclude-newer", _end_of(stack.as_of), *days,
        "--excludes", str(folder / EXCLUDES),
        "--index-strategy", "first-index", "--keyring-provider", "disabled",
    ]  # fmt: skip
    for name in _named_by_user(stack):
        argv += ["--prerelease-package", f"{name}=explicit"]
    if stack.constraints:
        argv += ["--constraints", str(folder / CONSTRAINTS)]
    return argv


def _named_by_user(stack: Stack) -> list[str]:
    """The user's packages: a pre-release of one is taken only if a line names one.

    Not so for what they depend on: there are packages of which all releases are pre-releases.
    """
    names = set()
    for line in stack.extras:
        name = Requirement(line).name
        names.add(canonicalize_name(name))
    return sorted(names)


def _end_of(day: date) -> str:
    """The first instant after a day in UTC. uv reads a bare date as the end of the day in the local time zone."""
    last = date.max - timedelta(days=1)
    next_day = min(day, last) + timedelta(days=1)
    return f"{next_day}T00:00:00Z"


def project_text(index: TorchIndex, requirements: Sequence[str]) -> str:
    """The requirements as a pyproject.toml that routes the torch family, and nothing else, to an index of its own.

    uv asks an explicit index only for the packages that name it. It takes the login from the environment
    (`network.uv_environment`).
    """
    lines = ["[project]", 'name = "stack"', 'version = "0"', "dependencies = ["]
    for requirement in requirements:
        lines.append(f"  {json.dumps(requirement)},")
    lines += ["]", "[tool.uv.sources]"]
    for name in FAMILY:
        lines.append(f'{name} = {{ index = "{TORCH_INDEX}" }}')
    lines += ["[[tool.uv.index]]", f'name = "{TORCH_INDEX}"']
    lines += [f"url = {json.dumps(index.url)}", "explicit = true"]
    if index.flat:
        lines.append('format = "flat"')
    return "\n".join([*lines, ""])
