"""Receipts on disk: one JSON file per image, suite and host; an acceptance replaces the one before it.

Only a receipt in the `Store`, where nobody else can write, saves a run. A folder of a project, e.g. ./receipts, is for
people and programs to read: anybody may have put a file there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec

from envbuilder import serialize
from envbuilder.acceptance.check_text import number_text
from envbuilder.acceptance.events import ProtocolError, fitting
from envbuilder.acceptance.verdict import verdict
from envbuilder.errors import AcceptanceError, UsageError
from envbuilder.files import read_bytes, safe_name, write_file
from envbuilder.grammar import JsonObject
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict

_OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The receipts that this user's runs made: in a folder that one of `users` owns and nobody else can write."""

    folder: Path
    users: frozenset[int]

    def problem(self) -> str:
        """Why its receipts are not trusted; empty if they are, or if there is none."""
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

    def find(self, image: str, suite_hash: str, host: JsonObject) -> Receipt | None:
        """The receipt that saves a run, if there is one."""
        return None if self.problem() else find(self.folder, image, suite_hash, host)

    def newest(self, image: str) -> Receipt | None:
        """The last receipt of an image, whatever its verdict, suite and host."""
        return None if self.problem() else newest(self.folder, image)

    def keep(self, receipt: Receipt) -> str:
        """Keep a receipt; returns what prevented that, if anything. Without it, only the next run is not saved."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            return f"cannot create {self.folder}: {error.strerror}"
        problem = self.problem()
        if problem:
            return problem
        try:
            write_file(self.folder / file_name(receipt), serialize.dumps(receipt))
        except UsageError as error:
            return error.message
        return ""


def file_name(receipt: Receipt) -> str:
    """`cu117-…-5f3a9c1b7d20-9a31c0de.json`: the stack, the image's id, and a hash of suite and host.

    The stack's name is a label of the image, and anybody can write a label.
    """
    suite_and_host = serialize.dumps([receipt.suite, receipt.host])
    key = sha256(suite_and_host.encode()).hexdigest()[:8]
    return f"{safe_name(receipt.stack)}-{_short(receipt.image)}-{key}.json"


def _short(image: str) -> str:
    return safe_name(image.removeprefix("sha256:")[:12])


def read(content: bytes) -> Receipt | None:
    """A receipt, or None if it is not one: every text in it has to pass the grammar of the suite's events."""
    try:
        return fitting(serialize.loads(content, Receipt))
    except (msgspec.DecodeError, UnicodeError, ProtocolError, RecursionError):
        return None


def find(folder: Path, image: str, suite_hash: str, host: JsonObject) -> Receipt | None:
    """The receipt of a passed run of this suite, on this image and this host, if there is one."""
    for receipt in all_of(folder, image):
        if receipt.suite.get("hash") != suite_hash:
            continue
        same_host = dict(receipt.host) == dict(host)
        if same_host and has_passed(receipt):
            return receipt
    return None


def newest(folder: Path, image: str) -> Receipt | None:
    """The last receipt of an image, whatever its verdict, suite and host."""
    return max(all_of(folder, image), key=lambda receipt: receipt.started, default=None)


def has_passed(receipt: Receipt) -> bool:
    """Whether its verdict is `passed`, and its checks say so too."""
    return (
        receipt.verdict is Verdict.PASSED and verdict(receipt.checks) is Verdict.PASSED
    )


def all_of(folder: Path, image: str) -> Iterator[Receipt]:
    """The receipts of an image; files that cannot be read are skipped."""
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
    shared = _shared_errors(failed)
    lines = []
    for check in failed:
        if check.detail not in shared:
            lines += _failure_lines(check)
    for detail, names in shared.items():
        lines += [f"{len(names)} checks: {detail}", f"  {', '.join(names)}"]
    count = f"{len(failed)} of {len(receipt.checks)}"
    return AcceptanceError(
        f"the image was not accepted ({receipt.verdict}): {count} checks did not pass",
        problems=lines,
        hint=f"look inside: `docker run --rm -it {receipt.image} bash`",
    )


def _shared_errors(checks: Sequence[Check]) -> dict[str, list[str]]:
    """Error → ids of the checks that have it, for errors of several checks.

    A suite that died leaves the same error at many checks: it is printed once, with their names. So is a failure that
    follows from another one (`docker/payload/acceptance/causes.py`).
    """
    names_of: dict[str, list[str]] = {}
    for check in checks:
        follows = check.detail.startswith("because of ")
        if check.status is Status.ERROR or follows:
            names = names_of.setdefault(check.detail, [])
            names.append(check.id)
    shared = {}
    for error, names in names_of.items():
        if len(names) > 1:
            shared[error] = names
    return shared


def _failure_lines(check: Check) -> list[str]:
    parts = [part for part in (number_text(check), check.detail) if part]
    explanation = " · ".join(parts)
    lines = [f"{check.id}: {check.title}: {explanation}"]
    if check.remedy:
        lines.append(f"  remedy: {check.remedy}")
    return lines
