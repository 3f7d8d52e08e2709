"""bounds.json: the numbers that decide, the exceptions with their reasons, and how long a check may take."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection

BOUNDS = Path(__file__).with_name("bounds.json")
DEADLINE = 120  # seconds, for a check without one in bounds.json


@dataclass(frozen=True)
class Excuse:
    """An exception to a check of libraries."""

    library: str  # a pattern of its path below site-packages
    reason: str
    may_lack: Collection[str] = ()  # patterns of the names that it needs
    variants: bool = False  # a package has several for one purpose, and one is enough

    def covers(self, library: str) -> bool:
        return fnmatch.fnmatchcase(library, self.library)

    def allows(self, library: str, missing: Collection[str]) -> bool:
        """Whether a library may lack these names. One that lacks nothing and does not load is broken in itself."""
        if not missing or not self.covers(library):
            return False
        return all(map(self.may_be_missing, missing))

    def may_be_missing(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.may_lack)


@dataclass(frozen=True)
class Limits:
    """The content of bounds.json."""

    suite: str  # the version of the suite
    bounds: dict[str, dict[str, float]]  # id of a check → {"min", "max"}
    exceptions: dict[str, list[Excuse]]  # id of a check → what it passes over
    outside: dict[str, dict[str, float]]  # bounds of the host's own checks
    patience: float  # how many times as long a check may take on a busy machine
    deadlines: dict[str, int]  # seconds on an idle machine

    def seconds_for(self, check_id: str) -> int:
        """How long a check may take on an idle machine."""
        return self.deadlines.get(check_id, DEADLINE)


def read_limits() -> Limits:
    text = BOUNDS.read_text(encoding="utf-8")
    return parse_limits(json.loads(text))


def parse_limits(document: dict[str, Any]) -> Limits:
    exceptions = {}
    for check_id, rows in document["exceptions"].items():
        exceptions[check_id] = [Excuse(**row) for row in rows]
    fields = dict(document, exceptions=exceptions)
    return Limits(**fields)
