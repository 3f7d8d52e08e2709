"""The texts that all forms of a receipt share: sanitized text, numbers, key figures, the checks by family."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from envbuilder import grammar
from envbuilder.acceptance.check_text import with_unit
from envbuilder.console import size_text
from envbuilder.grammar import JsonObject
from envbuilder.model import Check, Receipt, Status, Verdict

MEANINGS = {
    Verdict.PASSED: "Every check that was run has passed.",
    Verdict.FAILED: "There is evidence against this image.",
    Verdict.INCOMPLETE: "There is not enough evidence to accept this image.",
}
MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.ERROR: "!", Status.NOT_RUN: "–"}
WORDS = {
    Status.PASSED: "passed",
    Status.FAILED: "failed",
    Status.ERROR: "error",
    Status.NOT_RUN: "not run",
}
NO_GPU = "no GPU was tried"
_GPU = "gpu"  # the family of the checks that need one
_CAUSAL_MODEL = "lm"  # the family of its checks, which came with suite 4
_LARGEST = 1e300  # beyond, arithmetic on a number from inside an image overflows
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number worth a place at the top."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochShares:
    """Shares of held-out reviews with the right answer after one epoch; None for what is not a number."""

    name: str
    accuracy: float | None
    negated: float | None


def sanitize(receipt: Receipt) -> Receipt:
    """The receipt without the characters that no page may hold: a broken image may print anything."""
    return msgspec.convert(_sanitize(msgspec.to_builtins(receipt)), Receipt)


def _sanitize(value: Any) -> Any:
    match value:
        case str():
            return grammar.printable(value)
        case Mapping():
            return {_sanitize(key): _sanitize(item) for key, item in value.items()}
        case list() | tuple():
            return [_sanitize(item) for item in value]
    return value


def title(receipt: Receipt) -> str:
    """The image's name for a person."""
    return receipt.stack or receipt.reference or receipt.image


def properties(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """The circumstances of a run, as pairs of name and text."""
    yield "verdict", receipt.verdict
    yield "image", receipt.image
    yield "stack", receipt.stack
    yield "reference", receipt.reference
    for name, value in receipt.suite.items():
        text = value_text(value)
        yield f"suite.{name}", text
    for name, value in receipt.host.items():
        text = value_text(value)
        yield f"host.{name}", text


def meaning(receipt: Receipt) -> str:
    """The verdict as a sentence; a pass without a GPU says nothing about one."""
    sentence = MEANINGS[receipt.verdict]
    if gpu_was_tried(receipt):
        return sentence
    return f"{sentence} {NO_GPU[0].upper()}{NO_GPU[1:]}."


def gpu_was_tried(receipt: Receipt) -> bool:
    """Whether a check that needs a GPU has found something out."""
    for check in receipt.checks:
        if family(check) == _GPU and check.status in (Status.PASSED, Status.FAILED):
            return True
    return False


def tally(checks: Sequence[Check]) -> str:
    """`61 checks: 54 passed, 1 failed, 6 not run`."""
    if not checks:
        return "0 checks"
    count = Counter(check.status for check in checks)
    parts = []
    for status in Status:
        if count[status]:
            parts.append(f"{count[status]} {WORDS[status]}")
    return f"{len(checks)} checks: {', '.join(parts)}"


def families(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """The checks by the first part of their ids."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        group = groups.setdefault(family(check), [])
        group.append(check)
    return groups


def family(check: Check) -> str:
    """`training` of `training.accuracy`."""
    return check.id.partition(".")[0] or "other"


def figures(receipt: Receipt) -> list[Figure]:
    """The numbers of both trainings, as far as they came."""
    training = receipt.training
    texts = {
        "held-out accuracy": _figure(training, "accuracy", percent),
        "negated reviews": _figure(training, "negated", percent),
        "fine-tune": _figure(training, "seconds", seconds_text),
        "samples / s": _figure(training, "samples_per_second", "{:,.0f}".format),
        "trained on": value_text(training.get("device")),
        "peak memory": _figure(training, "peak_memory_bytes", size_text),
        "causal model": causal_model_text(receipt),
    }
    return [Figure(label=label, value=text) for label, text in texts.items() if text]


def causal_model_text(receipt: Receipt) -> str:
    """`copies 100 %, LoRA 100 %`; empty if its checks have to say it."""
    copied = _figure(receipt.lm, "accuracy", percent)
    translated = _figure(receipt.lm, "lora_accuracy", percent)
    if copied and translated:
        return f"copies {copied}, LoRA {translated}"
    if copied:
        return f"copies {copied}, no LoRA"
    if _CAUSAL_MODEL in families(receipt.checks):
        return ""
    return f"not in suite {value_text(receipt.suite.get('version'))}"


def _figure(training: JsonObject, key: str, form: Callable[[float], str]) -> str:
    value = training.get(key)
    figure = number(value)
    if figure is None:
        return value_text(value)
    return form(figure)


def epochs(training: JsonObject) -> list[EpochShares]:
    """The epochs of the fine-tune; whatever is not an epoch is left out."""
    rows = training.get("epochs")
    if not isinstance(rows, list):
        return []
    found: list[EpochShares] = []
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        name = number(row.get("epoch")) or len(found) + 1
        epoch = EpochShares(
            name=f"{name:g}",
            accuracy=number(row.get("accuracy")),
            negated=number(row.get("negated")),
        )
        found.append(epoch)
    return found


def number(value: Any) -> float | None:
    """A number that can be drawn; None for NaN, infinities and everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def percent(share: float | None) -> str:
    """`67.8 %`."""
    return "" if share is None else f"{100 * share:.4g} %"


def seconds_text(seconds: float) -> str:
    """`6.67 s`; nothing for no time at all."""
    return f"{seconds:.2f} s" if number(seconds) else ""


def value_text(value: Any) -> str:
    """A value of whatever type for a person; empty for `{}` and None."""
    match value:
        case None:
            return ""
        case int() if abs(value) >= 10_000:
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case Mapping():
            return ", ".join(
                f"{key}: {value_text(item)}" for key, item in value.items()
            )
        case list() | tuple():
            return ", ".join(value_text(item) for item in value)
    return str(value)


def found_text(check: Check) -> str:
    """What was found, with its unit: `75.4 GB`."""
    return _quantity(check.value, check.unit)


def bound_text(check: Check) -> str:
    """`at least 0.95`; a bound without ends is what was expected."""
    bound, unit = check.bound, check.unit
    if not isinstance(bound, Mapping):
        return _quantity(bound, unit)
    ends = []
    if "min" in bound:
        ends.append(f"at least {_quantity(bound['min'], unit)}")
    if "max" in bound:
        ends.append(f"at most {_quantity(bound['max'], unit)}")
    return ", ".join(ends) or value_text(bound)


def _quantity(value: Any, unit: str) -> str:
    if unit and number(value) is not None:
        return with_unit(value, unit)
    return value_text(value)


def notes(check: Check) -> Iterator[tuple[str, str]]:
    """What there is to say of a check that did not pass: pairs of label and text."""
    texts = {
        "found": found_text(check),
        "bound": bound_text(check),
        "detail": check.detail,
        "remedy": check.remedy,
    }
    for label, text in texts.items():
        if text:
            yield label, text


def code_parts(text: str) -> list[str]:
    """Text split at its `code`: every second part, from the second on, is code."""
    return _CODE.split(text)
