"""What `make bench-train` makes of its figures; the figures themselves come from an image."""

import runpy
from datetime import date
from pathlib import Path

import pytest

BENCH = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "fine_tune.py"))
Run, reached, report, standard_error = (
    BENCH[name] for name in ("Run", "reached", "report", "standard_error")
)
THEIRS = [Run(2.0, 0.70, 3.5), Run(1.9, 0.72, 3.4), Run(2.1, 0.74, 3.6)]


def test_the_standard_error_of_a_mean_and_of_a_difference() -> None:
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(0.57735, abs=1e-5)
    assert standard_error([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == pytest.approx(
        0.81650, abs=1e-5
    )
    assert standard_error([0.7]) == 0.0


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ([Run(6.1, 0.71, 3.6), Run(6.2, 0.72, 3.2), Run(6.4, 0.72, 3.1)], set()),
        ([Run(5.9, 0.72, 3.6), Run(5.6, 0.72, 3.2), Run(6.4, 0.72, 3.1)], {"speed"}),
        ([Run(6.1, 0.70, 3.6), Run(6.2, 0.70, 3.2), Run(6.4, 0.70, 3.1)], {"accuracy"}),
        ([Run(6.1, 0.72, 3.7), Run(6.2, 0.72, 3.2), Run(6.4, 0.72, 3.1)], {"memory"}),
    ],
)
def test_each_goal_is_missed_only_by_its_figure(
    ours: list[tuple[float, float, float]], missed: set[str]
) -> None:
    goals = reached({"guide": THEIRS, "ours": ours})
    assert {name for name, good in goals.items() if not good} == missed


def test_the_whole_table() -> None:
    ours = [Run(6.0, 0.71, 3.0), Run(6.2, 0.72, 3.2), Run(6.4, 0.73, 3.1)]
    left_out = {"nothing": Run(6.0, 0.5, 3.0), "jemalloc": Run(4.0, 0.5, 3.3)}
    table = report(
        {"guide": THEIRS, "ours": ours}, left_out, rows=160, held_out=200
    ).splitlines()
    assert table[2:5] == [
        "| samples per second | 2.00 | 6.20 | 3.05 (3.00 to 3.26) | ≥ 3: reached |",
        "| accuracy, mean ± standard error | 0.720 ± 0.012 | 0.720 ± 0.006 | | no lower: reached |",
        "| peak memory, GB | 3.60 | 3.20 | 0.89 | no higher: reached |",
    ]
    assert table[8:10] == [
        "| nothing | 6.00 | 1.00 | 3.00 |",
        "| jemalloc | 4.00 | 0.67 | 3.30 |",
    ]
    assert "160 IMDb reviews" in table[-1]
    assert date.today().isoformat() in table[-1]
