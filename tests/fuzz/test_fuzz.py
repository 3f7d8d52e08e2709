"""The short run of the fuzzer: the same cases each time. `make fuzz` is the long one."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .sandbox import Sandbox, sandbox
from .targets import TARGETS

CASES = 60
pytestmark = pytest.mark.fuzz


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox() as made:
        yield made


@pytest.mark.parametrize("target", TARGETS)
def test_no_case_of_the_short_run_is_a_finding(target: str, box: Sandbox) -> None:
    counts = {"cases": 0, "accepted": 0}

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(data: st.DataObject) -> None:
        counts["cases"] += 1
        counts["accepted"] += TARGETS[target](box, data.draw)

    one()
    # A harness whose cases are all refused, or all accepted, would prove nothing.
    assert 0 < counts["accepted"] < counts["cases"]
