"""The forms of a receipt, by file suffix: JSON, JUnit XML for a CI, Markdown for a job summary, a page for a browser.

Receipt in, text out. What a broken image says of itself is in every receipt, so no form trusts a word of it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from envbuilder import serialize
from envbuilder.acceptance import summary
from envbuilder.acceptance.loss_plot import curve
from envbuilder.acceptance.receipts import failures, has_passed
from envbuilder.errors import UsageError
from envbuilder.model import Check, Receipt, Status, Verdict
from envbuilder.templates import fill

if TYPE_CHECKING:
    from junitparser import TestCase

_ACTIVE = re.compile(r"[&<>\\`*_{}\[\]()#|~!$]")  # what HTML or Markdown reads as more than itself


def form_of(suffix: str) -> Callable[[Receipt], str]:
    """What makes a `.json`, `.xml`, `.md` or `.html` of a receipt; raises `UsageError` for any other suffix."""
    if suffix not in FORMS:
        raise UsageError(
            f"there is no form of a report for {suffix!r}" if suffix else "a report needs a suffix, which is its form",
            hint=f"name the file with one of {', '.join(FORMS)}",
        )
    return FORMS[suffix]


# --- JUnit ---------------------------------------------------------------------------------------------------------


def junit(receipt: Receipt) -> str:
    """JUnit XML, one case a check; what has not passed never looks green."""
    from junitparser import JUnitXml, TestSuite  # noqa: PLC0415 - only who wants a report waits for it

    receipt = summary.legible(receipt)
    suite = TestSuite(summary.title(receipt))
    if receipt.started:
        suite.timestamp = receipt.started
    for name, value in _properties(receipt):
        suite.add_property(name, value)
    suite.add_testcases([_case(check) for check in receipt.checks])
    if not has_passed(receipt) and not failures(receipt):
        suite.add_testcase(_case(_unproven(receipt)))
    document = JUnitXml("envbuilder accept")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    stream = BytesIO()
    document.write(stream)
    return stream.getvalue().decode() + "\n"


def _properties(receipt: Receipt) -> Iterator[tuple[str, str]]:
    yield "verdict", receipt.verdict
    for name in ("image", "stack", "reference"):
        yield name, getattr(receipt, name)
    for prefix, facts in (("suite", receipt.suite), ("host", receipt.host)):
        for name, value in facts.items():
            yield f"{prefix}.{name}", summary.value_text(value)


def _case(check: Check) -> "TestCase":
    from junitparser import Error, Failure, Skipped, TestCase  # noqa: PLC0415

    case = TestCase(f"{check.id}: {check.title}", summary.family(check), summary.number(check.seconds) or 0.0)
    kinds = {Status.FAILED: Failure, Status.ERROR: Error, Status.NOT_RUN: Skipped}
    if check.status in kinds:
        result = kinds[check.status](check.detail or check.title, check.status)
        result.text = "\n".join(f"{label}: {text}" for label, text in summary.notes(check))
        case.result = [result]
    if check.findings:
        case.system_out = "\n".join(check.findings)
    return case


def _unproven(receipt: Receipt) -> Check:
    detail = f"the verdict is {receipt.verdict}; {summary.tally(receipt.checks)}: that proves nothing"
    return Check(id="suite.verdict", title="the image has passed", status=Status.ERROR, detail=detail)


# --- Markdown ------------------------------------------------------------------------------------------------------


def markdown(receipt: Receipt) -> str:
    """GitHub's Markdown: the verdict, what did not pass, and everything else folded away."""
    receipt = summary.legible(receipt)
    told = " · ".join(f"{figure.label} **{_inert(figure.value)}**" for figure in summary.figures(receipt.training))
    warnings = [f"- {_code(check.id)}: {_inert(text)}" for check in receipt.checks for text in check.findings]
    circumstances = [f"- {_inert(name)}: {_code(text)}" for name, text in _properties(receipt)]
    blocks = [
        f"## {_EMOJI[receipt.verdict]} {receipt.verdict}: {_inert(summary.title(receipt))}",
        f"{summary.MEANINGS[receipt.verdict]} {summary.tally(receipt.checks)}.",
        told,
        *map(_trouble, failures(receipt)),
        _folded(f"All {len(receipt.checks)} checks", "\n".join(_table(receipt.checks))),
        _folded(f"{len(warnings)} warnings", "\n".join(warnings)) if warnings else "",
        _folded("Image, suite and host", "\n".join(circumstances)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


_EMOJI = {Verdict.PASSED: "✅", Verdict.FAILED: "❌", Verdict.INCOMPLETE: "⚠️"}


def _inert(text: str) -> str:
    """Text as entities: they are never taken for a table's, a link's or a tag's own characters (CommonMark 2.5)."""
    return "<br>".join(_ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text).splitlines())


def _code(text: str) -> str:
    return f"<code>{_inert(text)}</code>" if text else ""


def _prose(text: str) -> str:
    return "".join(_code(part) if place % 2 else _inert(part) for place, part in enumerate(summary.code_parts(text)))


def _trouble(check: Check) -> str:
    head = f"### {summary.MARKS[check.status]} {summary.WORDS[check.status]}: {_inert(check.title)} ({_code(check.id)})"
    return "\n".join([head, "", *(f"- **{label}**: {_prose(text)}" for label, text in summary.notes(check))])


def _table(checks: tuple[Check, ...]) -> Iterator[str]:
    yield "| | check | found | bound | time | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for check in checks:
        cells = (
            f"{summary.MARKS[check.status]} {summary.WORDS[check.status]}",
            f"{_inert(check.title)}<br>{_code(check.id)}",
            _inert(summary.found_text(check)),
            _inert(summary.bound_text(check)),
            summary.seconds_text(check.seconds),
            _inert(check.detail),
        )
        yield f"| {' | '.join(cells)} |"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


# --- HTML ----------------------------------------------------------------------------------------------------------


def html(receipt: Receipt) -> str:
    """One page that needs nothing else: no script, no font, no picture, no network."""
    receipt = summary.legible(receipt)
    return fill("report.html.j2", _page(receipt), html=True)


def _page(receipt: Receipt) -> Mapping[str, Any]:
    epochs = summary.epochs(receipt.training)
    return {
        "receipt": receipt,
        "title": summary.title(receipt),
        "meaning": summary.MEANINGS[receipt.verdict],
        "tally": summary.tally(receipt.checks),
        "marks": summary.MARKS,
        "words": summary.WORDS,
        "failures": [(check, list(summary.notes(check))) for check in failures(receipt)],
        "figures": summary.figures(receipt.training),
        "epochs": epochs,
        "curve": curve(receipt.training.get("losses"), epochs),
        "families": summary.families(receipt.checks),
        "warnings": [check for check in receipt.checks if check.findings],
        "value_text": summary.value_text,
        "found_text": summary.found_text,
        "bound_text": summary.bound_text,
        "seconds_text": summary.seconds_text,
        "percent": summary.percent,
        "code_parts": summary.code_parts,
    }


FORMS: Mapping[str, Callable[[Receipt], str]] = {
    ".html": html,
    ".xml": junit,
    ".md": markdown,
    ".json": serialize.dumps,
}
