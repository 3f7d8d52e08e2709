"""An inspected image as text for a person and as the document of `inspect --json`."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from envbuilder import serialize
from envbuilder.acceptance import receipts
from envbuilder.acceptance.check_text import number_text
from envbuilder.acceptance.inspect_image import Inspection, Installed, LockInside, Step, one_line
from envbuilder.console import clean, size_text, table
from envbuilder.engine.image import ImageFacts
from envbuilder.format.stack_text import stack_document, stack_text
from envbuilder.model import Receipt, Verdict

_MOST_PACKAGES = 15
_MOST_LETTERS = 80
_TRAINING = ("accuracy", "negated", "seconds", "device")
_HOST = ("cpus", "memory", "architecture", "os", "gpu")


def inspection_document(found: Inspection) -> dict[str, Any]:
    """`inspect --json`."""
    image, lock = found.image, found.lock
    total = sum(step.size for step in found.steps)
    return {
        "image": image.id,
        "reference": found.reference,
        "digest": image.digest,
        "created": image.created or None,
        "platform": image.platform,
        "config": {
            "user": image.user,
            "entrypoint": image.entrypoint,
            "command": image.command,
            "versions": _versions(image),
        },
        "labels": dict(sorted(image.labels.items())),
        "size": image.size,
        "stack": stack_document(lock.lock.stack) if lock and lock.lock else None,
        "lock": _lock_document(lock) if lock else None,
        "layers": [{**serialize.plain(step), "share": round(_share(step.size, total), 4)} for step in found.steps],
        "packages": {"bytes": found.installed.total, **serialize.plain(found.installed)} if found.installed else None,
        "receipt": _receipt_document(found.receipt, found.suite) if found.receipt else None,
    }


def _lock_document(inside: LockInside) -> dict[str, Any]:
    lock = inside.lock
    return {
        "sha256": inside.sha256,
        "agrees": not inside.problems,
        "problems": list(inside.problems),
        "wheels": len(lock.wheels) if lock else None,
        "bytes": sum(wheel.size for wheel in lock.wheels) if lock else None,
        "as_of": lock.stack.as_of.isoformat() if lock else None,
        "catalog": lock.catalog if lock else None,
        "base": lock.stack.base.reference if lock else None,
        "base_digest": lock.base_digest if lock else None,
    }


def _receipt_document(receipt: Receipt, suite: str) -> dict[str, Any]:
    return {
        "verdict": receipt.verdict.value,
        "started": receipt.started,
        "seconds": receipt.seconds,
        "suite": {**receipt.suite, "current": receipt.suite.get("hash") == suite},
        "host": {key: receipt.host.get(key) for key in _HOST},
        "training": {key: receipt.training.get(key) for key in _TRAINING},
        "checks": len(receipt.checks),
        "failed": [
            {"id": check.id, "title": check.title, "value": check.value, "detail": check.detail}
            for check in receipts.failures(receipt)
        ],
    }


def inspection_text(found: Inspection) -> str:
    """What a person wants to know of an image, section by section."""
    image = found.image
    facts = {
        "image": image.id,
        "created": one_line(image.created) or "unknown",
        "platform": one_line(image.platform),
        "size": size_text(image.size),
        **({"digest": f"{image.digest}, a registry's"} if image.digest else {}),
    }
    sections = [
        [one_line(found.reference), *_indented(table(facts))],
        _stack_lines(found),
        _lock_lines(found.lock) if found.lock else [],
        _layer_lines(found.steps),
        _package_lines(found.installed),
        _receipt_lines(found.receipt, found),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _indented(text: str) -> list[str]:
    """Lines of a section; what others wrote can hold anything but is printed without it."""
    return [f"  {clean(line)}" for line in text.split("\n")]


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MOST_LETTERS else f"{line[: _MOST_LETTERS - 1]}…"


def _stack_lines(found: Inspection) -> list[str]:
    if found.lock and found.lock.lock:
        return ["stack", *_indented(stack_text(found.lock.lock.stack))]
    why = "a lock that this envbuilder cannot read" if found.lock else "no lock inside: it is not envbuilder's"
    labels = {one_line(name): _short(value) for name, value in sorted(found.image.labels.items())}
    return [f"stack: unknown, {why}", *_indented(table(_said(found.image) | labels))]


def _said(image: ImageFacts) -> dict[str, str]:
    """What a foreign image's configuration says of it: how it runs, and the versions in its environment."""
    said = {
        "user": _short(image.user) or "root",
        "entrypoint": _short(shlex.join(image.entrypoint)) or "none",
        "command": _short(shlex.join(image.command)) or "none",
    }
    return said | {one_line(name): _short(value) for name, value in _versions(image).items()}


def _versions(image: ImageFacts) -> dict[str, str]:
    """The versions that an image's environment names, as PYTHON_VERSION."""
    pairs = (item.partition("=") for item in image.env)
    return {name: value for name, _, value in pairs if name.endswith("_VERSION")}


def _lock_lines(inside: LockInside) -> list[str]:
    facts = {"sha256": inside.sha256.removeprefix("sha256:")}
    if lock := inside.lock:
        size = sum(wheel.size for wheel in lock.wheels)
        facts |= {
            "wheels": f"{len(lock.wheels)}, {size_text(size)} to download",
            "as of": f"{lock.stack.as_of}",
            "catalog": lock.catalog,
            "base": f"{lock.stack.base.reference} ({lock.base_digest or 'no digest'})",
        }
    if inside.problems:
        facts["problems"] = "; ".join(map(one_line, inside.problems))
    else:
        facts["labels"] = "agree with it"
    return ["lock", *_indented(table(facts))]


def _layer_lines(steps: Sequence[Step]) -> list[str]:
    """Where the bytes are, the first step first; steps without any are left out."""
    full = [step for step in steps if step.size]
    total = sum(step.size for step in full)
    rows = [(size_text(step.size), _percent(step.size, total), step.holds, _short(step.instruction)) for step in full]
    return [f"layers: {size_text(total)} in {len(full)}", *_rows(rows)]


def _package_lines(installed: Installed | None) -> list[str]:
    if installed is None:
        return ["packages: unknown, no Python answers in this image"]
    most, rest = installed.distributions[:_MOST_PACKAGES], installed.distributions[_MOST_PACKAGES:]
    rows = [
        (
            "unknown" if item.bytes is None else size_text(item.bytes),
            _percent(item.bytes or 0, installed.total),
            _short(item.name),
            _short(item.version),
        )
        for item in most
    ]
    if rest:
        size = sum(item.bytes or 0 for item in rest)
        rows.append((size_text(size), _percent(size, installed.total), f"{len(rest)} more", ""))
    if installed.unclaimed:
        rows.append((size_text(installed.unclaimed), "", "not of any package", ""))
    count = len(installed.distributions)
    told = f"{size_text(installed.total)} in {count}" if count else "none"
    return [f"packages: {told}, Python {one_line(installed.python)}", *_rows(rows)]


def _receipt_lines(receipt: Receipt | None, found: Inspection) -> list[str]:
    if receipt is None:
        return [f"receipt: none: `envbuilder accept {shlex.quote(one_line(found.reference))}`"]
    host, failed = receipt.host, receipts.failures(receipt)
    current = receipt.suite.get("hash") == found.suite
    facts = {
        "when": f"{receipt.started}, {receipt.seconds} s",
        "suite": f"{receipt.suite.get('hash', 'unknown')} ({'this' if current else 'not this'} envbuilder's)",
        "host": f"{host.get('cpus', '?')} CPUs, {host.get('architecture', '?')}, GPU access: {host.get('gpu', '?')}",
        "fine-tune": "; ".join(_training(receipt)) or "none",
        "checks": f"{len(receipt.checks)}, {len(failed)} of them did not pass" if failed else f"{len(receipt.checks)}",
    }
    told = [
        ": ".join(part for part in (check.id, check.title, number_text(check), check.detail) if part)
        for check in failed
    ]
    borne_out = receipt.verdict is not Verdict.PASSED or receipts.has_passed(receipt)
    verdict = receipt.verdict.value if borne_out else f"{receipt.verdict}, but its checks do not say so"
    return [f"receipt: {verdict}", *_indented(table(facts)), *(f"  ✗ {one_line(line)}" for line in told)]


def _training(receipt: Receipt) -> Iterator[str]:
    for key, words in (("accuracy", "on held-out reviews"), ("negated", "on the negated ones")):
        value = receipt.training.get(key)
        if isinstance(value, int | float):
            yield f"{value:.3f} {words}"
    if "seconds" in receipt.training:
        yield f"{receipt.training['seconds']} s on {receipt.training.get('device', '?')}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percent(part: int, whole: int) -> str:
    return f"{100 * _share(part, whole):.1f} %"


def _rows(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Four columns: two numbers, two texts."""
    wide = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return [
        f"  {size:>{wide[0]}}  {share:>{wide[1]}}  {name:<{wide[2]}}  {text}".rstrip()
        for size, share, name, text in rows
    ]
