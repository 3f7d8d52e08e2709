"""CUDA's toolkits: the drivers they ask for and the GPUs they compile for."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from facts import Row
from supplement import SUPPLEMENT
from survey.cells import evidence, source, version, weakest


def toolkit_row(row: Mapping[str, Any]) -> Row:
    """`13.2 Update 2` is 13.2.2; a number in brackets is the survey's own."""
    named = re.search(r"\(([0-9.]+)[);]", row["cuda"])
    found = re.match(r"([0-9]+\.[0-9]+)(?: (GA|Update ([0-9])))?", row["cuda"])
    assert found, row
    line, update = found[1], found[3] or "0"
    drivers = {
        name: version((row[name] or "").lstrip(">="))
        for name in ("toolkit_driver_linux", "toolkit_driver_windows")
    }
    floor = re.search(
        r"[0-9]+\.[0-9]+(\.[0-9]+)*", row["min_driver_linux_minor_compat"]
    )
    before_minors = row["min_driver_linux_minor_compat"].startswith(
        "="
    )  # its own driver, or a newer one
    return {
        "cuda": named[1] if named else f"{line}.{update}" if found[2] else line,
        "name": found[0],
        "driver": drivers["toolkit_driver_linux"],
        "driver_windows": drivers["toolkit_driver_windows"],
        "driver_floor": drivers["toolkit_driver_linux"]
        if before_minors or floor is None
        else floor[0],
        "status": weakest(row["status"], row),
        "source": source(row["source"]),
    }


def compatibility_row(row: Mapping[str, Any], survey: Mapping[str, Any]) -> Row:
    """A statement of the survey beside what `supplement.toml` makes of it for programs."""
    if "from" not in row:
        return {**row, "checked": SUPPLEMENT["checked"]}
    found = next(
        (
            fact
            for fact in survey["table2b_driver_facts"]
            if fact["fact"].startswith(row["from"])
        ),
        None,
    )
    if found is None:
        sys.exit(f"error: no statement of the survey begins with {row['from']!r}")
    own = {name: value for name, value in row.items() if name != "from"}
    return {**own, "says": found["fact"], **evidence(found)}


def architecture_row(row: Mapping[str, Any]) -> Row:
    """What is only deprecated is not dropped."""
    dropped = "" if "still built" in row["dropped"] else row["dropped"]
    return {
        "cuda": row["cuda"],
        "added": re.findall(r"sm_[0-9]+", row["added"].split("(renamed")[0]),
        "dropped": re.findall(r"sm_[0-9]+", dropped.split(": minimum")[0]),
        **evidence(row),
    }
