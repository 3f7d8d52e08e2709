"""bounds.json: the numbers that decide, the exceptions with their reasons, and how long a check may take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("bounds.json")
DEADLINE = 120  # seconds, for a check without one in bounds.json


@dataclass(frozen=True)
class Limits:
    """The content of bounds.json."""

    suite: str  # the version of the suite
    bounds: dict[str, dict[str, float]]  # id of a check → {"min", "max"}
    exceptions: dict[str, list[dict[str, Any]]]
    outside: dict[str, dict[str, float]]  # bounds of the host's own checks
    patience: float  # how many times as long a check may take on a busy machine
    deadlines: dict[str, int]  # seconds on an idle machine

    def seconds_for(self, check_id: str) -> int:
        """How long a check may take on an idle machine."""
        return self.deadlines.get(check_id, DEADLINE)


def read_limits(file: Path = FILE) -> Limits:
    document = json.loads(file.read_text(encoding="utf-8"))
    return Limits(**document)
