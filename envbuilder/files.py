"""Files, read in one way and written whole or not at all, and temporary folders that are removed.

Somebody else may have created a file: a FIFO must not block, a device must not be read without end, and each of the
many ways in which reading fails is one clear error.
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
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from envbuilder.errors import EnvbuilderError, UsageError

LARGEST = 16 * 1024 * 1024  # bytes of a file; the largest lock has 100 kB
_PIECE = 1 << 16  # bytes
_LARGE_PIECE = 1 << 20
_LONGEST_NAME = 100  # characters; file systems take 255 bytes, and a suffix follows
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def read_text(
    path: Path,
    *,
    error: type[EnvbuilderError] = UsageError,
    hint: str = "",
    errors: str = "strict",
) -> str:
    """The text of a regular file, in UTF-8; `errors` as `bytes.decode` takes it."""
    return decode(
        read_bytes(path, error=error, hint=hint),
        path,
        error=error,
        hint=hint,
        errors=errors,
    )


def decode(
    content: bytes,
    path: Path,
    *,
    error: type[EnvbuilderError] = UsageError,
    hint: str = "",
    errors: str = "strict",
) -> str:
    """The text of bytes that were read from `path`."""
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as wrong:
        raise error(
            f"{path} is not UTF-8 text: byte {wrong.start} is invalid", hint=hint
        ) from wrong


def read_bytes(
    path: Path,
    *,
    limit: int = LARGEST,
    error: type[EnvbuilderError] = UsageError,
    hint: str = "",
) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises `error` with the path if it cannot be read."""
    content, _ = read_owned(path, limit=limit, error=error, hint=hint)
    return content


def read_owned(
    path: Path,
    *,
    limit: int = LARGEST,
    error: type[EnvbuilderError] = UsageError,
    hint: str = "",
) -> tuple[bytes, int]:
    """`read_bytes`, and the id of the user who owns the file."""
    try:
        # Before it is opened: opening a device can have an effect.
        _refuse_special(path, path.stat().st_mode, error, hint)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            _refuse_special(path, status.st_mode, error, hint)
            content = _read(stream, limit + 1)
    except OSError as wrong:
        raise error(f"{path} cannot be read: {wrong.strerror}", hint=hint) from wrong
    except (
        ValueError
    ) as wrong:  # NUL, or a character that the file system's encoding lacks
        raise error(f"{str(path)!r} is not a file name: {wrong}", hint=hint) from wrong
    if len(content) > limit:
        raise error(
            f"{path} is larger than {limit / 1e6:.0f} MB, too large for a file of envbuilder's",
            hint=hint,
        )
    return content, status.st_uid


def file_digest(path: Path) -> tuple[str, int]:
    """sha256 and size of a regular file, however large. Raises `UsageError` if it cannot be read."""
    digest = sha256()
    size = 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            _refuse_special(path, mode, UsageError, "")
            while piece := stream.read(_LARGE_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as wrong:
        raise UsageError(f"{path} cannot be read: {wrong.strerror}") from wrong
    return digest.hexdigest(), size


def move_file(path: Path, target: Path) -> None:
    """Put a file in the place of `target`, whole or not at all, even from another disk."""
    partial = target.with_name(f".{target.name[:_LONGEST_NAME]}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, partial)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(target, error) from error


def _read(stream: BinaryIO, most: int) -> bytes:
    """At most so many bytes, in small pieces: files in /proc/sys refuse to be read in a large one."""
    content = bytearray()
    while len(content) < most:
        size = min(_PIECE, most - len(content))
        piece = stream.read(size)
        if not piece:
            break
        content += piece
    return bytes(content)


def _refuse_special(
    path: Path, mode: int, error: type[EnvbuilderError], hint: str
) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "special")
        raise error(f"{path} is {kind}, not a file", hint=hint)


def exists(path: Path) -> bool:
    """Whether anything has that name, even a dangling link; false if that cannot be determined."""
    return os.path.lexists(path)


def is_file(path: Path) -> bool:
    """Whether it is a regular file, links followed; false if that cannot be determined."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether it is a folder, links followed; false if that cannot be determined."""
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
    """The users whose files we trust like our own: this one and, under sudo, the one who called it (`SUDO_UID`)."""
    user = os.geteuid()
    if user == 0 and sudo and sudo.isdecimal():
        return frozenset({0, int(sudo)})
    return frozenset({user})


def safe_name(text: str) -> str:
    """A file name made from foreign text: one component, never hidden, never empty."""
    name = _UNSAFE.sub("-", text).lstrip(".-")
    return name[:_LONGEST_NAME] or "image"


def refuse_links(root: Path, *names: str) -> None:
    """Raise `UsageError` if one of these paths below `root` leads out of it through a link."""
    top = _real(root)
    # The names of a build context share their folders: each is looked at once.
    checked: set[Path] = set()
    for name in names:
        place = root
        for part in Path(name).parts:
            place /= part
            if place in checked:
                continue
            checked.add(place)
            if not _real(place).is_relative_to(top):
                raise UsageError(
                    f"{place} leads out of {top}, to {_real(place)}; envbuilder writes nothing there",
                    hint=f"replace the link by a file or a folder: `rm {place}`",
                )


def refuse_foreign_folder(path: Path, users: Collection[int]) -> None:
    """Raise `UsageError` if a folder exists and belongs to none of these users."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return
    if owner not in users:
        raise UsageError(
            f"{path} belongs to another user (uid {owner}); envbuilder reads and writes nothing there",
            hint="use another folder, on the command line",
        )


def is_below(root: Path, path: Path) -> bool:
    """Whether a path leads to a place below `root`, links followed. Raises `UsageError` for links in a circle."""
    return _real(path).is_relative_to(_real(root))


def _real(path: Path) -> Path:
    """Where a path leads, links followed; the last parts need not exist."""
    try:
        return path.resolve()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # RuntimeError: links in a circle
        raise UsageError(f"{str(path)!r} leads nowhere: {error}") from error


def write_file(
    path: Path, text: str, *, executable: bool = False, keep: bool = False
) -> None:
    """Replace a file whole, or leave it alone; its folders are created. Raises `UsageError` if it cannot.

    `keep`: one that exists keeps its permissions and its owner, as a file of the user's with secrets needs.
    """
    try:
        content = text.encode("utf-8")
    except ValueError as error:  # half of a surrogate pair
        raise unwritable(path, error) from error
    write_bytes(path, content, executable=executable, keep=keep)


def write_bytes(
    path: Path, content: bytes, *, executable: bool = False, keep: bool = False
) -> None:
    """`write_file` for what is not text."""
    prefix = f".{path.name[:_LONGEST_NAME]}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=prefix, delete=False
        ) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(content)
                stream.flush()
                before = path.stat() if keep and exists(path) else None
                if before:
                    _give_to(temporary, before)
                else:
                    temporary.chmod(0o755 if executable else 0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def _give_to(path: Path, like: os.stat_result) -> None:
    """Give a new file the owner and the permissions of another."""
    owner = (like.st_uid, like.st_gid)
    mine = path.stat()
    if owner != (mine.st_uid, mine.st_gid):
        os.chown(path, *owner)
    mode = stat.S_IMODE(like.st_mode)
    path.chmod(mode)


def unwritable(path: Path, error: OSError | ValueError) -> UsageError:
    """The error for a path that cannot be written: the disk is full or read-only, or the path is not the user's."""
    reason = error.strerror if isinstance(error, OSError) else error
    return UsageError(
        f"cannot write {path}: {reason}",
        hint="check the free space and your permissions there",
    )


# --- temporary folders ---------------------------------------------------------------------------------------------

_MOUNTS = Path("/proc/self/mountinfo")
_NEW_SECONDS = 600
_PREFIX = "envbuilder.temporary-"  # no user names a folder like that


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder that is removed when the block ends. First, those that killed processes left behind are removed.

    The process holds a lock on it, which the kernel releases however the process ends.
    """
    sweep_temporary_folders()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{purpose}-") as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            # Without locks in the file system nobody can sweep it either.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Make it old: even if it stays empty, it may be swept once nobody holds it.
                os.utime(descriptor, (0, 0))
            yield Path(name)
        finally:
            os.close(descriptor)


def sweep_temporary_folders() -> None:
    """Remove those that killed processes left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_unlocked(folder)


def _has_mounts(folder: Path) -> bool:
    """Whether something is mounted below it, whose files must not be removed."""
    prefix = f"{folder.resolve()}/"
    for line in read_text(_MOUNTS).splitlines():
        mount_point = line.split()[4]
        if mount_point.startswith(prefix):
            return True
    return False


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder of ours that no process holds. A new and empty one stays: its process may not hold it yet."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        owner = os.fstat(descriptor).st_uid
        is_ours = os.geteuid() in (0, owner)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        age = time.time() - status.st_mtime
        is_left_behind = age >= _NEW_SECONDS or any(folder.iterdir())
        if is_ours and is_left_behind and not _has_mounts(folder):
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
