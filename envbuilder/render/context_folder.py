"""A build context on disk: how a folder differs from it, and writing it whole or not at all."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from envbuilder import resources
from envbuilder.errors import EnvbuilderError, UsageError
from envbuilder.files import (
    exists,
    is_executable,
    is_folder,
    read_bytes,
    read_text,
    refuse_links,
    unwritable,
)
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Context
from envbuilder.render import folders
from envbuilder.render.context import IMAGES, names_of_lock, place_of

_OUR_FILES = (LOCK_FILE, "wheels.py")
"""A folder that holds one of these was written by envbuilder."""
_COMMON_NAME = "entrypoint"
"""So was one with this, but only with another of our names: many a folder has a file called so."""
_MOVE_HINT = "move it elsewhere"


def stale_files(context: Context, folder: Path) -> Iterator[str]:
    """How `folder` differs from what would be written: `missing`, `stale` and `not executable`, one line a file."""
    for name in context.names:
        path = folder / name
        content = _read(path) if exists(path) else None
        if content is None:
            yield f"missing: {name}"
        elif content != _bytes(context, name):
            yield f"stale: {name}"
        elif name in context.executable and not is_executable(path):
            yield f"not executable: {name}"


def differences(context: Context, folder: Path) -> Iterator[str]:
    """`stale_files`, and the files next to ours: `not ours`."""
    yield from stale_files(context, folder)
    for name in _existing_files(context, folder):
        if name not in context.names:
            yield f"not ours: {name}"


def differing_places(context: Context, folder: Path) -> dict[str, list[str]]:
    """The places that are to be written → the files of each."""
    files_of: dict[str, list[str]] = {}
    for line in differences(context, folder):
        _, name = line.split(": ", 1)
        place = _place(name)
        files_of[place] = []
    for name in context.names:
        place = _place(name)
        if place in files_of:
            files_of[place].append(name)
    return dict(sorted(files_of.items()))


def foreign_files(context: Context, folder: Path) -> list[str]:
    """The files not created by envbuilder: those next to our own, and all of a folder that holds none of ours."""
    places = foreign_places(context, folder)
    ours = {*context.names}
    for place in _places(context.names):
        ours |= _names_before(folder, place)
    foreign = []
    for name in _existing_files(context, folder):
        if name not in ours or _place(name) in places:
            foreign.append(name)
    return foreign


def _names_before(folder: Path, place: str) -> set[str]:
    """The files that the lock in a place brought with it and another one may not have."""
    path = folder / place / LOCK_FILE
    if not exists(path):
        return set()
    try:
        lock = parse_lock(read_text(path), source=str(path))
    except EnvbuilderError:
        return set()
    return names_of_lock(lock) if place_of(lock.stack) == place else set()


def foreign_places(context: Context, folder: Path) -> list[str]:
    """The places that hold files and none of ours: `write_context` refuses to replace those."""
    places = []
    for place in _places(context.names):
        if not _is_ours(context, folder, place):
            places.append(place)
    return places


def write_context(context: Context, folder: Path) -> None:
    """Put the folders of a context into `folder`, each whole: a reader sees the old one or the new one.

    One that is right already is left alone. Raises `UsageError` rather than replace one not created by envbuilder, or
    follow a link out of `folder`.
    """
    refuse_links(folder, *_places(context.names))
    if exists(folder) and not is_folder(folder):
        raise UsageError(f"{folder} is a file, not a directory", hint=_MOVE_HINT)
    try:
        with folders.alone(folder):
            _write(context, folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _write(context: Context, folder: Path) -> None:
    places = differing_places(context, folder)
    for place in places:
        target = folder / place
        if exists(target) and not is_folder(target):
            raise UsageError(f"{target} is a file, not a directory", hint=_MOVE_HINT)
        if not _is_ours(context, folder, place):
            raise UsageError(
                f"{target} holds files not created by envbuilder",
                hint="move them elsewhere",
            )
    for place, names in places.items():
        paths = {name.removeprefix(f"{place}/"): name for name in names}
        _replace(folder / place, paths, context)


def _place(name: str) -> str:
    """The folder, all ours, that a file of a context is in: "images/cu117-…", "install" or "payload"."""
    parts = name.split("/")
    depth = 2 if parts[0] == IMAGES else 1
    return "/".join(parts[:depth])


def _places(names: Iterable[str]) -> list[str]:
    return sorted({_place(name) for name in names})


def _existing_files(context: Context, folder: Path) -> list[str]:
    """The files that are in the context's places now, ours or not."""
    names = []
    for place in _places(context.names):
        for name in resources.files_in(folder / place):
            names.append(f"{place}/{name}")
    return names


def _is_ours(context: Context, folder: Path, place: str) -> bool:
    """Whether a folder may be replaced: it is empty, or has one of `_OUR_FILES`, or a file that equals ours."""
    existing = resources.files_in(folder / place)
    if not existing or any(name in existing for name in _OUR_FILES):
        return True
    shared = [name for name in existing if f"{place}/{name}" in context.names]
    if _COMMON_NAME in shared and len(shared) > 1:
        return True
    for name, path in existing.items():
        expected = _bytes(context, f"{place}/{name}")
        if expected is not None and _read(path) == expected:
            return True
    return False


def _read(path: Path) -> bytes | None:
    """A file's content; None if it has vanished meanwhile. Raises `UsageError` if it cannot be read."""
    try:
        return read_bytes(path)
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _bytes(context: Context, name: str) -> bytes | None:
    return context.content(name) if name in context.names else None


def _replace(target: Path, names: Mapping[str, str], context: Context) -> None:
    """Write files, given as path in `target` → name in the context, in the place of `target`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}-", dir=target.parent
        ) as folder:
            new = Path(folder) / "new"
            spare = Path(folder) / "old"
            for path, name in names.items():
                file = new / path
                _write_file(file, name, context)
            folders.put(new, target, spare)
    except OSError as error:
        raise unwritable(target, error) from error


def _write_file(path: Path, name: str, context: Context) -> None:
    mode = 0o755 if name in context.executable else 0o644
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(context.content(name))
    path.chmod(mode)
