"""Receipts on disk: one JSON file per image, suite and host; an acceptance replaces the one before it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from envbuilder import wire
from envbuilder.acceptance.judge import verdict
from envbuilder.acceptance.watch import number_text
from envbuilder.errors import AcceptanceError
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


def refusal(receipt: Receipt) -> AcceptanceError:
    """The error for an image that is not accepted: which checks did not pass, each with its number and its bound."""
    failed = failures(receipt)
    alike = Counter(check.detail for check in failed if check.status is Status.ERROR)
    lines = []
    for check in failed:
        if check.status is Status.ERROR and alike[check.detail] > 1:
            continue
        told = " · ".join(part for part in (number_text(check), check.detail) if part)
        lines.append(f"{check.id}: {check.title}: {told}")
        lines += [f"  remedy: {check.remedy}"] if check.remedy else []
    for detail, number in alike.items():
        names = ", ".join(check.id for check in failed if check.status is Status.ERROR and check.detail == detail)
        lines += [f"{number} checks: {detail}", f"  {names}"] if number > 1 else []
    return AcceptanceError(
        f"the image was not accepted ({receipt.verdict}): {len(failed)} of {len(receipt.checks)} checks did not pass",
        problems=lines,
        hint=f"look inside: `docker run --rm -it {receipt.image} bash`",
    )
