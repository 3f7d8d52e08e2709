"""A receipt as GitHub's Markdown, for the summary of a CI job."""

import re
from collections.abc import Sequence

from envbuilder.acceptance.receipts import failures
from envbuilder.acceptance.report import summary
from envbuilder.model import Check, Receipt, Verdict

_EMOJI = {Verdict.PASSED: "✅", Verdict.FAILED: "❌", Verdict.INCOMPLETE: "⚠️"}
_ACTIVE = re.compile(
    r"[&<>\\`*_{}\[\]()#|~!$]"
)  # characters with a meaning in HTML or Markdown


def markdown(receipt: Receipt) -> str:
    """The verdict, what did not pass, and everything else folded away."""
    receipt = summary.sanitize(receipt)
    tally = summary.tally(receipt.checks)
    blocks = [
        _head(receipt),
        f"{summary.meaning(receipt)} {tally}.",
        _figures(receipt),
    ]
    for check in failures(receipt):
        blocks.append(_failure(check))
    count = len(receipt.checks)
    blocks.append(_folded(f"All {count} checks", _table(receipt.checks)))
    warnings = _warnings(receipt)
    if warnings:
        blocks.append(_folded(f"{len(warnings)} warnings", warnings))
    blocks.append(_folded("Image, suite and host", _circumstances(receipt)))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(receipt: Receipt) -> str:
    emoji = _EMOJI[receipt.verdict]
    title = _inert(summary.title(receipt))
    return f"## {emoji} {receipt.verdict}: {title}"


def _circumstances(receipt: Receipt) -> list[str]:
    lines = []
    for name, text in summary.properties(receipt):
        lines.append(f"- {_inert(name)}: {_code(text)}")
    return lines


def _figures(receipt: Receipt) -> str:
    parts = [
        f"{figure.label} **{_inert(figure.value)}**"
        for figure in summary.figures(receipt)
    ]
    return " · ".join(parts)


def _warnings(receipt: Receipt) -> list[str]:
    lines = []
    for check in receipt.checks:
        for warning in check.findings:
            lines.append(f"- {_code(check.id)}: {_inert(warning)}")
    return lines


def _failure(check: Check) -> str:
    mark = summary.MARKS[check.status]
    status = summary.WORDS[check.status]
    title = _inert(check.title)
    identifier = _code(check.id)
    lines = [f"### {mark} {status}: {title} ({identifier})", ""]
    for label, text in summary.notes(check):
        prose = _prose(text)
        lines.append(f"- **{label}**: {prose}")
    return "\n".join(lines)


def _table(checks: Sequence[Check]) -> list[str]:
    lines = [
        "| | check | found | bound | time | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for check in checks:
        cells = (
            f"{summary.MARKS[check.status]} {summary.WORDS[check.status]}",
            f"{_inert(check.title)}<br>{_code(check.id)}",
            _inert(summary.found_text(check)),
            _inert(summary.bound_text(check)),
            summary.seconds_text(check.seconds),
            _inert(check.detail),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _folded(title: str, lines: Sequence[str]) -> str:
    body = "\n".join(lines)
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


# --- text of an image ----------------------------------------------------------------------------------------------


def _inert(text: str) -> str:
    """Text as entities: they never count as a table's, a link's or a tag's own characters (CommonMark 2.5)."""
    escaped = _ACTIVE.sub(_entity, text)
    return "<br>".join(escaped.splitlines())


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _code(text: str) -> str:
    return f"<code>{_inert(text)}</code>" if text else ""


def _prose(text: str) -> str:
    """Text in which `code` is code."""
    parts = []
    for place, part in enumerate(summary.code_parts(text)):
        is_code = place % 2 == 1
        parts.append(_code(part) if is_code else _inert(part))
    return "".join(parts)
