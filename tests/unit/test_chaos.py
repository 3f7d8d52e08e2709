"""The campaign of kills: what it plans can be repeated, and what is left is found."""

from pathlib import Path

import pytest

import chaos
import chaos_faults


@pytest.fixture
def place(tmp_path: Path) -> chaos.Workplace:
    return chaos.place_in(tmp_path / "place", {})


def command(
    place: chaos.Workplace, name: str = "render", share: float = 1.0
) -> tuple[chaos.Command, chaos.Workplace]:
    made = chaos.Command(
        name=name,
        words=(name,),
        longest=9,
        share=share,
        prepare=chaos.prepare_nothing,
        find=chaos.find_nothing,
        find_strays=chaos.find_nothing,
    )
    return made, place


def test_a_seed_decides_every_kill(place: chaos.Workplace) -> None:
    commands = [command(place), command(place, "lock", share=3)]
    plan = chaos.plan(commands, 200, 1)
    assert plan == chaos.plan(commands, 200, 1) != chaos.plan(commands, 200, 2)
    assert [sum(index == number for index, _, _ in plan) for number in (0, 1)] == [
        50,
        150,
    ]
    assert {number for _, number, _ in plan} == set(chaos.SIGNALS)
    assert all(0 <= seconds <= 9 for _, _, seconds in plan)
    assert 0.5 < sum(seconds <= 3 for _, _, seconds in plan) / len(plan) < 0.85


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"docker/payload/a.py": b"old", "docker/payload/b.py": b"old"}, []),
        (
            {
                "docker/payload/a.py": b"new",
                "docker/payload/b.py": b"new",
                "lock": b"new",
            },
            [],
        ),
        (
            {"docker/payload/a.py": b"ne", "docker/payload/b.py": b"old"},
            [
                "half file: docker/payload/a.py",
                "folder of old and new files: docker/payload",
            ],
        ),
        (
            {"docker/payload/a.py": b"new", "docker/payload/b.py": b"old"},
            ["folder of old and new files: docker/payload"],
        ),
        (
            {"docker/payload/a.py": b"old"},
            [
                "lost: docker/payload/b.py",
                "folder of old and new files: docker/payload",
            ],
        ),
    ],
    ids="old new half mixed lost".split(),
)
def test_files_are_the_old_ones_or_the_new_ones(
    place: chaos.Workplace, there: chaos.Files, found: list[str]
) -> None:
    old = {"docker/payload/a.py": b"old", "docker/payload/b.py": b"old"}
    new = {"docker/payload/a.py": b"new", "docker/payload/b.py": b"new", "lock": b"new"}
    chaos.fill(place.project, there)
    assert chaos.find_mixed(old, new, place) == found


def test_leftovers_are_detected(place: chaos.Workplace) -> None:
    assert chaos.left_by(place, 1, has_engine=False) == []
    (place.temporary / "envbuilder.temporary-lock-x").mkdir()
    chaos.fill(place.project, {".lock-1": b"", "lock": b""})
    assert chaos.left_by(place, 1, has_engine=False) == [
        "temporary folder left: envbuilder.temporary-lock-x"
    ]
    assert chaos.find_strays({"lock"}, place) == ["stray file: .lock-1"]


def test_surviving_process_is_detected(place: chaos.Workplace) -> None:
    process = place.start(("--version",))
    process.wait()
    assert chaos.processes_in(place.temporary) == []
    assert place.said().startswith("envbuilder ")


def test_report_counts_kills_in_time() -> None:
    trials = [
        chaos.Trial(
            command="lock",
            signal=name,
            seconds=1,
            code=130,
            ended_before=late,
            seconds_to_end=0.2,
            found=found,
        )
        for name, late, found in [
            ("SIGINT", False, []),
            ("SIGINT", True, []),
            ("SIGKILL", False, ["half file: x"]),
        ]
    ]
    text = chaos.report(trials)
    assert "| lock | SIGINT |  | 1 | 1 | 0 | 130 | 0.2 s |" in text
    assert "| **all** | | | **2** | 1 | 1 | | |" in text
    assert "- lock, SIGKILL: half file: x" in text
    assert "Nothing was found." in chaos.report(trials[:1])


def case(**changes: object) -> chaos_faults.Case:
    fields = {
        "command": "lock",
        "name": "network: 503",
        "codes": (6,),
        "cause": r"\(5xx\)",
        "run": lambda *_: None,
    }
    return chaos_faults.Case(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "said", "left", "found"),
    [
        (6, "the server has a problem of its own (5xx)", [], []),
        (6, "read the full log", [], ["the cause is not named: read the full log"]),
        (1, "Traceback", [], ["ended with 1: Traceback"]),
        (6, "(5xx)", ["half file: x"], ["half file: x"]),
        (0, "", [], ["ended with 0: "]),
    ],
)
def test_fault_is_judged_by_code_cause_and_leftovers(
    code: int, said: str, left: list[str], found: list[str]
) -> None:
    assert (
        chaos_faults.judge(case(), chaos_faults.Outcome(code, said, 1.0, left)) == found
    )


def test_allowed_success_needs_no_cause() -> None:
    assert (
        chaos_faults.judge(case(codes=(0, 2)), chaos_faults.Outcome(0, "", 1.0)) == []
    )


def test_every_round_has_every_fault_and_slow_ones_once() -> None:
    names = [made.name for made in chaos_faults.rounds(3)]
    assert {name.partition(":")[0] for name in names} >= {"network", "engine"}
    assert names.count("network: stalled") == 1
    assert names.count("network: cut after N bytes") == 3
    assert sum(name.startswith("engine: dockerd") for name in names) == 3


def test_each_fault_is_a_row_with_its_expectation() -> None:
    trial = chaos.Trial(
        command="lock", signal="network: 503", seconds=0, code=6, ended_before=False, seconds_to_end=7.1, found=[],
        expected=case().expected,
    )  # fmt: skip
    row = "| lock | network: 503 | 6; the cause is named, nothing is left, the next run works | 1 | 0 | 0 | 6 | 7.1 s |"
    assert row in chaos.report([trial])
