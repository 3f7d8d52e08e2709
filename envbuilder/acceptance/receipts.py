"""Receipts on disk: one JSON file per acceptance, found again by image id."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from envbuilder import wire
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict


def file_name(receipt: Receipt) -> str:
    """`cu117-…-5f3a9c1b7d20.json`: the stack and the image's id."""
    return f"{receipt.stack or 'image'}-{receipt.image.removeprefix('sha256:')[:12]}.json"


def find(folder: Path, image: str) -> Receipt | None:
    """The receipt of an image that passed, if there is one; unreadable files are passed over."""
    return next((receipt for receipt in _all(folder) if receipt.image == image and receipt.verdict is Verdict.PASSED), None)


def _all(folder: Path) -> Iterator[Receipt]:
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            receipt = wire.loads(path.read_bytes(), Receipt)
        except (OSError, msgspec.DecodeError):
            continue
        if receipt.schema == SCHEMA:
            yield receipt


def failures(receipt: Receipt) -> list[Check]:
    """The checks that speak against the image."""
    return [check for check in receipt.checks if check.status in (Status.FAILED, Status.ERROR)]
