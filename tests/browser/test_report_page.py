"""The page of a receipt, in a real browser: on a phone and on a desk, in light and dark."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import samples
from playwright.sync_api import Browser

from browser.opened import SIZES, Opened, faint, open_page
from envbuilder.acceptance import report
from envbuilder.model import Receipt, Status

RECEIPTS = {
    "passed": samples.passed(),
    "failed": samples.failed(),
    "hostile": samples.hostile(),
    "bare": samples.bare(),
}
STATUSES = {"✓ passed", "✗ failed", "! error", "– not run"}


@dataclass(kw_only=True)
class View(Opened):
    name: str
    size: str
    scheme: str
    receipt: Receipt


def look(browser: Browser, folder: Path, name: str, size: str, scheme: str) -> View:
    receipt, path = RECEIPTS[name], folder / "report.html"
    path.write_text(report.html(receipt))
    return open_page(
        browser,
        path.as_uri(),
        lambda page: View(
            page=page, name=name, size=size, scheme=scheme, receipt=receipt
        ),
        size=size,
        scheme=scheme,
    )


@pytest.fixture(
    scope="module", params=product(RECEIPTS, SIZES, ("light", "dark")), ids="-".join
)
def view(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[View]:
    made = look(browser, tmp_path_factory.mktemp("page"), *request.param)
    yield made
    made.page.close()


@pytest.fixture
def failed_on_phone(browser: Browser, tmp_path: Path) -> Iterator[View]:
    made = look(browser, tmp_path, "failed", "phone", "light")
    yield made
    made.page.close()


def test_page_makes_no_requests_and_logs_no_errors(view: View) -> None:
    assert [url for url in view.requests if not url.startswith("data:")] == [
        view.page.url
    ]
    assert view.complaints == []


def test_nothing_overflows(view: View) -> None:
    measured = view.measure()
    assert measured["overflow"] == 0
    assert measured["outside"] == []


def test_all_text_can_be_read(view: View) -> None:
    measured = view.measure()
    assert faint(measured) == []
    assert len(measured["contrasts"]) >= 4
    assert measured["smallest"] >= 11
    assert (
        (measured["background"] < 0.05)
        if view.scheme == "dark"
        else (measured["background"] > 0.9)
    )


def test_it_is_built_for_those_who_hear_it(view: View) -> None:
    page, measured = view.page, view.measure()
    assert page.get_attribute("html", "lang") == "en"
    assert page.title().startswith(f"{view.receipt.verdict}: ")
    assert [
        page.get_by_role(role).count() for role in ("banner", "main", "contentinfo")
    ] == [1, 1, 1]
    assert measured["levels"][0] == 1
    assert measured["levels"].count(1) == 1
    assert all(
        after <= before + 1
        for before, after in zip(
            measured["levels"], measured["levels"][1:], strict=False
        )
    )
    assert page.locator("section:not([aria-labelledby])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    assert (
        page.locator(".checks :is(thead, tbody, tr, th, td):not([role])").count() == 0
    )  # rows of flex are no rows


def test_every_check_is_a_row_with_its_status_in_words(view: View) -> None:
    rows = (
        view.page.locator(".checks")
        .get_by_role("row")
        .filter(has=view.page.get_by_role("rowheader"))
    )
    assert rows.count() == len(view.receipt.checks)
    statuses = view.page.locator(".status").all_inner_texts()
    assert set(statuses) <= STATUSES
    assert len(statuses) >= len(view.receipt.checks)


def test_verdict_comes_first_then_the_failed_checks(view: View) -> None:
    page, height = view.page, SIZES[view.size][1]
    assert page.locator("h1").inner_text().startswith(view.receipt.verdict)
    assert (page.locator("h1").bounding_box() or {})["y"] < 100
    wrong = [
        check
        for check in view.receipt.checks
        if check.status in (Status.FAILED, Status.ERROR)
    ]
    assert page.locator(".trouble").count() == len(wrong)
    if view.name == "failed":
        trouble = page.locator(".trouble").first
        assert "it still ran 5 s after SIGTERM" in trouble.inner_text()
        box = trouble.bounding_box() or {}
        assert box["y"] + box["height"] < height


def test_the_curve_is_drawn(view: View) -> None:
    drawing = view.page.get_by_role("img", name="Training loss at each step")
    if not view.receipt.training:
        assert drawing.count() == 0
        return
    assert drawing.get_attribute("aria-labelledby")
    frame, lines = drawing.bounding_box() or {}, view.page.locator("polyline.curve")
    boxes = [line.bounding_box() or {} for line in lines.all()]
    assert frame["width"] > 0.7 * SIZES[view.size][0] * (
        1 if view.size == "phone" else 0.8
    )
    for box in boxes:
        assert box["x"] >= frame["x"] - 2
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 2
    if view.name != "hostile":
        assert (
            len((lines.get_attribute("points") or "").split())
            == len(view.receipt.training["losses"])
            == 252
        )
        assert boxes[0]["width"] == pytest.approx(frame["width"], abs=4)
        assert boxes[0]["height"] > 0.7 * frame["height"]
    with_it = drawing.screenshot()
    view.page.add_style_tag(content=".curve { visibility: hidden }")
    assert drawing.screenshot() != with_it


def test_an_attack_is_only_text(view: View) -> None:
    assert view.page.locator("script, img, iframe, object, [onerror]").count() == 0
    if view.name == "hostile":
        assert (
            "<script>alert(1)</script>"
            in view.page.locator(".trouble").first.inner_text()
        )


def test_warnings_unfold(failed_on_phone: View) -> None:
    warning = failed_on_phone.page.get_by_text("DeprecationWarning: pkg_resources")
    assert not warning.is_visible()
    failed_on_phone.page.locator("summary").click()
    assert warning.is_visible()


def test_the_layout_measurement_detects_errors(failed_on_phone: View) -> None:
    page = failed_on_phone.page
    page.add_style_tag(
        content=".quiet { color: #999 !important } .plot svg { width: 30rem !important }"
    )
    measured = failed_on_phone.measure()
    assert min(ratio for ratio, _ in measured["contrasts"]) < 3
    assert measured["overflow"] > 0
    assert measured["outside"] != []
