"""Folders, replaced whole: at every instant the old one or the new one exists, even if the program is killed."""

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envbuilder.errors import UsageError

_PATIENCE = 60  # seconds to wait for another envbuilder that writes to the same folder; it takes less than one
_PAUSE = 0.05
_HERE = -100  # AT_FDCWD: paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
# Errors of renameat2 if the kernel or the file system (NFS) cannot exchange.
_CANNOT = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EPERM, errno.ENOTSUP}
)


@contextmanager
def alone(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep other envbuilders from writing to `folder` meanwhile; the folder is created. Leaves no file behind.

    Raises `UsageError` if another one does not finish. Without locks in the file system (some NFS) there is no
    protection.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, folder, time.monotonic() + patience)
        yield
    finally:
        os.close(descriptor)  # releases the lock


def _lock(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"another envbuilder writes to {folder}",
                    hint="wait for it to finish, or write elsewhere",
                ) from None
            time.sleep(_PAUSE)
        except OSError:
            return


def put(new: Path, target: Path, spare: Path) -> None:
    """Rename `new` to `target`; the previous folder, if any, is at `new` or `spare` afterwards.

    The two are exchanged in one step if the system can do that. If not, the old one is restored when something ends
    the program in between, except SIGKILL.
    """
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        _rename_twice(new, target, spare)


def _exchange(new: Path, target: Path) -> bool:
    """Exchange two folders in one step; false if the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    failed = rename(_HERE, os.fsencode(new), _HERE, os.fsencode(target), _EXCHANGE)
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _rename_twice(new: Path, target: Path, spare: Path) -> None:
    try:
        target.rename(spare)
        new.rename(target)
    except BaseException:
        if not target.exists():
            with suppress(FileNotFoundError):
                spare.rename(target)
        raise
