"""The committed locks; each is read once, since records are frozen and reading one is as dear as ten small tests."""

from functools import cache
from pathlib import Path

from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import Lock


@cache
def read_preset(path: Path) -> Lock:
    """The lock in a file that no test changes."""
    return parse_lock(path.read_text(), source=str(path))
