"""The files of facts of the catalog: shown as a difference, written only when told to. What people decide stands in
policy.toml beside them, which no program writes."""

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FACTS = Path(__file__).parent.parent / "envbuilder" / "catalog" / "facts"
Row = dict[str, Any]


def publish(
    files: Mapping[str, str],
    folder: Path,
    *,
    write: bool,
    refuse: Callable[[str, str, str], None] | None = None,
) -> int:
    """Show how the files differ from those in `folder`; 1 if they do and are not written.

    `refuse` exits if a new text has lost something: it gets the name, the old and the new text.
    """
    changed = False
    for name, new in files.items():
        path = folder / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        (refuse or refuse_shrunken)(name, old, new)
        sys.stdout.writelines(
            difflib.unified_diff(
                old.splitlines(True), new.splitlines(True), name, name, n=1
            )
        )
        changed = changed or old != new
        if write:
            path.write_text(new, encoding="utf-8", newline="\n")
    return 0 if write or not changed else 1


def dumps(date: str, rows: Sequence[Row]) -> str:
    """One row a line, so that a diff shows what changed."""
    lines = ",\n  ".join(
        json.dumps(row, ensure_ascii=False, default=str) for row in rows
    )
    return f'{{\n "date": "{date}",\n "rows": [\n  {lines}\n ]\n}}\n'


def dumps_today(name: str, rows: Sequence[Row], folder: Path = FACTS) -> str:
    """The text of a file as of today; of the day that it has, if its rows are those already: no news, no difference."""
    path, today = folder / name, datetime.now(tz=UTC).date().isoformat()
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dumps(old["date"] if old.get("rows") == list(rows) else today, rows)


def refuse_shrunken(name: str, old: str, new: str) -> None:
    """Exit if a file of facts would lose rows."""
    before, after = (
        len(json.loads(text)["rows"]) if text else 0 for text in (old, new)
    )
    if after < before:
        sys.exit(
            f"error: {name} would shrink from {before} rows to {after}\nhint: look at the survey before the catalog"
        )
