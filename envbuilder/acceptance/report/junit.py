"""A receipt as JUnit XML, one case a check."""

from io import BytesIO
from typing import TYPE_CHECKING

from envbuilder.acceptance.receipts import failures, has_passed
from envbuilder.acceptance.report import summary
from envbuilder.model import Check, Receipt, Status

if TYPE_CHECKING:
    from junitparser import TestCase


def junit(receipt: Receipt) -> str:
    """JUnit XML; what has not passed never looks green."""
    from junitparser import JUnitXml, TestSuite  # noqa: PLC0415 - loaded only for a report

    receipt = summary.sanitize(receipt)
    suite = TestSuite(summary.title(receipt))
    if receipt.started:
        suite.timestamp = receipt.started
    for name, value in summary.properties(receipt):
        suite.add_property(name, value)
    cases = [_case(check) for check in receipt.checks]
    if not has_passed(receipt) and not failures(receipt):
        # No check has failed, yet nothing is proven: without this case a CI would show a pass.
        cases.append(_case(_unproven(receipt)))
    suite.add_testcases(cases)
    document = JUnitXml("envbuilder accept")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    stream = BytesIO()
    document.write(stream)
    return stream.getvalue().decode() + "\n"


def _case(check: Check) -> "TestCase":
    from junitparser import Error, Failure, Skipped, TestCase  # noqa: PLC0415

    seconds = summary.number(check.seconds) or 0.0
    case = TestCase(f"{check.id}: {check.title}", summary.family(check), seconds)
    kinds = {Status.FAILED: Failure, Status.ERROR: Error, Status.NOT_RUN: Skipped}
    kind = kinds.get(check.status)
    if kind:
        result = kind(check.detail or check.title, check.status)
        lines = []
        for label, text in summary.notes(check):
            lines.append(f"{label}: {text}")
        result.text = "\n".join(lines)
        case.result = [result]
    if check.findings:
        case.system_out = "\n".join(check.findings)
    return case


def _unproven(receipt: Receipt) -> Check:
    detail = f"the verdict is {receipt.verdict}; {summary.tally(receipt.checks)}: that proves nothing"
    return Check(
        id="suite.verdict",
        title="the image has passed",
        status=Status.ERROR,
        detail=detail,
    )
