"""Folders, replaced whole: there is the old one or the new one at every instant, whatever ends the program."""

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envbuilder.errors import UsageError

_PATIENCE = 60  # seconds that another envbuilder may write into the same folder; it takes less than one
_PAUSE = 0.05
_HERE = -100  # AT_FDCWD: a path is relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
# What renameat2 answers where the kernel, or the file system as NFS, has no exchange.
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EPERM, errno.ENOTSUP})


@contextmanager
def alone(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep other envbuilders from writing into `folder` meanwhile; the folder is made. Leaves no file behind.

    Raises `UsageError` if another one does not end. Where the file system has no locks, as some NFS, nothing is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, folder, time.monotonic() + patience)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def _lock(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"another envbuilder writes to {folder}", hint="wait for it to end, or write elsewhere"
                ) from None
            time.sleep(_PAUSE)
        except OSError:
            return


def put(new: Path, target: Path, spare: Path) -> None:
    """Rename `new` to `target`; what was there, if anything, is `new` or `spare` afterwards.

    The two are exchanged in one step where the system can do that. Where it cannot, the old one comes back if
    something ends the program in between, unless that is SIGKILL.
    """
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        _rename_twice(new, target, spare)


def _exchange(new: Path, target: Path) -> bool:
    """Exchange two folders in one step; false where that cannot be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(new), _HERE, os.fsencode(target), _EXCHANGE) == 0:
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
