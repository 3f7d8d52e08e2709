"""What every form of a receipt tells, in the same words: legible text, numbers, key figures, the checks by family."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from envbuilder import grammar
from envbuilder.acceptance.event_stream import with_unit
from envbuilder.console import size_text
from envbuilder.model import Check, Receipt, Status, Verdict

MEANINGS = {
    Verdict.PASSED: "Every check that was run speaks for the image.",
    Verdict.FAILED: "There is evidence against this image.",
    Verdict.INCOMPLETE: "There is not enough evidence to accept this image.",
}
MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.ERROR: "!", Status.NOT_RUN: "–"}
WORDS = {Status.PASSED: "passed", Status.FAILED: "failed", Status.ERROR: "error", Status.NOT_RUN: "not run"}
_LARGEST = 1e300  # beyond, arithmetic on a number from inside an image overflows
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number worth a place at the top."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Shares of held-out reviews that are answered right after one epoch; None where that is no number."""

    name: str
    accuracy: float | None
    negated: float | None


def legible(receipt: Receipt) -> Receipt:
    """The receipt without the characters that no page may hold: what a broken image says of itself is anything."""
    return msgspec.convert(_legible(msgspec.to_builtins(receipt)), Receipt)


def _legible(value: Any) -> Any:
    match value:
        case str():
            return grammar.printable(value)
        case Mapping():
            return {_legible(key): _legible(item) for key, item in value.items()}
        case list() | tuple():
            return [_legible(item) for item in value]
    return value


def title(receipt: Receipt) -> str:
    """What a person calls the image."""
    return receipt.stack or receipt.reference or receipt.image


def tally(checks: Sequence[Check]) -> str:
    """`61 checks: 54 passed, 1 failed, 6 not run`."""
    found = Counter(check.status for check in checks)
    counts = ", ".join(f"{found[status]} {WORDS[status]}" for status in Status if found[status])
    return f"{len(checks)} checks: {counts}" if counts else "0 checks"


def families(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """The checks by what stands before the dot of their ids."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        found.setdefault(family(check), []).append(check)
    return found


def family(check: Check) -> str:
    """`training` of `training.accuracy`."""
    return check.id.partition(".")[0] or "other"


def figures(training: Mapping[str, Any]) -> list[Figure]:
    """The fine-tune's numbers, as far as it came."""
    return [
        Figure(label=label, value=text)
        for label, text in (
            ("held-out accuracy", _told(training, "accuracy", percent)),
            ("negated reviews", _told(training, "negated", percent)),
            ("fine-tune", _told(training, "seconds", seconds_text)),
            ("samples / s", _told(training, "samples_per_second", "{:,.0f}".format)),
            ("trained on", value_text(training.get("device"))),
            ("peak memory", _told(training, "peak_memory_bytes", size_text)),
        )
        if text
    ]


def _told(training: Mapping[str, Any], key: str, form: Callable[[float], str]) -> str:
    value = number(training.get(key))
    return value_text(training.get(key)) if value is None else form(value)


def epochs(training: Mapping[str, Any]) -> list[Epoch]:
    """The epochs of the fine-tune; what is no epoch is left out."""
    told = training.get("epochs")
    rows = [row for row in told if isinstance(row, Mapping)] if isinstance(told, list) else []
    return [
        Epoch(
            name=f"{number(row.get('epoch')) or place:g}",
            accuracy=number(row.get("accuracy")),
            negated=number(row.get("negated")),
        )
        for place, row in enumerate(rows, 1)
    ]


def number(value: Any) -> float | None:
    """A number that can be drawn; None for NaN, infinities and what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < _LARGEST else None


def percent(share: float | None) -> str:
    """`67.8 %`."""
    return "" if share is None else f"{100 * share:.4g} %"


def seconds_text(seconds: float) -> str:
    """`6.67 s`; nothing for no time at all."""
    return f"{seconds:.2f} s" if number(seconds) else ""


def value_text(value: Any) -> str:
    """A value of whatever type as a person reads it; `{}` and None are nothing."""
    match value:
        case None:
            return ""
        case int() if abs(value) >= 10_000:
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case Mapping():
            return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(map(value_text, value))
    return str(value)


def found_text(check: Check) -> str:
    """What was found, with its unit: `75.4 GB`."""
    return _quantity(check.value, check.unit)


def bound_text(check: Check) -> str:
    """`at least 0.95`; a bound without ends is what was expected."""
    if not isinstance(check.bound, Mapping):
        return _quantity(check.bound, check.unit)
    words = (("min", "at least"), ("max", "at most"))
    ends = [f"{word} {_quantity(check.bound[end], check.unit)}" for end, word in words if end in check.bound]
    return ", ".join(ends) or value_text(check.bound)


def _quantity(value: Any, unit: str) -> str:
    return with_unit(value, unit) if unit and number(value) is not None else value_text(value)


def notes(check: Check) -> Iterator[tuple[str, str]]:
    """What there is to say of a check that did not pass: pairs of label and text."""
    pairs = (
        ("found", found_text(check)),
        ("bound", bound_text(check)),
        ("detail", check.detail),
        ("remedy", check.remedy),
    )
    yield from (pair for pair in pairs if pair[1])


def code_parts(text: str) -> list[str]:
    """Text split at its `code`: every second part, from the second on, is code."""
    return _CODE.split(text)
