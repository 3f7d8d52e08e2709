"""Receipts on disk: one JSON file per image, suite and host; an acceptance replaces the one before it.

A receipt spares a run only if it is in the `Store`, where nobody else can write. A folder of a project, as
./receipts, is for people and programs to read: anybody may have put a file there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from envbuilder import serialize
from envbuilder.acceptance.check_text import number_text
from envbuilder.acceptance.events import ProtocolError, fitting
from envbuilder.acceptance.verdict import verdict
from envbuilder.errors import AcceptanceError, UsageError
from envbuilder.files import read_bytes, safe_name, write_file
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict

_OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The receipts that this machine made for this user: a folder that belongs to one of `users` and to nobody else."""

    folder: Path
    users: frozenset[int]

    def problem(self) -> str:
        """Why what lies there is not believed; empty if it is, or if nothing is there."""
        try:
            status = self.folder.stat()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self.folder} cannot be used: {error.strerror}"
        if status.st_uid not in self.users:
            return f"{self.folder} belongs to another user (uid {status.st_uid})"
        if status.st_mode & _OTHERS_WRITE:
            return f"others can write to {self.folder}"
        return ""

    def find(self, image: str, suite_hash: str, host: Mapping[str, Any]) -> Receipt | None:
        """The receipt that spares a run, if there is one."""
        return None if self.problem() else find(self.folder, image, suite_hash, host)

    def newest(self, image: str) -> Receipt | None:
        """The last receipt of an image, whatever its verdict, suite and host."""
        return None if self.problem() else newest(self.folder, image)

    def keep(self, receipt: Receipt) -> str:
        """Keep a receipt; returns what prevented that, if anything: the run that it would spare is then not spared."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            return f"{self.folder} cannot be made: {error.strerror}"
        problem = self.problem()
        if problem:
            return problem
        try:
            write_file(self.folder / file_name(receipt), serialize.dumps(receipt))
        except UsageError as error:
            return error.message
        return ""


def file_name(receipt: Receipt) -> str:
    """`cu117-…-5f3a9c1b7d20-9a31c0de.json`: the stack, the image's id, and what it was tried by and on.

    The stack's name is a label of the image, which is anybody's text.
    """
    key = sha256(serialize.dumps([receipt.suite, receipt.host]).encode()).hexdigest()[:8]
    return f"{safe_name(receipt.stack)}-{_short(receipt.image)}-{key}.json"


def _short(image: str) -> str:
    return safe_name(image.removeprefix("sha256:")[:12])


def read(content: bytes) -> Receipt | None:
    """A receipt, or None for what is none: everything in it passes the grammar of what an image may say."""
    try:
        return fitting(serialize.loads(content, Receipt))
    except (msgspec.DecodeError, UnicodeError, ProtocolError, RecursionError):
        return None


def find(folder: Path, image: str, suite_hash: str, host: Mapping[str, Any]) -> Receipt | None:
    """The receipt of a passed run of this suite, on this image and this host, if there is one."""
    for receipt in all_of(folder, image):
        same_run = receipt.suite.get("hash") == suite_hash and dict(receipt.host) == dict(host)
        if same_run and has_passed(receipt):
            return receipt
    return None


def newest(folder: Path, image: str) -> Receipt | None:
    """The last receipt of an image, whatever its verdict, suite and host."""
    return max(all_of(folder, image), key=lambda receipt: receipt.started, default=None)


def has_passed(receipt: Receipt) -> bool:
    """Whether its verdict is `passed`, and its checks say so too."""
    return receipt.verdict is Verdict.PASSED and verdict(receipt.checks) is Verdict.PASSED


def all_of(folder: Path, image: str) -> Iterator[Receipt]:
    """The receipts of an image; what cannot be read is passed over."""
    for path in sorted(folder.glob(f"*{_short(image)}-*.json")):
        try:
            receipt = read(read_bytes(path))
        except UsageError:
            continue
        if receipt and receipt.schema == SCHEMA and receipt.image == image:
            yield receipt


def failures(receipt: Receipt) -> list[Check]:
    """The checks that failed, then those that ended in an error."""
    failed = [check for check in receipt.checks if check.status is Status.FAILED]
    errors = [check for check in receipt.checks if check.status is Status.ERROR]
    return failed + errors


def acceptance_error(receipt: Receipt) -> AcceptanceError:
    """The error for an image that is not accepted: the checks that did not pass, with their numbers and bounds."""
    failed = failures(receipt)
    by_detail: dict[str, list[Check]] = {}
    for check in failed:
        if check.status is Status.ERROR:
            by_detail.setdefault(check.detail, []).append(check)
    # A suite that died leaves the same error at many checks: tell it once, with their names.
    shared = {detail: checks for detail, checks in by_detail.items() if len(checks) > 1}
    lines = []
    for check in failed:
        if check.status is Status.FAILED or check.detail not in shared:
            lines += _lines_of(check)
    for detail, checks in shared.items():
        names = ", ".join(check.id for check in checks)
        lines += [f"{len(checks)} checks: {detail}", f"  {names}"]
    return AcceptanceError(
        f"the image was not accepted ({receipt.verdict}): {len(failed)} of {len(receipt.checks)} checks did not pass",
        problems=lines,
        hint=f"look inside: `docker run --rm -it {receipt.image} bash`",
    )


def _lines_of(check: Check) -> list[str]:
    parts = [part for part in (number_text(check), check.detail) if part]
    lines = [f"{check.id}: {check.title}: {' · '.join(parts)}"]
    if check.remedy:
        lines.append(f"  remedy: {check.remedy}")
    return lines
