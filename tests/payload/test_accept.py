"""The suite's protocol, with checks made up here; the real ones run in tests/container."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from marks import few
from waiting import PATIENCE

from acceptance import checks, main, supervisor
from acceptance.deadline import Deadline
from acceptance.events import bound_text, to_json
from acceptance.limits import parse_limits
from envbuilder.acceptance.event_stream import SuiteEvents
from envbuilder.model import Status

from .conftest import BOUNDS, PAYLOAD

MADE_UP = """
import signal, sys, threading, time, os
from dataclasses import replace
sys.path.insert(0, {payload!r})
from acceptance import supervisor
from acceptance.checks import Answer, Check, Failure, Skipped
from acceptance.deadline import Deadline
from acceptance.limits import read_limits
from acceptance.main import main

def good(inspection):
    inspection.on_progress(1, 2, "half")
    print('{{"event": "end", "verdict": "passed"}}')
    os.system("echo forged")
    return Answer(value=1.0, bound=dict(min=0.5))

def bad(inspection):
    raise Failure("too low", value=0.1, bound=dict(min=0.5), remedy="do this")

def broken(inspection):
    raise ZeroDivisionError("oops")

def absent(inspection):
    raise Skipped("nothing here")

def slow(inspection):
    time.sleep(3600)

def lasting(inspection):
    given_more_time.wait()
    return Answer()

def deaf(inspection):
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGALRM}})
    time.sleep(3)
    return Answer()

def native(inspection):
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGALRM}})
    time.sleep(3600)

def deadly(inspection):
    inspection.facts["seen"] = 1
    os.kill(os.getpid(), signal.SIGBUS)

def builds(inspection):
    raise AssertionError("it must not run")

CHECKS = [Check(f.__name__, f.__name__, f, "deadly" if f is builds else None) for f in ({names})]
SHORT = dict.fromkeys(("slow", "lasting", "deaf", "native"), {deadline})
LIMITS = replace(read_limits(), deadlines=SHORT, patience={patience})
on_alarm = Deadline.on_alarm
given_more_time = threading.Event()

def alarm(deadline, number, frame):
    on_alarm(deadline, number, frame)
    given_more_time.set()

Deadline.on_alarm = alarm
supervisor.GRACE = 1
os.getloadavg = lambda: ({load} * os.cpu_count(), 0.0, 0.0)
sys.exit(main(CHECKS, LIMITS))
"""


def write_suite(
    tmp_path: Path, *names: str, load: float = 0.5, patience: int = 8, deadline: int = 1
) -> Path:
    """A suite of these checks, on a machine with `load` processes per core.

    `deadline` (seconds) is for the checks that hang; the others have all the time that they need.
    """
    script = tmp_path / "suite.py"
    script.write_text(
        MADE_UP.format(
            payload=str(PAYLOAD),
            names=", ".join(names) + ",",
            load=load,
            patience=patience,
            deadline=deadline,
        )
    )
    return script


def run_suite(
    tmp_path: Path, *names: str, load: float = 0.5, patience: int = 8
) -> tuple[int, SuiteEvents]:
    script = write_suite(tmp_path, *names, load=load, patience=patience)
    done = subprocess.run(
        [sys.executable, str(script), "--json-lines"],
        capture_output=True,
        text=True,
        check=False,
    )
    watch = SuiteEvents()
    for line in done.stdout.splitlines():
        watch.feed(line)
    return done.returncode, watch


def test_every_check_runs_and_reports_its_outcome(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "bad", "broken", "absent", "good")
    assert code == main.NOT_PASSED
    assert {name: check.status for name, check in watch.results.items()} == {
        "bad": Status.FAILED,
        "broken": Status.ERROR,
        "absent": Status.NOT_RUN,
        "good": Status.PASSED,
    }
    assert watch.results["bad"].remedy == "do this"
    assert "ZeroDivisionError: oops" in watch.results["broken"].detail
    assert watch.verdict == "failed"


@pytest.mark.slow
def test_output_of_a_check_is_not_an_event(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "good")
    assert (code, watch.verdict, watch.violations) == (main.PASSED, "passed", [])


@pytest.mark.slow
def test_a_hanging_check_is_ended_at_its_deadline(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "slow", "good")
    assert code == main.NOT_PASSED
    assert "longer than 1 s" in watch.results["slow"].detail
    assert watch.results["good"].status is Status.PASSED


@pytest.mark.slow
def test_hang_in_native_code_is_killed_and_the_suite_continues(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "native", "good")
    assert code == main.NOT_PASSED
    assert "longer than 1 s" in watch.results["native"].detail
    assert watch.results["good"].status is Status.PASSED
    assert watch.violations == []  # no check is run or answered twice


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lasting", "deaf"])
def test_busy_machine_is_not_a_hang(tmp_path: Path, name: str) -> None:
    assert run_suite(tmp_path, name, load=1000, patience=1000)[0] == main.PASSED


@pytest.mark.slow
def test_same_delay_is_a_hang_on_an_idle_machine(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "lasting")
    assert code == main.NOT_PASSED
    assert "longer than 1 s" in watch.results["lasting"].detail


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow", "native"])
def test_a_hang_ends_on_the_busiest_machine(tmp_path: Path, name: str) -> None:
    _, watch = run_suite(tmp_path, name, load=1000, patience=2)
    assert "longer than 1 s" in watch.results[name].detail


@pytest.mark.parametrize(
    ("load", "left"),
    [(0.0, 10), (0.9, 10), (2.5, 25), (7.5, 75), (8.0, 80), (1000.0, 80)],
)
def test_a_check_has_more_time_the_busier_the_machine_is(
    monkeypatch: pytest.MonkeyPatch, load: float, left: float
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    deadline = Deadline(10, BOUNDS["patience"])
    now[0] += 3
    for loads in (
        (4 * load, 0.0, 0.0),
        (0.0, 4 * load, 0.0),
    ):  # over one minute, over five
        monkeypatch.setattr("os.getloadavg", lambda loads=loads: loads)
        assert deadline.remaining() == left - 3


@pytest.mark.slow
def test_check_that_kills_python_fails_alone_with_the_cause(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "good", "deadly", "builds", "absent")
    assert code == main.NOT_PASSED
    assert "SIGBUS" in watch.results["deadly"].detail
    assert "--shm-size" in watch.results["deadly"].remedy
    assert watch.results["builds"].status is Status.ERROR
    assert watch.results["builds"].detail.startswith("not measured: deadly")
    assert watch.results["absent"].status is Status.NOT_RUN
    assert watch.verdict == "failed"


@pytest.mark.slow
def test_suite_without_checks_does_not_pass(tmp_path: Path) -> None:
    assert run_suite(tmp_path, "absent")[0] == main.NOT_PASSED


@pytest.mark.slow
def test_sigterm_ends_it_with_130(tmp_path: Path) -> None:
    script = write_suite(tmp_path, "good", "slow", deadline=3600)
    process = subprocess.Popen(
        [sys.executable, str(script), "--json-lines"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b'"slow"' in line and b'"start"' in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == main.INTERRUPTED


def test_every_bounded_check_exists() -> None:
    assert set(BOUNDS["bounds"]) <= {check.id for check in checks.CHECKS}
    assert set(BOUNDS["deadlines"]) <= {check.id for check in checks.CHECKS}


def inspection_with(bound: dict[str, float]) -> checks.Inspection:
    return checks.Inspection(parse_limits({**BOUNDS, "bounds": {"a": bound}}))


def test_bounds_judge() -> None:
    inspection = inspection_with({"min": 1, "max": 2})
    answer = inspection.require("a", 1.5, "not told")
    assert answer.fields() == {
        "value": 1.5,
        "bound": {"min": 1, "max": 2},
        "detail": "",
        "remedy": "",
    }
    for value in (0.9, 2.1, float("nan")):
        with pytest.raises(checks.Failure, match="told"):
            inspection.require("a", value, "told")
    with pytest.raises(checks.Skipped):
        inspection.locked("torch")


def test_promises_of_our_images_are_only_observed_elsewhere() -> None:
    inspection = inspection_with({"max": 0})
    with pytest.raises(checks.Skipped) as seen:
        inspection.require_if_locked("a", 3, "three too many")
    assert (seen.value.answer.detail, seen.value.answer.value) == (
        "observed: three too many",
        3,
    )
    inspection.lock = {"stack": {}}
    with pytest.raises(checks.Failure):
        inspection.require_if_locked("a", 3, "three too many")


def test_values_that_json_lacks_are_replaced_or_omitted() -> None:
    value = {"a": [float("nan"), float("inf"), 1.5], "b": ("half \udc80",), 3: None}
    assert to_json(value, spell_infinite=True) == {
        "a": ["nan", "inf", 1.5],
        "b": ["half ?"],
        "3": None,
    }
    assert to_json(value, spell_infinite=False)["a"] == [None, None, 1.5]


@pytest.mark.parametrize(
    ("value", "bound", "text"),
    [
        (1, None, ""),
        ("x", "x", ""),
        ("x", "y", " (expected y)"),
        (1, {"min": 0}, " (at least 0)"),
        (1, {"min": 0, "max": 2}, " (at least 0, at most 2)"),
    ],
)
def test_a_bound_as_a_person_reads_it(value: object, bound: object, text: str) -> None:
    assert bound_text(value, bound) == text


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "timed_out", "detail"),
    [
        (0, False, False, "Python exited with code 0 during the check"),
        (-9, True, False, "Python was killed: out of memory"),
        (-9, False, True, "took longer than 5 s"),
        (-7, False, False, "Python died of SIGBUS: /dev/shm may be full"),
        (-9, False, False, "Python died of SIGKILL"),
        (-63, False, False, "Python died of signal 63"),
    ],
)
def test_how_a_worker_ended_is_explained(
    exit_code: int, out_of_memory: bool, timed_out: bool, detail: str
) -> None:
    ending = supervisor.Ending(exit_code, "a.b", timed_out, out_of_memory)
    answer = ending.explain(5)
    assert answer.detail == detail
    assert answer.remedy


def test_kills_for_memory_are_counted_as_cgroups_write_them() -> None:
    assert supervisor.count_kills("low 0\noom 3\noom_kill 2\noom_group_kill 1\n") == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [(8500, "8.5.0"), (8902, "8.9.2"), (91002, "9.10.2"), (90100, "9.1.0")],
)
def test_cudnn_numbers(number: int, text: str) -> None:
    assert checks.identity.cudnn_text(number) == text


def entrypoint(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PAYLOAD / "entrypoint"), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


def test_the_entrypoint_explains_itself() -> None:
    assert "train [OPTIONS]" in entrypoint().stdout
    assert entrypoint("help").stdout == entrypoint().stdout


def test_the_entrypoint_runs_any_command_and_keeps_its_exit_code() -> None:
    assert entrypoint("sh", "-c", "exit 5").returncode == 5


def test_invalid_home_is_replaced() -> None:
    home = entrypoint("sh", "-c", 'echo "$HOME"', HOME="/").stdout.strip()
    assert home not in ("", "/")
    assert Path(home).is_dir()


# --- checks of the user's own --------------------------------------------------------------------------------------

OWN = """\"\"\"The answer is known.

More of it.
\"\"\"
import json, sys
print("loading")
print(json.dumps(dict(event="progress", done=1, total=2, text="half")))
"""


def run_own(tmp_path: Path, *lines: str) -> tuple[int, SuiteEvents]:
    (tmp_path / "my_check.py").write_text(OWN + "\n".join(lines))
    script = write_suite(tmp_path, "good")
    words = [
        sys.executable,
        str(script),
        "--json-lines",
        "--own",
        str(tmp_path / "my_check.py"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    watch = SuiteEvents()
    for line in done.stdout.splitlines():
        watch.feed(line)
    assert watch.violations == []
    return done.returncode, watch


def says(**fields: object) -> str:
    return f"print({json.dumps({'event': 'result', **fields})!r})"


@pytest.mark.slow
def test_custom_check_is_compared_with_its_bound(tmp_path: Path) -> None:
    code, watch = run_own(tmp_path, says(value=42, bound={"min": 40}))
    own = watch.results["own.my_check"]
    assert (code, own.status, own.title, own.value) == (
        main.PASSED,
        Status.PASSED,
        "The answer is known",
        42,
    )
    code, watch = run_own(
        tmp_path, says(value=39, bound={"min": 40}, remedy="think again")
    )
    own = watch.results["own.my_check"]
    assert (code, own.status, own.remedy) == (
        main.NOT_PASSED,
        Status.FAILED,
        "think again",
    )


@pytest.mark.slow
def test_several_answers_are_several_checks(tmp_path: Path) -> None:
    _, watch = run_own(
        tmp_path, says(id="a", value=1), says(id="b", status="failed", detail="no b")
    )
    assert watch.results["own.my_check.a"].status is Status.PASSED
    assert watch.results["own.my_check.b"].detail == "no b"
    assert watch.results["own.my_check"].status is Status.FAILED
    assert {check.id for check in watch.checks("")} >= {
        "own.my_check",
        "own.my_check.a",
        "own.my_check.b",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "detail"),
    few(
        [
            (["pass"], "it printed no result"),
            (["raise SystemExit('no model')"], "no model"),
            ([says(value=1, bound={"min": 0}), "sys.exit(3)"], ""),
            ([says(status="splendid")], "'splendid' is not a status"),
            ([says(value="x", bound={"min": 0})], ""),
            (["1 +"], "SyntaxError"),
        ]
    ),
)
def test_custom_check_without_a_result_fails(
    tmp_path: Path, lines: list[str], detail: str
) -> None:
    code, watch = run_own(tmp_path, *lines)
    assert code == main.NOT_PASSED
    assert watch.results["own.my_check"].status is Status.FAILED
    assert detail in watch.results["own.my_check"].detail
