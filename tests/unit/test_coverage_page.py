"""The page of `make coverage`: the totals, and each module that is below."""

from typing import Any

import coverage_page


def file(percent: float, missing: list[int]) -> dict[str, Any]:
    return {
        "summary": {"percent_covered": percent, "num_branches": 8},
        "missing_lines": missing,
    }


def page(**files: dict[str, Any]) -> str:
    totals = {"percent_covered": 95.25, "covered_branches": 9, "num_branches": 10}
    return coverage_page.text(
        {"totals": totals, "files": files}, day="2026-11-28", commit="abc"
    )


def test_only_modules_below_are_named_the_lowest_first() -> None:
    text = page(
        good=file(90.0, [1]), low=file(89.9, []), lowest=file(20.0, [7, 1, 2, 3, 9])
    )
    assert "**95.2 % of lines and branches; 90.0 % of the 10 branches.**" in text
    assert text.splitlines()[-2:] == [
        "| lowest | 8 | 20.0 % | 1–3, 7, 9 |",
        "| low | 8 | 89.9 % | – |",
    ]


def test_no_file_is_below_the_limit() -> None:
    assert page(good=file(90.0, [])).splitlines()[-1] == "| none | | | |"
