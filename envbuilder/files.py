"""Files, read in one way and written whole or not at all, and temporary folders that do not stay.

Somebody else may have made what is read: a FIFO must not block, a device must not be read without end, and each of the
many ways in which a file cannot be read is one clear error.
"""

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from envbuilder.errors import EnvbuilderError, UsageError

LARGEST = 16 * 1024 * 1024  # bytes of a file that is read; the largest lock has 100 kB
_PIECE = 1 << 16  # bytes
_LONGEST_NAME = 100  # characters; file systems take 255 bytes, and a suffix follows
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def read_text(path: Path, *, error: type[EnvbuilderError] = UsageError, hint: str = "", errors: str = "strict") -> str:
    """The text of a regular file, in UTF-8; `errors` as `bytes.decode` takes it."""
    return decode(read_bytes(path, error=error, hint=hint), path, error=error, hint=hint, errors=errors)


def decode(
    content: bytes, path: Path, *, error: type[EnvbuilderError] = UsageError, hint: str = "", errors: str = "strict"
) -> str:
    """The text of what was read from `path`."""
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as wrong:
        raise error(f"{path} is not text in UTF-8: byte {wrong.start} is wrong", hint=hint) from wrong


def read_bytes(path: Path, *, limit: int = LARGEST, error: type[EnvbuilderError] = UsageError, hint: str = "") -> bytes:
    """The content of a regular file of at most `limit` bytes. Whatever prevents that is an `error` naming the path."""
    return read_owned(path, limit=limit, error=error, hint=hint)[0]


def read_owned(
    path: Path, *, limit: int = LARGEST, error: type[EnvbuilderError] = UsageError, hint: str = ""
) -> tuple[bytes, int]:
    """`read_bytes`, and the id of the user whom the file that was read belongs to."""
    try:
        _refuse_special(path, path.stat().st_mode, error, hint)  # before it is opened: opening a device can act
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            _refuse_special(path, status.st_mode, error, hint)
            content = _read(stream, limit + 1)
    except OSError as wrong:
        raise error(f"{path} cannot be read: {wrong.strerror}", hint=hint) from wrong
    except ValueError as wrong:  # NUL, or a character that the file system's encoding lacks
        raise error(f"{str(path)!r} is no name of a file: {wrong}", hint=hint) from wrong
    if len(content) > limit:
        raise error(f"{path} is larger than {limit / 1e6:.0f} MB; that is no file of envbuilder's", hint=hint)
    return content, status.st_uid


def _read(stream: BinaryIO, most: int) -> bytes:
    """At most so many bytes, in small pieces: /proc/sys makes room for all that is asked for at once, and refuses."""
    content = bytearray()
    while len(content) < most:
        piece = stream.read(min(_PIECE, most - len(content)))
        if not piece:
            break
        content += piece
    return bytes(content)


def _refuse_special(path: Path, mode: int, error: type[EnvbuilderError], hint: str) -> None:
    if not stat.S_ISREG(mode):
        raise error(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file", hint=hint)


def exists(path: Path) -> bool:
    """Whether there is anything of that name, even a link that leads nowhere; false where that cannot be told."""
    return os.path.lexists(path)


def is_file(path: Path) -> bool:
    """Whether it is a regular file, links followed; false where that cannot be told."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether it is a folder, links followed; false where that cannot be told."""
    return stat.S_ISDIR(_mode(path))


def is_executable(path: Path) -> bool:
    """Whether its owner may run it."""
    return bool(_mode(path) & stat.S_IXUSR)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def own_users(sudo: str | None) -> frozenset[int]:
    """The users whose files are as good as our own: this one and, as root by sudo (`SUDO_UID`), the one who asked."""
    user = os.geteuid()
    if user == 0 and sudo and sudo.isdecimal():
        return frozenset({0, int(sudo)})
    return frozenset({user})


def safe_name(text: str) -> str:
    """A name for a file from text that comes from outside: one component, never hidden, never empty."""
    return _UNSAFE.sub("-", text).lstrip(".-")[:_LONGEST_NAME] or "image"


def refuse_links(root: Path, *names: str) -> None:
    """Raise `UsageError` if one of these paths below `root` leads out of it by a link: nothing is written there."""
    top = _real(root)
    for name in names:
        place = root
        for part in Path(name).parts:
            place /= part
            if not _real(place).is_relative_to(top):
                raise UsageError(
                    f"{place} leads out of {top}, to {_real(place)}; envbuilder writes nothing there",
                    hint=f"put a folder or a file in the place of the link: `rm {place}`",
                )


def refuse_foreign_folder(path: Path, users: Collection[int]) -> None:
    """Raise `UsageError` if a folder that is there belongs to none of these users."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return
    if owner not in users:
        raise UsageError(
            f"{path} belongs to another user (uid {owner}); envbuilder reads and writes nothing there",
            hint="name a folder of your own on the command line",
        )


def is_below(root: Path, path: Path) -> bool:
    """Whether a path leads to a place below `root`, links followed. Raises `UsageError` for one that leads nowhere."""
    return _real(path).is_relative_to(_real(root))


def _real(path: Path) -> Path:
    """Where a path leads, links followed; the last parts need not be there."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        raise UsageError(f"{str(path)!r} leads nowhere: {error}") from error


def write_file(path: Path, text: str, *, executable: bool = False) -> None:
    """Replace a file whole, or leave it alone; its folders are made. Raises `UsageError` if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name[:_LONGEST_NAME]}-", delete=False, encoding="utf-8", newline="\n"
        ) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(text)
                stream.flush()
                temporary.chmod(0o755 if executable else 0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError | ValueError) -> UsageError:
    """The error for what cannot be written: the disk is full or read-only, or the path is not the user's."""
    told = error.strerror if isinstance(error, OSError) else error
    return UsageError(f"cannot write {path}: {told}", hint="is there space, and may you write there?")


# --- temporary folders ---------------------------------------------------------------------------------------------

_MOUNTS = Path("/proc/self/mountinfo")
_NEW_SECONDS = 600
_PREFIX = "envbuilder.temporary-"  # nobody calls a folder of their own so


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder that is removed when the block ends; first, those that killed processes left behind are removed.

    Whoever uses one holds a lock on it, which the kernel lifts when the process ends, however it ends.
    """
    sweep_temporary_folders()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{purpose}-") as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: nobody gets one to sweep it
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.utime(descriptor, (0, 0))  # no longer new: it may be swept, though empty, once nobody holds it
            yield Path(name)
        finally:
            os.close(descriptor)


def sweep_temporary_folders() -> None:
    """Remove those that killed processes left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_unlocked(folder)


def _has_mounts(folder: Path) -> bool:
    """Whether something is mounted there: what is in it belongs to others."""
    places = [line.split()[4] for line in read_text(_MOUNTS).splitlines()]
    return any(place.startswith(f"{folder.resolve()}/") for place in places)


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder of ours that no process holds. A new and empty one stays: it may have just been made."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        is_ours = os.geteuid() in (0, os.fstat(descriptor).st_uid)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_new = time.time() - os.fstat(descriptor).st_mtime < _NEW_SECONDS
        if is_ours and not _has_mounts(folder) and (any(folder.iterdir()) or not is_new):
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
