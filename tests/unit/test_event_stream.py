"""What is made of the suite's lines: rows for a person, checks for the receipt, words for a number."""

import json

import pytest

from envbuilder.acceptance.check_text import number_text, result_row, with_unit
from envbuilder.acceptance.event_stream import SuiteEvents, ending_text
from envbuilder.console import Row
from envbuilder.model import Check, Status

PLAN = {
    "event": "plan",
    "checks": [{"id": "a", "title": "the first"}, {"id": "b", "title": "the second"}],
}


def watch(*events: object) -> SuiteEvents:
    made = SuiteEvents()
    for event in events:
        made.feed(json.dumps(event))
    return made


def result(identifier: str, **rest: object) -> dict[str, object]:
    return {
        "event": "result",
        "id": identifier,
        "title": f"the {identifier}",
        "status": "passed",
        **rest,
    }


def test_a_plan_waits_runs_and_ends() -> None:
    made = watch(PLAN)
    assert made.rows() == [
        Row(title="the first", state="waiting"),
        Row(title="the second", state="waiting"),
    ]
    made.feed('{"event": "start", "id": "a"}')
    assert made.rows()[0] == Row(
        title="the first", state="running", current=0, total=0, note=""
    )
    made.feed('{"event": "progress", "done": 3, "total": 8, "text": "loss 0.5"}')
    assert made.rows()[0] == Row(
        title="the first", state="running", current=3, total=8, note="loss 0.5"
    )
    made.feed('{"event": "progress", "done": 4, "total": 8}')
    assert made.rows()[0] == Row(
        title="the first", state="running", current=4, total=8, note=""
    )
    made.feed('{"event": "start", "id": "b"}')
    assert [row.state for row in made.rows()] == ["waiting", "running"]
    assert made.progress == (0, 0, "")
    made.feed(json.dumps(result("a", seconds=2.5)))
    assert made.running == "b"
    made.feed(json.dumps(result("b")))
    assert made.running == ""
    assert [row.state for row in made.rows()] == ["done", "done"]
    assert made.violations == []


def test_facts_training_and_verdict_are_taken_without_their_kind() -> None:
    made = watch(
        PLAN,
        {"event": "facts", "torch": "2.0.1"},
        {"event": "training", "loss": 0.5},
        {"event": "lm", "architecture": "llama"},
        {"event": "end", "verdict": "passed"},
    )
    assert (made.facts, made.training, made.lm, made.verdict) == (
        {"torch": "2.0.1"},
        {"loss": 0.5},
        {"architecture": "llama"},
        "passed",
    )


@pytest.mark.parametrize(
    "line",
    [
        "hello", "[]", "7", "{}", '{"event": "nothing known"}', '{"event": "start"}', '{"event": "result", "id": 7}',
        '{"event": "plan", "checks": [{"id": "a"}]}', '{"event": "progress", "done": "x", "total": 1}',
        '{"event": "end"}', '{"event": "result", "id": "a", "title": "a", "status": "splendid"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_malformed_line_is_kept_with_its_reason(line: str) -> None:
    made = SuiteEvents()
    made.feed(f"  {line}\n")
    made.feed(" \n")
    assert made.violation_count == 1
    assert line[:190] in made.violations[0]
    assert (made.titles, made.results) == ({}, {})


def test_custom_results_are_shown_and_missing_ones_are_errors() -> None:
    own = {"id": "own.x", "title": "mine"}
    plan = {"event": "plan", "checks": [*PLAN["checks"], own]}  # type: ignore[misc]
    made = watch(plan, result("b"), result("own.x"), result("own.x.z"))
    made.expect({"c": "the third"})
    assert list(made.titles) == ["a", "b", "own.x", "own.x.z", "c"]
    assert made.titles["own.x.z"] == "the own.x.z"
    found = made.checks("the suite was killed")
    remedy = "run it again; if it persists, look inside: `docker run -it IMAGE bash`"
    silent = Check(
        id="a",
        title="the first",
        status=Status.ERROR,
        detail="no answer: the suite was killed",
        remedy=remedy,
    )
    assert found[0] == silent
    assert [check.status for check in found] == [
        Status.ERROR,
        *[Status.PASSED] * 3,
        Status.ERROR,
    ]
    assert made.checks("")[0].detail == "no answer"


def check(**rest: object) -> Check:
    return Check(**{"id": "a", "title": "the first", "status": Status.PASSED, **rest})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "row"),
    [
        (check(), Row(title="the first", state="done", seconds=None, note="")),
        (check(seconds=2.5), Row(title="the first", state="done", seconds=2.5, note="")),
        (check(findings=("a", "b")), Row(title="the first", state="done", note="2 warnings")),
        (check(value=3, findings=("a",)), Row(title="the first", state="done", note="3 · 1 warnings")),
        (check(detail="unsaid"), Row(title="the first", state="done", note="")),
        (check(status=Status.FAILED, detail="bad", value=1, bound=0),
         Row(title="the first", state="failed", note="1 (expected 0) · bad")),
        (check(status=Status.ERROR, detail="bad", findings=("a",)), Row(title="the first", state="error", note="bad")),
        (check(status=Status.NOT_RUN, detail="no GPU"), Row(title="the first", state="not run", note="no GPU")),
    ],
)  # fmt: skip
def test_a_check_as_a_line(made: Check, row: Row) -> None:
    assert result_row(made) == row


@pytest.mark.parametrize(
    ("value", "bound", "unit", "text"),
    [
        (None, {"min": 1}, "", ""), ([1], None, "", ""), ({"a": 1}, None, "", ""), (0, None, "", "0"),
        (0.99612, {"min": 0.95}, "", "0.9961 (at least 0.95)"), (3, {"max": 2}, "s", "3 s (at most 2 s)"),
        (3, {"min": 1, "max": 5}, "", "3 (at least 1, at most 5)"), (3, {}, "", "3"), (3, 3, "", "3"),
        (3, 4, "", "3 (expected 4)"), ("x", "y", "", "x (expected y)"),
    ],
)  # fmt: skip
def test_a_number_and_its_bound(
    value: object, bound: object, unit: str, text: str
) -> None:
    assert number_text(check(value=value, bound=bound, unit=unit)) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"), (999, "B", "999 B"), (1000, "B", "1 kB"), (999_999, "B", "1000 kB"), (1e6, "B", "1 MB"),
        (1e9, "B", "1.00 GB"), (75_210_000_000, "B", "75.21 GB"), (10**400, "B", f"{10**400} B"), ("x", "B", "x B"),
        (8, "s", "8 s"), (8.123456, "s", "8.123 s"), (8.123456, "", "8.123"), ("x", "", "x"),
    ],
)  # fmt: skip
def test_a_number_with_its_unit(value: object, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


@pytest.mark.parametrize(
    ("code", "errors", "text"),
    [
        (0, ["x"], ""), (7, ["x"], ""), (135, ["x"], "the suite died of SIGBUS: /dev/shm is too small"),
        (137, ["x"], "the suite was killed"), (126, [], "the suite cannot be executed"),
        (126, ["x", " y \n"], "the suite cannot be executed: y"), (127, ["x"], "the suite is not in this image: x"),
        (1, [], "the suite ended with exit code 1"),
        (1, ["e" * 201], f"the suite ended with exit code 1: {'e' * 199}…"),
    ],
)  # fmt: skip
def test_how_a_container_ended(code: int, errors: list[str], text: str) -> None:
    assert ending_text(code, out_of_memory=False, errors=errors) == text
    assert (
        ending_text(code, out_of_memory=True, errors=errors)
        == "the container ran out of memory and was killed"
    )
