"""Locking against the real index, for days that are old: what the index serves for these does not change any more.

Every committed lock is locked against the recorded index in tests/cli/test_lock.py. A young day is not locked here: a
yanked or late file of the last weeks is no fault of this project; `lock --check` and `catalog verify` report it.
"""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from envbuilder import catalog
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import BaseSource, Lock

OLD = timedelta(days=60)
LOCKS = [
    parse_lock(path.read_text(), source=str(path))
    for path in sorted(
        (Path(__file__).parents[2] / "docker" / "images").glob(f"*/{LOCK_FILE}")
    )
]
SETTLED = [lock for lock in LOCKS if lock.stack.as_of <= catalog.load().date - OLD]


def test_there_are_locks_of_old_days() -> None:
    assert {lock.stack.cuda_line for lock in SETTLED} >= {"11.7", "12.1"}


@pytest.mark.parametrize("lock", SETTLED, ids=lambda lock: lock.stack.name)
def test_old_locks_are_reproduced_from_the_real_index(
    tmp_path: Path, root: Path, lock: Lock
) -> None:
    stack = lock.stack
    words = [
        "--cuda",
        stack.cuda_line,
        "--torch",
        str(stack.torch),
        "--flavour",
        stack.flavour,
    ]
    words += (
        ["--base", "bootstrap"] if stack.base.source is BaseSource.BOOTSTRAP else []
    )
    done = subprocess.run(
        [sys.executable, "-m", "envbuilder", "lock", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / LOCK_FILE).read_text() == (
        root / "docker" / "images" / stack.name / LOCK_FILE
    ).read_text()
