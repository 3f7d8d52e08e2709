"""What receipts say of a stack: built and accepted when, how large, how well it trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envbuilder.acceptance import receipts
from envbuilder.acceptance.report import summary
from envbuilder.console import size_text
from envbuilder.errors import UsageError
from envbuilder.files import is_folder, read_bytes
from envbuilder.model import Receipt

UNPROVEN = "resolves, not built"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The last receipt of a stack's images, as text."""

    accepted: bool
    title: str  # "built, accepted on 2026-11-24"
    pairs: tuple[tuple[str, str], ...]


def read(folder: Path) -> Mapping[str, Proof]:
    """Name of a stack → what the newest receipt in `folder` says; one that has passed comes before one that has not."""
    if not is_folder(folder):
        raise UsageError(
            f"{folder} is not a folder of receipts",
            hint="`envbuilder build` writes them to receipts/",
        )
    best: dict[str, Receipt] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            receipt = receipts.read(read_bytes(path))
        except UsageError:
            continue  # as everywhere where receipts are looked for
        if receipt and receipt.stack:
            other = best.get(receipt.stack, receipt)
            best[receipt.stack] = max(other, receipt, key=_weight)
    return {name: _proof(receipt) for name, receipt in best.items()}


def _weight(receipt: Receipt) -> tuple[bool, str]:
    return receipts.has_passed(receipt), receipt.started


def _proof(receipt: Receipt) -> Proof:
    accepted = receipts.has_passed(receipt)
    day = receipt.started.partition("T")[0] or "an unknown day"
    title = f"built, not accepted (last tried on {day})"
    if accepted:
        title = f"built, accepted on {day}"
    return Proof(
        accepted=accepted,
        title=title,
        pairs=tuple(_pairs(receipt)),
    )


def _pairs(receipt: Receipt) -> Iterator[tuple[str, str]]:
    tally = summary.tally(receipt.checks)
    _, _, counts = tally.partition(": ")
    yield "checks", counts or "none"
    size = _size_text(receipt)
    if size:
        yield "image size", size
    for figure in summary.figures(receipt):
        yield figure.label, figure.value
    yield "image", receipt.image[:19]


def _size_text(receipt: Receipt) -> str | None:
    """The image's size, from its wheels' and the ratio that acceptance found."""
    wheels = summary.number(receipt.facts.get("wheel_bytes"))
    for check in receipt.checks:
        if check.id != "contract.size":
            continue
        ratio = summary.number(check.value)
        if wheels and ratio:
            size = round(wheels * ratio)
            return f"{size_text(size)}, {ratio:.2f} times its wheels"
    return None
