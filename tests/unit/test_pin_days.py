"""The day of the packages that nobody pinned: spans of pins, the day that follows, and what uv is told."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.pin_lookup import look_up_pins, span_of
from envbuilder.lock.project_page import ProjectPage, parse_project_page
from envbuilder.lock.uv_compile import Uv, compile_argv
from envbuilder.model import PackageDay, Stack
from envbuilder.network import Network
from envbuilder.processes import Completed
from envbuilder.resolve import dated, resolve
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.pin_days import FOLLOWERS, PinSpan, day_of_pins

LATE = date(2025, 3, 20)
PAGE = """{"files": [
 {"filename": "old-1.0-py3-none-any.whl", "upload-time": "2023-01-10T23:59:59Z"},
 {"filename": "old-1.0.tar.gz", "upload-time": "2023-01-09T00:00:00Z"},
 {"filename": "old-1.1rc1-py3-none-any.whl", "upload-time": "2023-02-01T00:00:00Z"},
 {"filename": "old-1.1-py3-none-any.whl", "upload-time": "2023-03-01T00:00:00Z", "yanked": "broken"},
 {"filename": "old-2.0-py3-none-any.whl", "upload-time": "2023-04-01T00:00:00Z"},
 {"filename": "old-1.0.1-py3-none-any.whl", "upload-time": "2023-05-01T00:00:00Z"}
]}"""


def span(pin: str, first: str, last: str | None) -> PinSpan:
    return PinSpan(
        pin=pin,
        first=date.fromisoformat(first),
        last=date.fromisoformat(last) if last else None,
    )


def page() -> ProjectPage:
    parsed = parse_project_page(PAGE, "old")
    assert parsed is not None
    return parsed


def stack_for(facts: Catalog, *packages: str, **options: str) -> Stack:
    return resolve(parse_request({"cuda": "11.7", **options}, packages), facts)


@pytest.mark.parametrize(
    ("spans", "day"),
    [
        ([], "2025-03-20"),
        ([("a 1", "2020-01-01", None)], "2025-03-20"),
        ([("a 1", "2023-12-18", "2024-01-21")], "2024-01-21"),
        # Newest together until the first of them gets a successor.
        (
            [("a 1", "2023-12-18", "2024-01-21"), ("b 1", "2021-05-05", "2024-12-03")],
            "2024-01-21",
        ),
        # Never newest together: the first day that has both.
        (
            [("a 1", "2023-12-18", "2024-01-21"), ("b 1", "2024-09-25", "2024-10-20")],
            "2024-09-25",
        ),
        # Younger than the day of the torch.
        ([("a 1", "2025-06-01", None)], "2025-06-01"),
    ],
)
def test_pins_decide_the_day(
    spans: list[tuple[str, str, str | None]], day: str
) -> None:
    found = day_of_pins([span(*each) for each in spans], LATE)
    assert found.day == date.fromisoformat(day)
    assert bool(found.notes) == (found.day != LATE)


def test_the_note_names_the_pin_that_decides() -> None:
    pins = [span("a 1", "2023-12-18", "2024-01-21"), span("b 2", "2023-01-01", None)]
    assert (
        day_of_pins(pins, LATE)
        .notes[0]
        .startswith(
            "packages are as of 2024-01-21, the last day on which a 1 was the newest"
        )
    )


def test_old_transformers_date_their_companions(facts: Catalog) -> None:
    assert stack_for(facts).as_of == LATE
    # 4.37.0 was released on 2024-01-22.
    pinned = stack_for(facts, transformers="4.36.2")
    assert pinned.as_of == date(2024, 1, 21)
    assert "transformers 4.36.2" in pinned.notes[-1]
    assert stack_for(facts, transformers="4.36").as_of == pinned.as_of
    assert stack_for(facts, transformers="4").as_of == LATE
    assert stack_for(facts, transformers="4.49.0").notes == stack_for(facts).notes
    asked = stack_for(facts, transformers="4.36.2", as_of="2024-06-01")
    assert asked.as_of == date(2024, 6, 1)


def test_a_torch_newer_than_transformers_leaves_accelerate_old(facts: Catalog) -> None:
    stack = stack_for(facts, "peft==0.7", transformers="4.36.2", cuda="12.8")
    # Two weeks after its torch, so that what goes with it is there.
    assert stack.as_of == date(2026, 2, 4)
    days = {package.name: package.as_of for package in stack.package_days}
    assert days["accelerate"] == date(2024, 1, 21)
    assert set(days) == set(FOLLOWERS) - {"peft"}
    assert "as of 2024-01-21, with transformers 4.36.2" in stack.notes[-1]


def test_uv_is_told_the_day_of_a_package(facts: Catalog) -> None:
    day = PackageDay(name="accelerate", as_of=date(2024, 1, 21))
    stack = replace(stack_for(facts), package_days=(day,))
    uv = Uv(
        program="uv", run=lambda argv: Completed(returncode=0, stdout="", stderr="")
    )
    words = compile_argv(uv, stack, Path("f"))
    value = words[words.index("--exclude-newer-package") + 1]
    assert value == "accelerate=2024-01-22T00:00:00Z"


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        # A yanked release and a pre-release are no successors.
        ("old==1.0", span("old 1.0", "2023-01-09", "2023-03-31")),
        ("old==2.0", span("old 2.0", "2023-04-01", None)),
        ("old==1.*", span("old 1.0.1", "2023-05-01", "2023-05-01")),
        ("old==1.1rc1", span("old 1.1rc1", "2023-02-01", "2023-03-31")),
        ("old==9", None),
    ],
)
def test_the_index_knows_the_days_of_a_version(
    pin: str, expected: PinSpan | None
) -> None:
    assert span_of(Requirement(pin), page()) == expected


def test_a_page_without_days_tells_nothing() -> None:
    text = '{"files": [{"filename": "old-1.0-py3-none-any.whl"}]}'
    bare = parse_project_page(text, "old")
    assert bare is not None
    assert span_of(Requirement("old==1.0"), bare) is None


def test_packages_move_the_day_of_a_stack(facts: Catalog) -> None:
    request = parse_request({"cuda": "11.7"}, ["old==1.0"])
    stack = resolve(request, facts)
    moved, notes = dated(
        stack, request, facts, [span("old 1.0", "2023-12-01", "2024-01-09")]
    )
    assert moved.as_of == date(2024, 1, 9)
    assert moved.notes[-1] == notes[0]
    assert dated(stack, request, facts, []) == (stack, ())


def test_pins_without_an_index_are_named(facts: Catalog) -> None:
    packages = ["old==1.0", "free", "here==1; python_version < '3'", "new>=2"]
    stack = stack_for(facts, *packages)
    uv = Uv(
        program="uv",
        run=lambda argv: Completed(returncode=0, stdout="", stderr=""),
        index_url="http://127.0.0.1:9/simple",
        client=IndexClient(network=Network()),
    )
    pins = look_up_pins(uv, stack, stack.extras)
    assert pins.unknown == ("old==1.0",)
    assert pins.note.startswith("since when there is old==1.0 is not known")
    assert look_up_pins(uv, stack, ["free"]).note == ""


def test_the_pages_of_an_index_are_read_with_care() -> None:
    assert parse_project_page("<html>", "old") is None
    assert parse_project_page('{"files": {}}', "old") is None
    text = """{"files": [
      {"filename": "other-1.0-py3-none-any.whl"}, {"filename": "old-1.0.exe"},
      {"filename": "old-1.0-py3-none-any.whl", "requires-python": ">=banana", "url": "file:///etc/passwd"}
    ]}"""
    parsed = parse_project_page(text, "old")
    assert parsed is not None
    assert [(file.name, file.url) for file in parsed.files] == [
        ("old-1.0-py3-none-any.whl", "")
    ]
    assert parsed.newest(Requirement("old").specifier, LATE) == Version("1.0")
