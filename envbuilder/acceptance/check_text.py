"""A check as text for a person: its number, its bound, its row in the live display."""

from collections.abc import Mapping

from envbuilder.console import Row, size_text
from envbuilder.grammar import JsonObject
from envbuilder.model import Check, Status

_HUGE = 1e300  # an int beyond it does not fit a float

_STATES = {
    Status.PASSED: "done",
    Status.FAILED: "failed",
    Status.ERROR: "error",
    Status.NOT_RUN: "not run",
}


def result_row(check: Check) -> Row:
    """One finished check as a row of the live display."""
    note = check.detail
    if check.status is Status.PASSED:
        note = f"{len(check.findings)} warnings" if check.findings else ""
    parts = [number_text(check), note]
    return Row(
        title=check.title,
        state=_STATES[check.status],
        seconds=check.seconds or None,
        note=" · ".join(part for part in parts if part),
    )


def number_text(check: Check) -> str:
    """`0.996 (at least 0.95)`."""
    if check.value is None or isinstance(check.value, Mapping | list):
        return ""
    value = with_unit(check.value, check.unit)
    if isinstance(check.bound, Mapping):
        note = ends_text(check.bound, check.unit)
    elif check.bound is None or check.bound == check.value:
        note = ""
    else:
        note = f"expected {check.bound}"
    return f"{value} ({note})" if note else value


def ends_text(bound: JsonObject, unit: str) -> str:
    """`at least 0.95, at most 1`."""
    ends = []
    if "min" in bound:
        ends.append(f"at least {with_unit(bound['min'], unit)}")
    if "max" in bound:
        ends.append(f"at most {with_unit(bound['max'], unit)}")
    return ", ".join(ends)


def with_unit(value: object, unit: str) -> str:
    """`75.20 GB`, `8 s`, `0.9961`."""
    if unit == "B" and isinstance(value, int | float) and abs(value) < _HUGE:
        return size_text(value)
    text = str(value)
    if isinstance(value, float):
        text = f"{value:.4g}"
    if unit:
        return f"{text} {unit}"
    return text
