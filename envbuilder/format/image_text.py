"""An inspected image as text for a person and as the document of `inspect --json`."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from envbuilder import serialize
from envbuilder.acceptance import receipts
from envbuilder.acceptance.check_text import number_text
from envbuilder.acceptance.inspect_image import (
    HistoryStep,
    Inspection,
    Installed,
    LockInside,
)
from envbuilder.acceptance.report import summary
from envbuilder.console import clean, size_text, table
from envbuilder.engine.image import ImageFacts
from envbuilder.format.stack_text import download_text, stack_document, stack_text
from envbuilder.grammar import one_line
from envbuilder.model import Check, Receipt, Verdict

_MOST_PACKAGES = 15
_MOST_LETTERS = 80
_TRAINING = ("accuracy", "negated", "seconds", "device")
_SHARES = {"accuracy": "on held-out reviews", "negated": "on the negated ones"}
_HOST = ("cpus", "memory", "architecture", "os", "gpu")


def inspection_document(inspection: Inspection) -> dict[str, Any]:
    """`inspect --json`."""
    image, lock = inspection.image, inspection.lock
    installed, receipt = inspection.installed, inspection.receipt
    return {
        "image": image.id,
        "reference": inspection.reference,
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
        "layers": _layer_documents(inspection.steps),
        "packages": {"bytes": installed.total, **serialize.plain(installed)}
        if installed
        else None,
        "system_packages": list(inspection.system_packages),
        "receipt": _receipt_document(receipt, inspection.suite) if receipt else None,
    }


def _layer_documents(steps: Sequence[HistoryStep]) -> list[dict[str, Any]]:
    total = sum(step.size for step in steps)
    documents = []
    for step in steps:
        document = serialize.plain(step)
        document["share"] = round(_share(step.size, total), 4)
        documents.append(document)
    return documents


def _lock_document(inside: LockInside) -> dict[str, Any]:
    document: dict[str, Any] = {
        "sha256": inside.sha256,
        "agrees": not inside.problems,
        "problems": list(inside.problems),
    }
    lock = inside.lock
    if lock is None:
        return document | dict.fromkeys(
            ("wheels", "bytes", "as_of", "catalog", "base", "base_digest")
        )
    return document | {
        "wheels": len(lock.wheels),
        "bytes": lock.download_size,
        "as_of": lock.stack.as_of.isoformat(),
        "catalog": lock.catalog,
        "base": lock.stack.base.reference,
        "base_digest": lock.base_digest,
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
        "failed": [_check_document(check) for check in receipts.failures(receipt)],
    }


def _check_document(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "title": check.title,
        "value": check.value,
        "detail": check.detail,
    }


def inspection_text(inspection: Inspection) -> str:
    """What a person wants to know of an image, section by section."""
    sections = [
        _image_lines(inspection),
        _stack_lines(inspection),
        _lock_lines(inspection.lock) if inspection.lock else [],
        _layer_lines(inspection.steps),
        _package_lines(inspection.installed),
        _system_package_lines(inspection.system_packages),
        _receipt_lines(inspection.receipt, inspection),
    ]
    paragraphs = ["\n".join(lines) for lines in sections if lines]
    return "\n\n".join(paragraphs)


def _image_lines(inspection: Inspection) -> list[str]:
    image = inspection.image
    facts = {
        "image": image.id,
        "created": one_line(image.created) or "unknown",
        "platform": one_line(image.platform),
        "size": size_text(image.size),
    }
    if image.digest:
        facts["digest"] = f"{image.digest}, from a registry"
    return [one_line(inspection.reference), *_indented(table(facts))]


def _indented(text: str) -> list[str]:
    """Lines of a section. What an image says of itself can contain anything, and is printed clean."""
    return [f"  {clean(line)}" for line in text.split("\n")]


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MOST_LETTERS else f"{line[: _MOST_LETTERS - 1]}…"


def _stack_lines(inspection: Inspection) -> list[str]:
    inside = inspection.lock
    if inside and inside.lock:
        text = stack_text(inside.lock.stack)
        return ["stack", *_indented(text)]
    why = "it contains no lock, so envbuilder did not build it"
    if inside:
        why = "this envbuilder cannot read its lock"
    pairs = _configuration(inspection.image)
    for name, value in sorted(inspection.image.labels.items()):
        pairs[one_line(name)] = _short(value)
    return [f"stack: unknown, {why}", *_indented(table(pairs))]


def _configuration(image: ImageFacts) -> dict[str, str]:
    """What a foreign image's configuration says of it: how it runs, and the versions in its environment."""
    pairs = {
        "user": _short(image.user) or "root",
        "entrypoint": _short(shlex.join(image.entrypoint)) or "none",
        "command": _short(shlex.join(image.command)) or "none",
    }
    versions = _versions(image)
    for name, value in versions.items():
        label = one_line(name)
        pairs[label] = _short(value)
    return pairs


def _versions(image: ImageFacts) -> dict[str, str]:
    """The versions in an image's environment, such as PYTHON_VERSION."""
    versions = {}
    for item in image.env:
        name, _, value = item.partition("=")
        is_version = name.endswith("_VERSION")
        if is_version:
            versions[name] = value
    return versions


def _lock_lines(inside: LockInside) -> list[str]:
    facts = {"sha256": inside.sha256.removeprefix("sha256:")}
    if lock := inside.lock:
        stack = lock.stack
        digest = lock.base_digest or "no digest"
        facts["wheels"] = f"{len(lock.wheels)}, {download_text(lock)}"
        facts["as of"] = str(stack.as_of)
        facts["catalog"] = lock.catalog
        facts["base"] = f"{stack.base.reference} ({digest})"
    if inside.problems:
        facts["problems"] = "; ".join(one_line(problem) for problem in inside.problems)
    else:
        facts["labels"] = "agree with it"
    return ["lock", *_indented(table(facts))]


def _layer_lines(steps: Sequence[HistoryStep]) -> list[str]:
    """Where the bytes are, the first step first; steps without any are left out."""
    total = sum(step.size for step in steps)
    rows = []
    for step in steps:
        if not step.size:
            continue
        size = size_text(step.size)
        share = _percent(step.size, total)
        instruction = _short(step.instruction)
        rows.append((size, share, step.holds, instruction))
    heading = f"layers: {size_text(total)} in {len(rows)}"
    return [heading, *_aligned(rows)]


def _package_lines(installed: Installed | None) -> list[str]:
    if installed is None:
        return ["packages: unknown, no Python runs in this image"]
    total = installed.total
    rows = []
    for item in installed.distributions[:_MOST_PACKAGES]:
        size = "unknown" if item.bytes is None else size_text(item.bytes)
        share = _percent(item.bytes or 0, total)
        name = _short(item.name)
        version = _short(item.version)
        rows.append((size, share, name, version))
    others = installed.distributions[_MOST_PACKAGES:]
    if others:
        bytes_of_others = sum(item.bytes or 0 for item in others)
        size = size_text(bytes_of_others)
        share = _percent(bytes_of_others, total)
        rows.append((size, share, f"{len(others)} more", ""))
    if installed.unclaimed:
        size = size_text(installed.unclaimed)
        rows.append((size, "", "in no package", ""))
    return [_package_heading(installed), *_aligned(rows)]


def _package_heading(installed: Installed) -> str:
    count = len(installed.distributions)
    python = one_line(installed.python)
    if not count:
        return f"packages: none, Python {python}"
    return f"packages: {size_text(installed.total)} in {count}, Python {python}"


def _system_package_lines(packages: Sequence[str]) -> list[str]:
    """Those that `--apt` brought, with their versions."""
    if not packages:
        return []
    return [f"system packages: {len(packages)}", *(f"  {line}" for line in packages)]


def _receipt_lines(receipt: Receipt | None, inspection: Inspection) -> list[str]:
    if receipt is None:
        image = shlex.quote(one_line(inspection.reference))
        return [f"receipt: none: `envbuilder accept {image}`"]
    facts = _receipt_facts(receipt, inspection.suite)
    lines = [f"receipt: {_verdict(receipt)}", *_indented(table(facts))]
    for check in receipts.failures(receipt):
        lines.append(f"  ✗ {_failure_text(check)}")
    return lines


def _failure_text(check: Check) -> str:
    parts = (check.id, check.title, number_text(check), check.detail)
    text = ": ".join(part for part in parts if part)
    return one_line(text)


def _verdict(receipt: Receipt) -> str:
    """A receipt is a file: its verdict is shown together with what its checks say."""
    if receipt.verdict is Verdict.PASSED and not receipts.has_passed(receipt):
        return f"{receipt.verdict}, but its checks do not confirm it"
    return receipt.verdict.value


def _receipt_facts(receipt: Receipt, suite: str) -> dict[str, str]:
    host = receipt.host
    hash_of_suite = receipt.suite.get("hash", "unknown")
    whose = "this envbuilder's" if hash_of_suite == suite else "of another envbuilder"
    checks = str(len(receipt.checks))
    failed = len(receipts.failures(receipt))
    if failed:
        checks += f", {failed} of them did not pass"
    return {
        "when": f"{receipt.started}, {receipt.seconds} s",
        "suite": f"{hash_of_suite} ({whose})",
        "host": f"{host.get('cpus', '?')} CPUs, {host.get('architecture', '?')}, GPU access: {host.get('gpu', '?')}",
        "fine-tune": "; ".join(_training(receipt)) or "none",
        "causal model": summary.causal_model_text(receipt) or "see its checks",
        "checks": checks,
    }


def _training(receipt: Receipt) -> Iterator[str]:
    training = receipt.training
    for key, words in _SHARES.items():
        value = training.get(key)
        if isinstance(value, int | float):
            yield f"{value:.3f} {words}"
    if "seconds" in training:
        device = training.get("device", "?")
        yield f"{training['seconds']} s on {device}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percent(part: int, whole: int) -> str:
    return f"{100 * _share(part, whole):.1f} %"


def _aligned(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Four columns: two numbers, two texts."""
    size_width = share_width = name_width = 0
    for size, share, name, _ in rows:
        size_width = max(size_width, len(size))
        share_width = max(share_width, len(share))
        name_width = max(name_width, len(name))
    lines = []
    for size, share, name, text in rows:
        columns = (
            size.rjust(size_width),
            share.rjust(share_width),
            name.ljust(name_width),
            text,
        )
        line = "  ".join(columns)
        lines.append(f"  {line}".rstrip())
    return lines
