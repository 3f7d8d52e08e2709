"""The one uv command that decides which versions are locked; everything it depends on is in it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from envbuilder.lock.target_platform import uv_platform
from envbuilder.model import Stack
from envbuilder.processes import Completed

REQUIREMENTS = "requirements.in"
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


def compile_argv(
    uv: Uv, stack: Stack, folder: Path, *, alone: bool = False
) -> list[str]:
    """The command for the requirements in `folder`, which writes its answer there.

    `alone`: only the named packages, not what they depend on, with warnings on stderr.
    """
    argv = [
        uv.program, "pip", "compile", str(folder / REQUIREMENTS),
        "--output-file", str(folder / PYLOCK), "--format", PYLOCK,
        "--no-config", "--no-header", "--no-deps" if alone else "--quiet",
        "--python", sys.executable, "--python-version", str(stack.python),
        "--python-platform", uv_platform(stack),
        "--only-binary", ":all:", "--exclude-newer", _end_of(stack.as_of),
        "--excludes", str(folder / EXCLUDES),
        "--index-strategy", "first-index", "--keyring-provider", "disabled",
    ]  # fmt: skip
    if stack.constraints:
        argv += ["--constraints", str(folder / CONSTRAINTS)]
    return argv


def _end_of(day: date) -> str:
    """The first instant after a day in UTC. uv reads a bare date as the end of the day in the local time zone."""
    last = date.max - timedelta(days=1)
    next_day = min(day, last) + timedelta(days=1)
    return f"{next_day}T00:00:00Z"
