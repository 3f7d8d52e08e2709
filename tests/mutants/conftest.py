"""These need an engine; at the end they print which check caught each mutant, with its message."""

from pathlib import Path

import pytest

from .catalog import MUTANTS

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.container)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and dict(report.user_properties).get("fired")
    ]
    if not reports:
        return
    order = {mutant.name: number for number, mutant in enumerate(MUTANTS)}
    rows = [
        _row(report)
        for report in sorted(reports, key=lambda report: order[_name(report)])
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    terminalreporter.section(
        "mutants: name, the check that fired, right or wrong, what it said"
    )
    for row in rows:
        cells = "  ".join(
            cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)
        )
        terminalreporter.write_line(f"{cells}  {row[3]}")
    right = sum(report.passed for report in reports)
    terminalreporter.write_line(
        f"{right} of {len(reports)} were caught by the named check with the named diagnosis"
    )


def _name(report: pytest.TestReport) -> str:
    return report.nodeid.split("[", 1)[1].removesuffix("]")


def _row(report: pytest.TestReport) -> tuple[str, str, str, str]:
    said = dict(report.user_properties)
    detail = " ".join(str(said["said"]).split())[:100]
    return (
        _name(report),
        str(said["fired"]),
        "right" if report.passed else "WRONG",
        detail,
    )
