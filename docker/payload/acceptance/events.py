"""What the suite prints: one JSON event a line for envbuilder, or lines for a person at a terminal.

The events are plan, start, progress, result, facts, training, lm and end.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any, Callable

MOST_NOTES = 3  # of one check, at a terminal
Emit = Callable[..., None]  # emit("start", id="contract.user")


class JsonLines:
    """Events as JSON lines, on a private copy of stdout; the public one becomes stderr.

    So whatever a library prints goes to stderr, and nothing but this object can write an event.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        private = os.dup(1)
        os.set_inheritable(private, False)
        self._stream = os.fdopen(private, "w", encoding="utf-8")
        os.dup2(2, 1)

    def __call__(self, event: str, **fields: Any) -> None:
        # A loss that is NaN is no number to draw; of any other value the receipt keeps the word.
        spell_infinite = event not in ("training", "lm")
        document = {"event": event}
        document.update(to_json(fields, spell_infinite=spell_infinite))
        # One write: a deadline may interrupt this, and half a line would spoil the next event.
        line = json.dumps(document, allow_nan=False)
        self._stream.write(f"{line}\n")
        self._stream.flush()


def to_json(value: Any, *, spell_infinite: bool) -> Any:
    """`value` as JSON can carry it: NaN and infinity become text, or else null; a lone surrogate becomes `?`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value) if spell_infinite else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple)):
        return [to_json(item, spell_infinite=spell_infinite) for item in value]
    if not isinstance(value, dict):
        return value
    document = {}
    for key, item in value.items():
        name = to_json(str(key), spell_infinite=spell_infinite)
        document[name] = to_json(item, spell_infinite=spell_infinite)
    return document


class Terminal:
    """Events for a person at a terminal."""

    def __call__(self, event: str, **fields: Any) -> None:
        if event == "result":
            print(result_line(fields))
            if fields["remedy"]:
                print(f"         remedy: {fields['remedy']}")
            for line in note_lines(fields):
                print(f"         {line}")
        elif event == "end":
            print(fields["verdict"])
        sys.stdout.flush()


def note_lines(fields: dict[str, Any]) -> list[str]:
    """The first findings of a check, and how many more there are."""
    findings = fields.get("findings", ())
    lines = [f"note: {text}" for text in findings[:MOST_NOTES]]
    more = len(findings) - len(lines)
    if more > 0:
        lines.append(f"and {more} more")
    return lines


def result_line(fields: dict[str, Any]) -> str:
    line = f"{fields['status']:<8} {fields['title']}"
    value = fields["value"]
    if value is not None:
        line += f" {value}"
        line += bound_text(value, fields["bound"])
    return f"{line}  {fields['detail']}"


def bound_text(value: Any, bound: Any) -> str:
    """` (at least 0.95)`; nothing if the value is the bound itself."""
    if bound is None or bound == value:
        return ""
    if not isinstance(bound, dict):
        return f" (expected {bound})"
    parts = []
    if "min" in bound:
        parts.append(f"at least {bound['min']}")
    if "max" in bound:
        parts.append(f"at most {bound['max']}")
    return f" ({', '.join(parts)})" if parts else ""


def parse_event(line: str) -> dict[str, Any]:
    """A line of another program as an event; empty if it is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
