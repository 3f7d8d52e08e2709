"""Which part of envbuilder's branches the fast tests run.

    tools/coverage_page.py BRANCHES.json

Reads the JSON of `coverage json` and writes `docs/measurements/coverage.md`; `make coverage` does both.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "measurements" / "coverage.md"
WANTED = 90.0  # per cent
_HEAD = """\
# Coverage

Written by `make coverage` on {day} at commit {commit}.
Lines and branches of `envbuilder/` that the tests of `make fast` and the slower ones in `tests/cli` run in their own
process; what a test starts as a program, such as `python -m envbuilder`, is not counted. Whether what is run is also
checked: [mutation](mutation.md).

**{percent:.1f} % of lines and branches; {branches:.1f} % of the {count:,} branches.**

## Modules below {wanted:.0f} %

| module | branches | run | lines not run |
| --- | ---: | ---: | --- |
"""


def text(report: dict[str, Any], *, day: str, commit: str) -> str:
    """The page of a report."""
    totals = report["totals"]
    head = _HEAD.format(
        day=day,
        commit=commit,
        percent=totals["percent_covered"],
        branches=100 * totals["covered_branches"] / max(totals["num_branches"], 1),
        count=totals["num_branches"],
        wanted=WANTED,
    )
    rows = list(_rows(report["files"]))
    return head + "".join(rows or ["| none | | | |\n"])


def _rows(files: dict[str, Any]) -> Iterator[str]:
    below = [
        (name, file)
        for name, file in files.items()
        if file["summary"]["percent_covered"] < WANTED
    ]
    for name, file in sorted(
        below, key=lambda pair: pair[1]["summary"]["percent_covered"]
    ):
        summary = file["summary"]
        lines = ", ".join(_ranges(file["missing_lines"])) or "–"
        yield f"| {name} | {summary['num_branches']} | {summary['percent_covered']:.1f} % | {lines} |\n"


def _ranges(lines: list[int]) -> Iterator[str]:
    """1, 2, 3, 7 → "1–3", "7"."""
    start = last = None
    for line in [*sorted(lines), None]:
        if line is not None and last is not None and line == last + 1:
            last = line
            continue
        if start is not None:
            yield str(start) if start == last else f"{start}–{last}"
        start = last = line


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    page = text(report, day=datetime.now(UTC).date().isoformat(), commit=commit)
    PAGE.write_text(page, encoding="utf-8", newline="\n")
    print(page)


if __name__ == "__main__":
    main()
