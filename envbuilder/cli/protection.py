"""What commands check that write into somebody's folder: nothing is hidden, and nothing lost that they did not name."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.base_digest import find_digest
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock, Request
    from envbuilder.pipeline import Session
    from envbuilder.render.clashes import Obstacle
    from envbuilder.render.project import Files

_SHOWN = 20  # files in a list of what would be lost
_NAMED = 3  # files in a command
_ENOUGH = 50_000_000  # bytes of free disk; what is written has a megabyte

overwrite_option = click.option(
    "--overwrite",
    multiple=True,
    metavar="PATH",
    help="File not created by envbuilder that may be lost, or a folder of such files; repeatable.",
)


def refuse_overwriting(
    foreign: Sequence[str],
    allowed: Sequence[str],
    *,
    folders: Sequence[str] = (),
    way_out: str = "",
) -> list[str]:
    """The files that are not envbuilder's and will be lost: the user has named each of them, or a folder above it.

    Raises `UsageError` with those that nobody named. `folders`: those that are never replaced.
    """
    lost = []
    kept = []
    for name in foreign:
        if _is_covered(name, allowed):
            lost.append(name)
        else:
            kept.append(name)
    if not kept:
        return lost
    names = kept[:_SHOWN]
    if len(kept) > _SHOWN:
        names.append(f"and {len(kept) - _SHOWN} more")
    if any(_is_covered(name, folders) for name in kept):
        hint = f"move them elsewhere: {', '.join(folders)}"
    else:
        hint = f"move them{way_out}, or name what may be lost: `{_options_for(kept)}`"
    raise UsageError(
        "refusing to overwrite files not created by envbuilder; nothing was written",
        problems=names,
        hint=hint,
    )


def _is_covered(name: str, allowed: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    for text in allowed:
        place = PurePosixPath(text)
        # `.` would name everything, which is to name nothing.
        if place.parts and path.is_relative_to(place):
            return True
    return False


def _options_for(names: Sequence[str]) -> str:
    """The options that give these files up: one for each, or for each folder if they are many."""
    paths = list(names)
    if len(paths) > _NAMED:
        folders = {str(PurePosixPath(name).parent) for name in names}
        paths = sorted(folders)
    words = []
    for path in paths:
        quoted = shlex.quote(path)
        words.append(f"--overwrite {quoted}")
    return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Files that may be written: nothing of somebody else's is in their way."""

    files: "Files"
    lost: list[str]  # files that somebody has named to be overwritten
    clashes: list["Obstacle"]  # what to know before


def check_files(
    files: "Files", folder: Path, overwrite: Sequence[str], *, way_out: str = ""
) -> Checked:
    """Raises `UsageError` for files that would be lost and nobody has named, and for those that ours would hide."""
    from envbuilder.render import project
    from envbuilder.render.clashes import find_clashes

    for name in files.names:
        _refuse_file_as_folder(folder, PurePosixPath(name))
    refuse_full_or_read_only(folder, lambda: _texts_to_write(files, folder))
    lost = refuse_overwriting(
        project.foreign_files(files, folder),
        overwrite,
        folders=project.foreign_folders(files, folder),
        way_out=way_out,
    )
    clashes = find_clashes(files.others.files, folder)
    _refuse_clashes([clash for clash in clashes if clash.stops])
    return Checked(files=files, lost=lost, clashes=clashes)


def _texts_to_write(files: "Files", folder: Path) -> list[str]:
    from envbuilder.render import project

    texts = files.texts
    changed = []
    for line in project.differences(files, folder):
        _, name = line.split(": ", 1)
        if name in texts:
            changed.append(texts[name])
    return changed


def refuse_full_or_read_only(
    folder: Path, texts_to_write: Callable[[], Sequence[str]]
) -> None:
    """Raise `UsageError` if files with these texts cannot be written into a folder, or do not fit on its disk."""
    from envbuilder.files import exists

    if not exists(folder):
        return
    # On a read-only file system this is false for root, too.
    is_writable = os.access(folder, os.W_OK)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if is_writable and free > _ENOUGH:
        return
    texts = texts_to_write()
    if texts and not is_writable:
        raise UsageError(
            f"{folder.absolute()} cannot be written; nothing was written",
            hint="check your permissions there, or work in another directory",
        )
    needed = 0
    for text in texts:
        needed += len(text) + status.f_frsize
    if free < needed:
        sizes = f"{needed / 1e6:.1f} MB are needed, and {free / 1e6:.1f} MB are free"
        raise UsageError(
            f"{sizes} in {folder.absolute()}; nothing was written",
            hint="make room, or work in another directory",
        )


def _refuse_file_as_folder(folder: Path, name: PurePosixPath) -> None:
    """Raise `UsageError` if a folder that `name` goes into is a file."""
    from envbuilder.files import exists, is_folder

    for parent in name.parents:
        place = folder / parent
        if exists(place) and not is_folder(place):
            raise UsageError(
                f"{place} is a file, not a directory; nothing was written",
                hint="move it elsewhere",
            )


def _refuse_clashes(clashes: Sequence["Obstacle"]) -> None:
    if not clashes:
        return
    if len(clashes) == 1:
        clash = clashes[0]
        raise UsageError(f"{clash.problem}; nothing was written", hint=clash.remedy)
    problems = [f"{clash.problem}: {clash.remedy}" for clash in clashes]
    raise UsageError(
        "files that are here clash with those of envbuilder; nothing was written",
        problems=problems,
        hint="each line says how to go on",
    )


def note_clashes(
    clashes: Sequence["Obstacle"],
    names: Sequence[str],
    folder: Path,
    session: "Session",
) -> None:
    """Say what to know before files of these names are written, among it which new ones git would not take."""
    from envbuilder.files import exists
    from envbuilder.render.clashes import ignore_clashes

    new = [name for name in names if not exists(folder / name)]
    ignored = ignore_clashes(new, folder) if new else []
    for clash in [*clashes, *ignored]:
        session.console.note(f"{clash.problem}; {clash.remedy}")


def make_checked_lock(
    request: "Request", session: "Session", check: Callable[["Lock"], Any]
) -> "Lock":
    """A new lock. `check` gets one without wheels first: what it refuses is refused before anything is downloaded."""
    from envbuilder import pipeline
    from envbuilder.render import project

    stack = pipeline.resolve_lockable(request, session)
    check(project.sketch(stack, session.catalog.date.isoformat()))
    digest = find_digest(session, stack.base)
    return pipeline.lock_stack(request, stack, session, digest)
