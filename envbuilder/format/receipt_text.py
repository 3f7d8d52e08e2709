"""A receipt as text for a person."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from envbuilder.acceptance.report import summary
from envbuilder.console import table
from envbuilder.model import Receipt


def receipt_text(receipt: Receipt) -> str:
    """What an image has proven, by family of checks."""
    pairs = {"image": receipt.reference or receipt.image, "verdict": receipt.verdict.value}
    for family, checks in summary.families(receipt.checks).items():
        statuses = Counter(summary.WORDS[check.status] for check in checks)
        pairs[family] = ", ".join(f"{count} {status}" for status, count in statuses.items())
    if receipt.training:
        pairs["fine-tune"] = training_text(receipt.training)
    pairs["took"] = f"{receipt.seconds:.0f} s on {receipt.host.get('cpus')} cores, {receipt.started}"
    return table(pairs)


def training_text(training: Mapping[str, Any]) -> str:
    """The bundled fine-tune in a line."""
    accuracy = summary.number(training.get("accuracy")) or 0
    negated = summary.number(training.get("negated")) or 0
    seconds = summary.number(training.get("seconds")) or 0
    device = training.get("device", "?")
    return f"{accuracy:.3f} on held-out reviews, {negated:.3f} on the negated ones, {seconds:.1f} s on {device}"
