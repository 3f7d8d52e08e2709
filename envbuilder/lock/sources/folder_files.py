"""Which files of a local folder belong to its package: the same list for the same content, on every machine."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from envbuilder.errors import EngineError, UsageError
from envbuilder.files import exists, is_below, read_bytes
from envbuilder.processes import Completed

GIT_QUIET = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.directory=*"),  # nothing of the repository is run
)
"""A repository's own settings name programs that git would run."""
MOST_FILES = 20_000
MOST_BYTES = 256 * 1024 * 1024
_CACHES = frozenset({"__pycache__", ".ipynb_checkpoints", ".DS_Store"})
"""Never part of a package, wherever they are and whatever git says."""
_NOT_WALKED = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".idea", ".eggs"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox"),
    }
)
_RESULTS = frozenset({"build", "dist", "runs"})
"""At the top of a folder outside of git: what was made of it."""
Run = Callable[[Sequence[str]], Completed]


def folder_files(folder: Path, run_git: Run) -> dict[str, tuple[bytes, bool]]:
    """Relative path → content, and whether it may be executed.

    In a git repository: what git has and what it does not ignore. Raises `UsageError` for links that lead out of the
    folder, for special files, and for too many or too large ones.
    """
    names = _names_of_git(folder, run_git)
    if names is None:
        names = sorted(_names_of_walk(folder))
    files: dict[str, tuple[bytes, bool]] = {}
    size = 0
    for name in names:
        path = folder / name
        if not exists(path) or _is_junk(name):
            continue  # deleted, and not yet committed so
        _refuse_outside(folder, path)
        if path.is_dir():
            continue  # a link to a folder below, or a submodule
        content = read_bytes(path, limit=MOST_BYTES)
        size += len(content)
        if size > MOST_BYTES or len(files) >= MOST_FILES:
            raise _too_large(folder)
        files[name] = content, bool(path.stat().st_mode & stat.S_IXUSR)
    return files


def _too_large(folder: Path) -> UsageError:
    return UsageError(
        f"the package in {folder} has more than {MOST_BYTES >> 20} MB or {MOST_FILES} files",
        hint="list data and results in its .gitignore, or move them elsewhere",
    )


def _is_junk(name: str) -> bool:
    *folders, file = name.split("/")
    if file in _CACHES or file.endswith((".pyc", ".pyo")):
        return True
    for folder in folders:
        if folder in _CACHES or folder.endswith(".egg-info"):
            return True
    return False


def _refuse_outside(folder: Path, path: Path) -> None:
    if not is_below(folder, path):
        raise UsageError(
            f"{path} is a link that leads out of {folder}: its target would get into the image",
            hint=f"replace it by the file itself, or list it in .gitignore: `ls -l {path}`",
        )


def _names_of_git(folder: Path, run_git: Run) -> list[str] | None:
    """None outside a repository, or without git."""
    argv = ["git", *GIT_QUIET, "-C", str(folder), "ls-files", "-z", "--cached"]
    argv += ["--others", "--exclude-standard", "--", "."]
    try:
        completed = run_git(argv)
    except EngineError:
        return None
    if completed.returncode != 0:
        return None
    return sorted({name for name in completed.stdout.split("\0") if name})


def _names_of_walk(folder: Path) -> Iterator[str]:
    count = 0
    for place, folders, names in os.walk(folder):
        left_out = _NOT_WALKED
        if Path(place) == folder:
            left_out = _NOT_WALKED | _RESULTS
        folders[:] = [name for name in folders if name not in left_out]
        for name in names:
            count += 1
            if count > MOST_FILES:
                raise _too_large(folder)
            path = Path(place) / name
            yield path.relative_to(folder).as_posix()
