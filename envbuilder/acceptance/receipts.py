"""Receipts on disk: one JSON file per image, suite and host; an acceptance replaces the one before it."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from envbuilder import wire
from envbuilder.acceptance.judge import verdict
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict


def file_name(receipt: Receipt) -> str:
    """`cu117-…-5f3a9c1b7d20-9a31c0de.json`: the stack, the image's id, and what it was tried by and on."""
    key = sha256(wire.dumps([receipt.suite, receipt.host]).encode()).hexdigest()[:8]
    return f"{receipt.stack or 'image'}-{receipt.image.removeprefix('sha256:')[:12]}-{key}.json"


def find(folder: Path, image: str, suite_hash: str, host: Mapping[str, Any]) -> Receipt | None:
    """The receipt that says that this image has passed this suite on this host, if there is one."""
    return next(
        (
            receipt
            for receipt in all_of(folder, image)
            if receipt.suite.get("hash") == suite_hash and dict(receipt.host) == dict(host) and has_passed(receipt)
        ),
        None,
    )


def newest(folder: Path, image: str) -> Receipt | None:
    """The last receipt of an image, whatever its verdict, suite and host."""
    return max(all_of(folder, image), key=lambda receipt: receipt.started, default=None)


def has_passed(receipt: Receipt) -> bool:
    """Whether its verdict is `passed`, and its checks say so too."""
    return receipt.verdict is Verdict.PASSED and verdict(receipt.checks) is Verdict.PASSED


def all_of(folder: Path, image: str) -> Iterator[Receipt]:
    """The receipts of an image; what cannot be read is passed over."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            receipt = wire.loads(path.read_bytes(), Receipt)
        except (OSError, msgspec.DecodeError):
            continue
        if receipt.schema == SCHEMA and receipt.image == image:
            yield receipt


def failures(receipt: Receipt) -> list[Check]:
    """The checks that speak against the image, or do not speak: evidence first."""
    found = [check for check in receipt.checks if check.status in (Status.FAILED, Status.ERROR)]
    return sorted(found, key=lambda check: check.status is not Status.FAILED)
