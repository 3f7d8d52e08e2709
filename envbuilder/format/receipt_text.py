"""A receipt as text for a person."""

from collections import Counter
from collections.abc import Sequence

from envbuilder.acceptance.report import summary
from envbuilder.console import table
from envbuilder.grammar import JsonObject
from envbuilder.model import Check, Receipt


def receipt_text(receipt: Receipt) -> str:
    """What an image has proven, by family of checks."""
    pairs = {
        "verdict": _verdict(receipt),
        "image": receipt.reference or receipt.image,
    }
    for family, checks in summary.families(receipt.checks).items():
        pairs[family] = _statuses(checks)
    if receipt.training:
        pairs["fine-tune"] = training_text(receipt.training)
    causal_model = summary.causal_model_text(receipt)
    if causal_model:
        pairs["causal model"] = causal_model
    cores = receipt.host.get("cpus")
    pairs["took"] = f"{receipt.seconds:.0f} s on {cores} cores, {receipt.started}"
    return table(pairs)


def _verdict(receipt: Receipt) -> str:
    if summary.gpu_was_tried(receipt):
        return receipt.verdict.value
    return f"{receipt.verdict}; {summary.NO_GPU}"


def _statuses(checks: Sequence[Check]) -> str:
    """`4 passed, 1 failed`."""
    counts: Counter[str] = Counter()
    for check in checks:
        word = summary.WORDS[check.status]
        counts[word] += 1
    parts = []
    for word, count in counts.items():
        parts.append(f"{count} {word}")
    return ", ".join(parts)


def training_text(training: JsonObject) -> str:
    """The bundled fine-tune in a line."""
    accuracy = _number(training, "accuracy")
    negated = _number(training, "negated")
    seconds = _number(training, "seconds")
    device = training.get("device", "?")
    parts = (
        f"{accuracy:.3f} on held-out reviews",
        f"{negated:.3f} on the negated ones",
        f"{seconds:.1f} s on {device}",
    )
    return ", ".join(parts)


def _number(training: JsonObject, key: str) -> float:
    value = training.get(key)
    return summary.number(value) or 0
