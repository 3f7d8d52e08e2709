"""The suite's protocol, with checks made up here; the real ones run in tests/container."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import accept
import checks
from envbuilder.acceptance.watch import Watch
from envbuilder.model import Status

from .conftest import PAYLOAD

BOUNDS = json.loads((PAYLOAD / "bounds.json").read_text())

MADE_UP = """
import sys, time, os
sys.path.insert(0, {payload!r})
import accept
from checks import Check, Failure, NotRun

def good(inspection):
    inspection.on_progress(1, 2, "half")
    print('{{"event": "end", "verdict": "passed"}}')
    os.system("echo forged")
    return dict(value=1.0, bound=dict(min=0.5))

def bad(inspection):
    raise Failure(value=0.1, bound=dict(min=0.5), detail="too low", remedy="do this")

def broken(inspection):
    raise ZeroDivisionError("oops")

def absent(inspection):
    raise NotRun("nothing here")

def slow(inspection):
    time.sleep(30)

accept.CHECKS = [Check(f.__name__, f.__name__, f) for f in ({names})]
accept.DEADLINE = 1
sys.exit(accept.main())
"""


def run_suite(tmp_path: Path, *names: str) -> tuple[int, Watch]:
    script = tmp_path / "suite.py"
    script.write_text(textwrap.dedent(MADE_UP).format(payload=str(PAYLOAD), names=", ".join(names) + ","))
    done = subprocess.run([sys.executable, str(script), "--json-lines"], capture_output=True, text=True, check=False)
    watch = Watch()
    for line in done.stdout.splitlines():
        watch.feed(line)
    return done.returncode, watch


def test_every_check_runs_and_each_outcome_is_told(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "bad", "broken", "absent", "good")
    assert code == accept.FAILED
    assert {name: check.status for name, check in watch.results.items()} == {
        "bad": Status.FAILED,
        "broken": Status.ERROR,
        "absent": Status.NOT_RUN,
        "good": Status.PASSED,
    }
    assert watch.results["bad"].remedy == "do this"
    assert "ZeroDivisionError: oops" in watch.results["broken"].detail
    assert watch.verdict == "failed"


def test_what_a_check_prints_is_no_event(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "good")
    assert (code, watch.verdict, watch.strange) == (accept.PASSED, "passed", [])


def test_a_hanging_check_is_ended_at_its_deadline(tmp_path: Path) -> None:
    code, watch = run_suite(tmp_path, "slow", "good")
    assert code == accept.FAILED
    assert "longer than 1 s" in watch.results["slow"].detail
    assert watch.results["good"].status is Status.PASSED


def test_nothing_run_is_not_passed(tmp_path: Path) -> None:
    assert run_suite(tmp_path, "absent")[0] == accept.FAILED


def test_sigterm_ends_it_with_130(tmp_path: Path) -> None:
    script = tmp_path / "suite.py"
    script.write_text(MADE_UP.format(payload=str(PAYLOAD), names="good, slow").replace("DEADLINE = 1", "DEADLINE = 60"))
    process = subprocess.Popen(
        [sys.executable, str(script), "--json-lines"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b'"slow"' in line and b'"start"' in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == accept.INTERRUPTED


def test_every_bounded_check_exists() -> None:
    assert set(BOUNDS["bounds"]) <= {check.id for check in checks.CHECKS}
    assert set(BOUNDS["deadlines"]) <= {check.id for check in checks.CHECKS}


def test_the_suite_s_hash_follows_its_files() -> None:
    assert accept.suite_hash() == accept.suite_hash()
    assert accept.suite_hash().startswith("sha256:")


def test_bounds_judge() -> None:
    inspection = checks.Inspection(lock_file="/nowhere", bounds={"a": {"min": 1, "max": 2}})
    assert inspection.judge("a", 1.5) == {"value": 1.5, "bound": {"min": 1, "max": 2}}
    for value in (0.9, 2.1, float("nan")):
        with pytest.raises(checks.Failure):
            inspection.judge("a", value)
    with pytest.raises(checks.NotRun):
        inspection.stack("torch")


@pytest.mark.parametrize(("number", "text"), [(8500, "8.5.0"), (8902, "8.9.2"), (91002, "9.10.2"), (90100, "9.1.0")])
def test_cudnn_numbers(number: int, text: str) -> None:
    assert checks.identity.cudnn_text(number) == text


def entrypoint(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PAYLOAD / "entrypoint"), *words], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


def test_the_entrypoint_explains_itself() -> None:
    assert "train [OPTIONS]" in entrypoint().stdout
    assert entrypoint("help").stdout == entrypoint().stdout


def test_the_entrypoint_runs_any_command_and_keeps_its_exit_code() -> None:
    assert entrypoint("sh", "-c", "exit 5").returncode == 5


def test_a_home_that_is_none_is_replaced() -> None:
    home = entrypoint("sh", "-c", 'echo "$HOME"', HOME="/").stdout.strip()
    assert home not in ("", "/")
    assert Path(home).is_dir()
