"""What the package index has for some requirements, as uv reports it."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from envbuilder.errors import EngineError
from envbuilder.files import read_text, temporary_folder, write_file
from envbuilder.grammar import JsonObject
from envbuilder.lock.known_sources import NO_SOURCES, KnownSources
from envbuilder.lock.torch_index import TorchIndex
from envbuilder.lock.uv_compile import (
    CONSTRAINTS,
    EXCLUDES,
    PROJECT,
    PYLOCK,
    REQUIREMENTS,
    Uv,
    compile_argv,
    project_text,
)
from envbuilder.model import Stack
from envbuilder.network import find_network_cause
from envbuilder.processes import Completed

_NO_CACHE = "Failed to initialize cache"
_DISK_FULL = "No space left on device"
_PREFIX = re.compile(r"^(error|cause|×|╰─▶|hint):?\s*")
_YANKED = re.compile(
    r"warning: `([A-Za-z0-9._-]+)==[^`]+` is yanked(?: \(reason: \"(.*)\"\))?"
)
_LONGEST_REASON = 200  # characters of what the index says about a yanked release


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAnswer:
    """The parsed pylock document (None: uv found no solution), and what uv wrote to stderr."""

    document: JsonObject | None
    stderr: str

    @property
    def causes(self) -> list[str]:
        """uv's own words, without its prefixes and hints about its own options."""
        return _causes(self.stderr)


def ask_index(
    uv: Uv,
    stack: Stack,
    requirements: Sequence[str],
    *,
    alone: bool = False,
    known: KnownSources = NO_SOURCES,
) -> IndexAnswer:
    """What the index has for these requirements, as of the stack's day, for its Python and platform.

    `alone`: without what they depend on. `known`: packages that are not wheels of the index. Raises `EngineError` if
    the index cannot be reached.
    """
    with temporary_folder("lock") as folder:
        index = uv.index_for(stack)
        lines = known.translate(requirements)
        if index:
            write_file(folder / PROJECT, project_text(index, lines))
        else:
            _write_lines(folder / REQUIREMENTS, lines)
        _write_lines(folder / EXCLUDES, stack.excluded)
        if stack.constraints:
            _write_lines(folder / CONSTRAINTS, stack.constraints)
        wheels_only = not known.newest
        argv = compile_argv(
            uv,
            stack,
            folder,
            alone=alone,
            wheels_only=wheels_only,
        )
        argv += known.arguments(folder)
        completed = uv.run(argv)
        return read_answer(completed, folder, index)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    text = ""
    for line in lines:
        text += f"{line}\n"
    write_file(path, text)


def read_answer(
    completed: Completed, folder: Path, index: TorchIndex | None = None
) -> IndexAnswer:
    """What uv wrote into `folder`; `index` is that of the torch family.

    Raises `EngineError` if an index could not be reached.
    """
    stderr = completed.stderr
    if completed.returncode == 0:
        document = tomllib.loads(read_text(folder / PYLOCK))
        return IndexAnswer(document=document, stderr=stderr)
    if _NO_CACHE in stderr and _DISK_FULL not in stderr:
        raise EngineError(
            "uv cannot resolve: its cache folder cannot be created or written",
            problems=_causes(stderr),
            hint="choose a folder that you can write: `export UV_CACHE_DIR=/tmp/uv-cache`",
        )
    if _DISK_FULL in stderr:
        raise EngineError(
            "uv cannot resolve: the disk is full",
            problems=_causes(stderr),
            hint="free space for temporary files (`TMPDIR`) and uv's cache (`UV_CACHE_DIR`)",
        )
    failure = find_network_cause(stderr)
    if failure:
        cause, hint = failure
        subject = "the package index"
        if index and index.url in stderr:
            subject = index.text
            hint += "; a mirror of this index: `--torch-index URL`"
        raise EngineError(
            f"{subject} cannot be reached: {cause}",
            problems=_causes(stderr),
            hint=hint,
        )
    return IndexAnswer(document=None, stderr=stderr)


def yanked_releases(stderr: str) -> dict[str, str]:
    """The releases that uv took although the index has withdrawn them: package → "was yanked: why"."""
    releases: dict[str, str] = {}
    for name, reason in _YANKED.findall(stderr):
        text = "was yanked"
        if reason:
            text += f": {reason[:_LONGEST_REASON]}"
        package = canonicalize_name(name)
        releases[package] = text
    return releases


def _causes(stderr: str) -> list[str]:
    causes = []
    for line in stderr.splitlines():
        text = line.strip()
        # uv's hints name options of uv, which the user of envbuilder cannot give.
        if text.startswith("hint"):
            continue
        text = _PREFIX.sub("", text)
        if text:
            causes.append(text)
    return causes
