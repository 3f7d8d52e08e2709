"""Where a row of a user's data is, in words that lead to it in an editor."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Iterator

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def place_of(source: str, row: int) -> str:
    """The line on which a row starts, in a file that has lines, else its number; the first row is row 1."""
    line = line_of(Path(source), row)
    if line is None:
        return f"{source}, row {row}"
    return f"{source}, line {line}"


def line_of(path: Path, row: int) -> int | None:
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".csv", ".tsv", ".json", ".jsonl"):
        return None
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if suffix in SEPARATORS:
            # The header is a record too.
            return nth(csv_lines(stream, SEPARATORS[suffix]), row + 1)
        return nth(json_lines(stream), row)


def nth(numbers: Iterator[int], position: int) -> int | None:
    """The number at a position; the first has position 1."""
    try:
        for count, number in enumerate(numbers, 1):
            if count == position:
                return number
    except csv.Error:
        # A field too long for this reader, which is not the one that read the data.
        return None
    return None


def csv_lines(stream: Any, separator: str) -> Iterator[int]:
    """The first line of each record: a quoted field can have several lines, and blank lines are no records."""
    reader = csv.reader(stream, delimiter=separator)
    start = 1
    for record in reader:
        is_blank = len(record) < 2 and not "".join(record).strip()
        if not is_blank:
            yield start
        start = reader.line_num + 1


def json_lines(stream: Any) -> Iterator[int]:
    """The line of each document; none for one list of all rows, whose lines say nothing."""
    for number, line in enumerate(stream, 1):
        text = line.strip()
        if text.startswith("["):
            return
        if text:
            yield number
