"""How a cell of the survey is read, whatever its table."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from facts import Row

STATUSES = ("verified", "documented", "inferred")


def evidence(row: Mapping[str, Any]) -> Row:
    """Status and source of a row."""
    return {"status": weakest(row["status"], row), "source": source(row["source"])}


def weakest(text: str, row: object = None) -> str:
    """`documented + verified pins` is documented: the weakest word; but what begins with `verified` is verified.

    Exits if there is no such word.
    """
    named = [word for word in STATUSES if word in text]
    if not named:
        sys.exit(
            f"error: {row or text} has no status that is one of {', '.join(STATUSES)}"
        )
    return named[-1] if text.split(maxsplit=1)[0] != "verified" else "verified"


def source(text: str) -> str:
    """A source without the hosts of package indexes: the catalog names an index by a word."""
    text = re.sub(
        r"https://packages\.[a-z]+\.com/(\S+)", r"Ubuntu's package pages: \1", text
    )
    return re.sub(r"\bdownload\.[a-z]+\.[a-z]+", "PyTorch's own index", text)


def version(text: str | None) -> str | None:
    """The version at the start of a cell that goes on with a remark, or None."""
    found = re.match(r"[0-9]+(\.[0-9]+)+", text or "")
    return found[0] if found else None


def line_of(release: str) -> str:
    """`2.5.1` is of the line 2.5."""
    return ".".join(release.split(".")[:2])
