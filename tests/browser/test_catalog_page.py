"""The page to pick from, in a real browser: by mouse and by keyboard, seen and heard, against the resolver."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.opened import SIZES, Opened, faint, open_page
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.format.page import document
from envbuilder.format.page.axes import Picked, request_of
from envbuilder.format.page.grid import Grid
from envbuilder.format.page.receipt_summary import Proof
from envbuilder.model import Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import command

CLICKS = 60
STATES = {
    "nothing": "",
    "fits": "#cuda=11.7&base=bootstrap",
    "clash": "#cuda=11.7&gpu=9.0&torch=2.5",
}
PROVEN = Proof(
    accepted=True,
    title="built, accepted on 2026-11-24",
    pairs=(("image size", "4.48 GB"),),
)


@dataclass(kw_only=True)
class View(Opened):
    url: str

    def pick(self, name: str, value: str) -> None:
        """By a click, also where a choice is greyed."""
        self.page.locator(f'input[name="{name}"][value="{value}"]').click(force=True)

    def picked(self) -> dict[str, str]:
        checked = self.page.locator("input:checked").evaluate_all(
            "all => all.map(one => [one.name, one.value])"
        )
        return {name: value for name, value in checked if value}

    def greyed(self) -> set[tuple[str, str]]:
        found = self.page.locator("input[aria-disabled=true]").evaluate_all(
            "all => all.map(one => [one.name, one.value])"
        )
        return {(name, value) for name, value in found}

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(f"#shown {selector}").all_text_contents()


@pytest.fixture(scope="module")
def file(grid: Grid, facts: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    proven = grid.answer({"cuda": "11.7", "base": "bootstrap"})
    assert proven is not None
    path = tmp_path_factory.mktemp("catalog") / "page.html"
    path.write_text(document.html(facts, grid, proofs={proven.name: PROVEN}))
    return path


def look(
    browser: Browser,
    file: Path,
    fragment: str = "",
    size: str = "desk",
    scheme: Any = "light",
) -> View:
    url = file.as_uri() + fragment
    return open_page(
        browser, url, lambda page: View(page=page, url=url), size=size, scheme=scheme
    )


@pytest.fixture(
    scope="module", params=product(STATES, SIZES, ("light", "dark")), ids="-".join
)
def seen(
    browser: Browser, file: Path, request: pytest.FixtureRequest
) -> Iterator[View]:
    state, size, scheme = request.param
    view = look(browser, file, STATES[state], size, scheme)
    yield view
    view.page.close()


@pytest.fixture
def view(browser: Browser, file: Path) -> Iterator[View]:
    view = look(browser, file)
    yield view
    assert view.complaints == []
    view.page.close()


# --- against the resolver ------------------------------------------------------------------------------------------


def said(picked: Picked, facts: Catalog) -> Stack | NoStackError:
    try:
        return resolve(request_of(picked), facts)
    except NoStackError as error:
        return error


def compare(view: View, grid: Grid, facts: Catalog) -> None:
    """Everything that the page says of its choices now."""
    picked = view.picked()
    answer = said(picked, facts)
    clashes = grid.clashes_in(picked)
    if isinstance(answer, Stack):
        assert view.texts("strong") == [answer.name]
        assert view.texts(".fits code") == [command(request_of(picked), "build")]
        told = dict(zip(view.texts(".facts dt"), view.texts(".facts dd"), strict=True))
        versions = (
            ("CUDA", answer.cuda),
            ("cuDNN", answer.cudnn),
            ("Python", answer.python),
            ("torch", answer.torch),
        )
        assert {name: told[name] for name, _ in versions} == {
            name: str(version) for name, version in versions
        }
        assert told["GPU code"] == " ".join(answer.arch_list)
        assert told["driver"] == f"{answer.driver_floor} or newer"
        for feature in answer.features_on_gpu:
            assert told[feature.name] == feature.text
        assert told["evidence"].startswith(f"{answer.evidence}: ")
        assert view.texts(".notes li") == list(answer.notes)
    else:
        assert len(view.texts(".clash")) == len(clashes) >= 1
        assert view.texts(".reasons li") == [
            reason for clash in clashes for reason in clash.reasons
        ]
        assert set(answer.plain_reasons) <= set(view.texts(".reasons li"))
        assert view.texts(".clash code") == [
            command for clash in clashes for command in clash.suggestions
        ]
    assert view.greyed() == greyed(picked, grid)


def greyed(picked: Picked, grid: Grid) -> set[tuple[str, str]]:
    """The choices that clash with the others."""
    return {
        (axis.name, choice.value)
        for axis in grid.axes
        for choice in axis.choices[1:]
        if any(
            axis.name in clash.picked
            for clash in grid.clashes_in({**picked, axis.name: choice.value})
        )
    }


def test_its_answers_are_the_resolvers_click_by_click(
    view: View, grid: Grid, facts: Catalog
) -> None:
    chance = random.Random(7)
    fitting = 0
    compare(view, grid, facts)
    for _ in range(CLICKS):
        axis = chance.choice(grid.axes)
        value = chance.choice(axis.choices).value
        if chance.random() < 0.75 and (axis.name, value) in view.greyed():
            value = ""
        view.pick(axis.name, value)
        compare(view, grid, facts)
        fitting += grid.answer(view.picked()) is not None
    assert CLICKS / 4 < fitting < CLICKS


def test_exactly_the_values_that_do_not_fit_are_disabled(
    view: View, facts: Catalog
) -> None:
    view.pick("cuda", "11.7")
    view.pick("driver", "470.42.01")
    for name, value in [
        ("gpu", "9.0"),
        ("torch", "2.5"),
        ("python", "3.13"),
        ("python", "3.10"),
        ("gpu", "8.6"),
    ]:
        refused = isinstance(said({**view.picked(), name: value}, facts), NoStackError)
        assert ((name, value) in view.greyed()) == refused


def test_a_suggestion_resolves_the_conflict(
    view: View, grid: Grid, facts: Catalog
) -> None:
    view.pick("cuda", "11.7")
    view.pick("gpu", "9.0")
    assert "CUDA 11.7 and GPU 9.0 Hopper do not go together" in view.texts("h3")
    view.page.get_by_role(
        "button", name="Choose this: envbuilder resolve --cuda"
    ).first.click()
    assert grid.answer(view.picked()) is not None
    compare(view, grid, facts)
    expect(view.page.locator("#answer-title")).to_be_focused()


def test_changing_one_choice_keeps_the_others(
    view: View, grid: Grid, facts: Catalog
) -> None:
    for name, value in (("gpu", "9.0"), ("python", "3.10"), ("cuda", "11.7")):
        view.pick(name, value)
    ways = (
        view.page.locator("#shown")
        .get_by_role("group", name="CUDA")
        .get_by_role("button")
    )
    offered = {
        re.sub("^CUDA ", "", way.get_attribute("aria-label") or "")
        for way in ways.all()
    }
    cuda = next(axis for axis in grid.axes if axis.name == "cuda")
    kept = {"gpu": "9.0", "python": "3.10"}
    works = {
        c.label
        for c in cuda.choices
        if isinstance(
            said({**kept, "cuda": c.value} if c.value else kept, facts), Stack
        )
    }
    assert offered == works
    view.page.locator("#shown").get_by_role("button", name="CUDA 12.4").click()
    assert view.picked() == {**kept, "cuda": "12.4"}
    compare(view, grid, facts)


def test_the_dockerfile_and_the_receipt_are_shown(view: View, grid: Grid) -> None:
    view.pick("cuda", "11.7")
    assert view.texts(".state") == ["resolves, not built"]
    view.page.get_by_role("button", name="cu117-torch2.0.1-py3.9-debian11").click()
    assert view.texts(".state") == [PROVEN.title]
    assert "4.48 GB" in view.texts(".facts dd")
    file = view.page.get_by_role("region", name="Dockerfile")
    assert not file.is_visible()
    view.page.get_by_text("Show the Dockerfile").click()
    assert file.is_visible()
    assert file.inner_text().startswith("# cu117-torch2.0.1-py3.9-debian11\n")
    assert (
        "\nCOPY --link images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock images/"
        in file.inner_text()
    )
    assert "{name}" not in file.inner_text()
    assert '\nENTRYPOINT ["/opt/envbuilder/payload/entrypoint"]\n' in file.inner_text()


def test_companions_that_fit_are_a_command(view: View) -> None:
    view.pick("cuda", "13.0")
    view.page.locator("#shown summary", has_text="that fit").click()
    commands = view.texts(".companions code")
    assert "envbuilder build --cuda 13.0 --with cupy" in commands
    assert "envbuilder build --cuda 13.0 --with vllm" not in commands
    others = view.page.locator(".companions").last
    expect(others).to_contain_text("needs torch 2.14.0; this is torch 2.14.1")


def test_the_command_can_be_copied(view: View) -> None:
    view.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    view.pick("cuda", "12.4")
    view.page.get_by_role("button", name="Copy: envbuilder build --cuda 12.4").click()
    expect(view.page.get_by_role("status")).to_have_text(
        "Copied: envbuilder build --cuda 12.4"
    )
    assert (
        view.page.evaluate("navigator.clipboard.readText()")
        == "envbuilder build --cuda 12.4"
    )


def test_a_link_keeps_the_choices(view: View, browser: Browser, file: Path) -> None:
    view.pick("cuda", "12.4")
    view.pick("driver", "535.54.03")
    again = look(browser, file, "#" + view.page.url.partition("#")[2])
    assert again.picked() == {"cuda": "12.4", "driver": "535.54.03"}
    assert again.texts("strong") == view.texts("strong")
    again.page.evaluate("location.hash = '#cuda=99.9&python=3.10&x=<b>'")
    expect(again.page.locator("#unknown")).to_have_text(
        "The address asks for what this page does not know: cuda 99.9, x <b>."
    )
    assert again.picked() == {"python": "3.10"}
    again.page.get_by_role("button", name="Start over").click()
    assert again.picked() == {}
    assert again.complaints == []
    again.page.close()


# --- for everybody -------------------------------------------------------------------------------------------------


def test_page_makes_no_requests_and_logs_no_errors(seen: View) -> None:
    assert [url for url in seen.requests if not url.startswith("data:")] == [
        seen.url.partition("#")[0]
    ]
    assert seen.complaints == []


def test_nothing_overflows_and_all_text_is_readable(seen: View) -> None:
    measured = seen.measure()
    assert measured["overflow"] == 0
    assert measured["outside"] == []
    assert faint(measured) == []
    assert len(measured["contrasts"]) > 100
    assert measured["smallest"] >= 12
    assert all(
        after <= before + 1
        for before, after in zip(
            measured["levels"], measured["levels"][1:], strict=False
        )
    )


def test_every_control_has_its_name_and_its_group(seen: View, grid: Grid) -> None:
    page = seen.page
    assert [
        page.get_by_role(role).count()
        for role in ("banner", "main", "contentinfo", "status")
    ] == [1, 1, 1, 1]
    for axis in grid.axes:
        group = page.locator("#choices").get_by_role(
            "group", name=axis.title, exact=True
        )
        assert group.get_by_role("radio").count() == len(axis.choices)
        for choice in axis.choices:
            name = " ".join(filter(None, (choice.label, choice.note)))
            assert group.get_by_role("radio", name=name, exact=True).count() == 1
    for control in page.locator("button, a, summary").all():
        assert (
            control.get_attribute("aria-label") or control.text_content() or ""
        ).strip()


def test_why_a_choice_is_greyed_can_be_heard_and_read(view: View, grid: Grid) -> None:
    view.pick("cuda", "11.7")
    [clash] = grid.clashes_in({"cuda": "11.7", "gpu": "9.0"})
    radio = view.page.locator('input[name="gpu"][value="9.0"]')
    expect(radio).to_have_accessible_description(
        re.compile(re.escape("CUDA 11.7 and GPU 9.0 Hopper do not go together: "))
    )
    for reason in clash.reasons:
        expect(radio).to_have_accessible_description(re.compile(re.escape(reason)))
    row = view.page.locator("#gpu .why li", has_text="9.0 Hopper").first
    assert not row.is_visible()
    view.page.locator("#gpu summary").focus()
    view.page.keyboard.press("Enter")
    assert row.is_visible()
    assert all(reason in (row.text_content() or "") for reason in clash.reasons)
    view.pick("cuda", "")
    expect(radio).to_have_accessible_description("")


def test_search_finds_a_gpu_by_its_name(view: View, facts: Catalog) -> None:
    name = view.page.get_by_role("combobox", name="Find yours by name")
    hopper = next(row for row in facts.gpus if "H100" in row.names)
    name.fill("H100")
    assert view.picked() == {"gpu": str(hopper.capability)}
    view.pick("gpu", "")
    name.fill("Voodoo 2")
    assert view.picked() == {}
    name.press("Enter")
    expect(view.page.get_by_role("status")).to_have_text(
        "The catalog knows no GPU called Voodoo 2: choose by its compute capability."
    )


def test_a_gpu_with_an_arm64_processor_is_not_picked(view: View) -> None:
    name = view.page.get_by_role("combobox", name="Find yours by name")
    name.fill("GH200")
    assert view.picked() == {}
    expect(view.page.get_by_role("status")).to_have_text(
        'GH200 has an arm64 processor, and these stacks are for amd64: envbuilder resolve --gpu "GH200"'
    )
    name.fill("A10G")
    assert view.picked() == {"gpu": "8.6"}


def test_the_answer_is_announced(view: View) -> None:
    status = view.page.get_by_role("status")
    assert status.evaluate(
        "one => one.closest('[hidden]') === null && getComputedStyle(one).display !== 'none'"
    )
    view.pick("cuda", "11.7")
    expect(status).to_have_text(
        "It fits: cu117-torch2.0.1-py3.10-debian12; resolves, not built."
    )
    view.pick("gpu", "9.0")
    expect(status).to_have_text("CUDA 11.7 and GPU 9.0 Hopper do not go together.")


def focused(page: Page) -> str:
    """`INPUT|cuda|11.7`, or an element's text."""
    script = "(one) => one.name ? [one.tagName, one.name, one.value].join('|') : one.textContent"
    return str(page.evaluate(f"({script})(document.activeElement)"))


def test_page_works_with_the_keyboard_only(
    view: View, grid: Grid, facts: Catalog
) -> None:
    page = view.page
    press = page.keyboard.press
    press("Tab")
    assert focused(page) == "INPUT|cuda|"
    assert (
        page.locator("input:focus + .face").evaluate(
            "one => getComputedStyle(one).outlineStyle"
        )
        == "solid"
    )
    values = {
        axis.name: [choice.value for choice in axis.choices] for axis in grid.axes
    }
    press("ArrowUp")  # around to the last one
    assert view.picked() == {"cuda": values["cuda"][-1]}
    for _ in values["cuda"][values["cuda"].index("11.7") + 1 :]:
        press("ArrowUp")
    assert view.picked() == {"cuda": "11.7"}
    for _ in range(6):
        press("Tab")
        if focused(page).startswith("INPUT|gpu|"):
            break
    for _ in range(len(values["gpu"])):
        press("ArrowDown")
        if view.picked().get("gpu") == "9.0":
            break
    assert view.picked() == {"cuda": "11.7", "gpu": "9.0"}
    compare(view, grid, facts)
    for _ in range(60):
        press("Tab")
        if "Choose this" in focused(page):
            break
    press("Enter")
    assert grid.answer(view.picked()) is not None
    compare(view, grid, facts)
    expect(page.locator("#answer-title")).to_be_focused()


def test_every_control_is_reached_by_tab(view: View) -> None:
    view.pick("cuda", "11.7")
    view.pick("gpu", "9.0")
    view.page.evaluate("document.activeElement.blur()")
    wanted = view.page.locator("button:visible, summary:visible, input:checked").count()
    reached = set()
    for _ in range(wanted + 5):
        view.page.keyboard.press("Tab")
        if view.page.evaluate(
            "document.activeElement.matches('button, summary, input:checked')"
        ):
            reached.add(
                view.page.evaluate(
                    "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
                )
            )
    assert len(reached) == wanted


def test_on_a_phone_the_answer_is_one_tap_away(browser: Browser, file: Path) -> None:
    view = look(browser, file, "", "phone")
    view.pick("cuda", "12.4")
    bar = view.page.locator("#bar").bounding_box() or {}
    assert bar["y"] + bar["height"] == pytest.approx(SIZES["phone"][1], abs=1)
    view.page.get_by_role("link", name="See the answer").click()
    expect(view.page.locator("#answer-title")).to_be_in_viewport()
    assert view.picked() == {"cuda": "12.4"}
    view.page.close()
