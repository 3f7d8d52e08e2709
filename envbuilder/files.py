"""Files written whole or not at all, and temporary folders that do not stay when a process is killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envbuilder.errors import EnvbuilderError


def write_file(path: Path, text: str, *, executable: bool = False) -> None:
    """Replace a file whole, or leave it alone; its folders are made. Raises `EnvbuilderError` if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(text)
                stream.flush()
                temporary.chmod(0o755 if executable else 0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise EnvbuilderError(
            f"cannot write {path}: {error.strerror}", hint="is there space, and may you write there?"
        ) from error


# --- temporary folders ---------------------------------------------------------------------------------------------

_PREFIX = "envbuilder.temporary-"  # nobody calls a folder of their own so


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder that is removed when the block ends; first, those that killed processes left behind are removed.

    Whoever uses one holds a lock on it, which the kernel lifts when the process ends, however it ends.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{purpose}-") as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: nobody gets one to sweep it
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_unlocked(folder)


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder of ours that no process holds. An empty one stays: it may have just been made."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        is_ours = os.geteuid() in (0, os.fstat(descriptor).st_uid)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_ours and any(folder.iterdir()):
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
