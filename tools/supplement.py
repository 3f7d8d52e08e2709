"""What the survey left open or says in words that no program reads: `supplement.toml`."""

import tomllib
from pathlib import Path
from typing import Any

SUPPLEMENT: dict[str, Any] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
FLOORS = {
    row["subject"]: row["driver_floor"]
    for row in SUPPLEMENT["compatibility"]
    if row["kind"] == "minor-version"
}
"""CUDA major → the oldest driver that runs it."""
