"""What an image prints is an event of the suite's, or it breaks the protocol: no third way, and no traceback."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin.suite_output import FACTS, event, plan, result, start

from envbuilder import grammar
from envbuilder.acceptance import events
from envbuilder.acceptance.event_stream import CLAIMED, SuiteEvents
from envbuilder.acceptance.events import ProtocolError, parse
from envbuilder.model import Status

NAMES = ["contract.user", "gpu.kernel", "own.mine"]
DEEP = "[" * 100_000
DEEP_VALUE = '{"event": "result", "id": "contract.user", "title": "T", "status": "passed", "value": %s%s}'


def watched(*lines: str, **how: Any) -> SuiteEvents:
    watch = SuiteEvents(**how)
    for line in lines:
        watch.feed(line)
    return watch


def fields_of(line: str, **changes: Any) -> str:
    return json.dumps({**json.loads(line), **changes})


BROKEN = {
    "no JSON": "Segmentation fault",
    "no object": "[1]",
    "an unknown event": event("magic"),
    "an unknown field": fields_of(start("contract.user"), more=1),
    "a number for an id": fields_of(start("contract.user"), id=5),
    "an id with a line break": fields_of(start("contract.user"), id="contract.\nuser"),
    "an id that is a path": fields_of(start("contract.user"), id="../../etc/passwd"),
    "an accuracy that is a word": event("training", accuracy="x"),
    "losses that are words": event("training", losses=[1.0, "x"]),
    "epochs that are none": event("training", epochs=[1, 2]),
    "a causal model of another suite": event("lm", colour="red"),
    "seconds below zero": event("training", seconds=-1),
    "NaN": '{"event": "training", "accuracy": NaN}',
    "infinity": '{"event": "training", "accuracy": 1e999}',
    "a number of 5,000 digits": '{"event": "training", "steps": %s}' % ("1" * 5000),
    "a value of 100 digits": fields_of(result("contract.user"), value=10**100),
    "a value of many levels": DEEP_VALUE % ("[" * 20, "]" * 20),
    "too deep to read": DEEP,
    "a deep value": DEEP_VALUE % (DEEP, ""),
    "half a character": '{"event": "start", "id": "\\ud800"}',
    "NUL in an id": '{"event": "start", "id": "contract.\\u0000user"}',
    "a status that is none": fields_of(result("contract.user"), status="great"),
    "findings that are a number": fields_of(result("contract.user"), findings=5),
    "too many findings": fields_of(result("contract.user"), findings=["x"] * 2000),
    "an unknown fact": event("facts", colour="red"),
    "a lock that is no digest": event("facts", lock="sha256:1"),
    "wheels without end": event("facts", wheel_bytes=1 << 80),
    "progress that is a word": event("progress", id="contract.user", done="x", total=2),
    "a check without a plan": start("imports.failed"),
    "an answer that nobody asked for": result("imports.failed"),
    "an answer below a check that is not the user's": result("contract.user.more"),
    "a second plan": plan(NAMES),
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_malformed_events_break_the_protocol_without_effect(line: str) -> None:
    watch = watched(plan(NAMES), line)
    assert watch.violation_count == 1
    assert watch.protocol().startswith(
        "1 lines of its output break the protocol; the first: "
    )
    assert grammar.matches(grammar.Prose, watch.protocol())
    assert (
        watch.results,
        watch.facts,
        watch.training,
        watch.lm,
        watch.verdict,
        watch.running,
    ) == ({}, {}, {}, {}, "", "")
    assert list(watch.titles) == NAMES


def test_events_at_the_wrong_time_break_the_protocol() -> None:
    assert watched(start("contract.user"), plan(NAMES)).violation_count == 1
    assert (
        watched(
            plan(NAMES), event("end", verdict="passed"), result("contract.user")
        ).violation_count
        == 1
    )
    assert (
        watched(
            plan(NAMES), event("end", verdict="passed"), event("end", verdict="passed")
        ).violation_count
        == 1
    )
    again = watched(
        plan(NAMES), result("contract.user", "failed"), result("contract.user")
    )
    assert (again.violation_count, again.results["contract.user"].status) == (
        1,
        Status.FAILED,
    )


@pytest.mark.parametrize(
    "names",
    [[], ["contract.user", "contract.user"], ["contract.user", "contract.layers"]],
)
def test_empty_duplicate_and_host_plans_are_refused(names: list[str]) -> None:
    watch = watched(plan(names), reserved=frozenset({"contract.layers"}))
    assert (watch.violation_count, watch.titles) == (1, {})


def test_endless_plan_is_refused() -> None:
    watch = watched(plan([f"a.{number}" for number in range(events.MOST_CHECKS + 1)]))
    assert (watch.violation_count, watch.titles) == (1, {})


def test_few_malformed_lines_are_kept_and_all_are_counted() -> None:
    watch = watched(plan(NAMES), *["junk"] * 1000)
    assert watch.violation_count == 1000
    assert len(watch.violations) == 20
    assert watch.protocol().startswith("1000 lines")


def test_results_of_a_custom_check_are_limited() -> None:
    answers = [result(f"own.mine.{number}") for number in range(events.MOST_CHECKS + 5)]
    watch = watched(plan(NAMES), *answers)
    assert (len(watch.results), watch.violation_count) == (events.MOST_CHECKS, 5)


def test_texts_become_one_printable_line_of_bounded_length() -> None:
    hostile = "\x1b]0;owned\x07 a\u202eb\r\n✓ accepted\u2028\u200b" + "x" * 9000
    watch = watched(
        plan(NAMES),
        result(
            "contract.user", "failed", remedy=hostile, findings=[hostile], value=hostile
        ),
    )
    check = watch.results["contract.user"]
    for text in (check.remedy, check.findings[0], check.value):
        assert grammar.matches(grammar.Prose, text)
        assert text.startswith("]0;owned a b ✓ accepted")


def test_the_title_of_a_check_is_the_planned_one() -> None:
    watch = watched(
        plan(NAMES), fields_of(result("contract.user"), title="all is well")
    )
    assert watch.results["contract.user"].title == "title of contract.user"


def test_unmeasured_values_are_marked() -> None:
    watch = watched(
        plan(NAMES),
        event(
            "training",
            losses=[1.0, None],
            accuracy=None,
            more={"of": "another version"},
        ),
    )
    assert watch.training == {"losses": [1.0, None], "accuracy": None}
    watch = watched(plan(NAMES), event("facts", **FACTS), event("facts", cuda=None))
    assert (watch.facts, watch.violation_count) == ({"cuda": None}, 0)


def test_gpu_checks_never_pass_without_a_gpu() -> None:
    lines = (plan(NAMES), result("gpu.kernel"), result("contract.user"))
    check = watched(*lines, gpu=False).results["gpu.kernel"]
    assert (check.status, check.detail) == (Status.FAILED, CLAIMED)
    assert watched(*lines, gpu=False).results["contract.user"].status is Status.PASSED
    assert watched(*lines).results["gpu.kernel"].status is Status.PASSED
    waiting = watched(plan(NAMES), result("gpu.kernel", "not_run"), gpu=False).results[
        "gpu.kernel"
    ]
    assert waiting.status is Status.NOT_RUN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=9,
)
KINDS = (
    "plan",
    "start",
    "progress",
    "result",
    "facts",
    "training",
    "lm",
    "end",
    "other",
)


@pytest.mark.slow
@given(
    kind=st.sampled_from(KINDS),
    fields=st.dictionaries(
        st.sampled_from(
            "id title status value bound detail unit seconds findings done total checks accuracy".split()
        ),
        JSON,
        max_size=6,
    ),
)
def test_any_event_is_valid_or_refused(kind: str, fields: dict[str, Any]) -> None:
    watch = watched(plan(NAMES), json.dumps({"event": kind, **fields}))
    for row in watch.rows():
        assert grammar.matches(grammar.Prose, row.note)
    for check in watch.checks("ended"):
        assert grammar.matches(grammar.CheckId, check.id)
    assert watch.violation_count <= 1


@given(st.text())
def test_any_line_is_an_event_or_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        parse(line)
