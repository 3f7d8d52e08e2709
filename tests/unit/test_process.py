"""Processes: what is missing is named, what is interrupted is ended with its children."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE, wait_until

from envbuilder import processes
from envbuilder.errors import EngineError, UsageError


def test_missing_program_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="`no-such-program` cannot be started"):
        processes.run(["no-such-program"])
    with pytest.raises(EngineError) as caught:
        processes.stream(["mmdebstrap"], print, env={"PATH": str(tmp_path)})
    assert caught.value.exit_code == 6


def test_process_is_stopped_at_its_time_limit() -> None:
    with pytest.raises(EngineError, match="did not answer within 1 s"):
        processes.run(["sleep", "30"], timeout=1)


def test_both_streams_come_as_they_are_written() -> None:
    seen: list[str] = []
    assert (
        processes.stream(["sh", "-c", "echo out; echo err >&2; exit 3"], seen.append)
        == 3
    )
    assert sorted(seen) == ["err\n", "out\n"]


def test_output_is_utf_8_in_any_locale() -> None:
    script = r"""
from envbuilder import processes
check_mark, seen = ["printf", r"\342\234\223"], []
processes.stream(check_mark, seen.append)
print(ascii([processes.run(check_mark).stdout, *seen]))
"""
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert done.stdout == "['\\u2713', '\\u2713']\n"


def test_an_interrupt_ends_the_process_and_its_children(tmp_path: Path) -> None:
    script = f"""
import signal, sys
from envbuilder import processes
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    command = "sleep 300 & echo $! > {shlex.quote(str(tmp_path / "child"))}; echo ready; wait"
    processes.stream(["sh", "-c", command], lambda text: print(text, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    child = int((tmp_path / "child").read_text())
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=PATIENCE)
    assert started.returncode == 130
    wait_until(lambda: not is_running(child), "the child runs on")


def test_an_interrupt_during_start_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    popen = subprocess.Popen

    def start_and_interrupt(*words: Any, **options: Any) -> Any:
        started.append(popen(*words, **options))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            processes.stream(["sleep", "300"], print)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert started[0].returncode == -signal.SIGINT


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_an_argument_with_nul_is_a_usage_error(word: str) -> None:
    for call in (
        lambda: processes.run(["true", word]),
        lambda: processes.stream(["true", word], print),
    ):
        with pytest.raises(UsageError, match="`true` cannot take these arguments"):
            call()


def test_a_process_is_ended_after_its_timeout() -> None:
    with pytest.raises(EngineError, match="`sleep` did not end within 0 minutes"):
        processes.stream(["sleep", "300"], print, timeout=0.1)


def test_process_with_a_silent_engine_is_stopped_immediately() -> None:
    """It ignores signals to stop, and is not awaited."""
    limits: list[float | None] = []

    def check(limit: float | None) -> None:
        limits.append(limit)
        raise EngineError("silent")

    with pytest.raises(EngineError, match="silent"):
        processes.stream(["sh", "-c", "trap '' INT; sleep 300"], print, check=check)
    assert limits == [None, processes._SILENCE]  # once running, once asked to end


def test_lines_are_whole_however_they_come() -> None:
    seen: list[str] = []
    script = r"printf 'a\r\nb\rc'; sleep 0.1; printf '\303'; sleep 0.1; printf '\244\n\nlast \377'"
    processes.stream(["sh", "-c", script], seen.append)
    assert seen == ["a\n", "b\n", "cä\n", "\n", "last \ufffd"]


def test_child_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = f"""
import os
from envbuilder import processes
command = "setsid sleep 300 & echo $! > {shlex.quote(str(tmp_path / "child"))}; sleep 301 & echo ready; wait"
argv = processes.contain(["sh", "-c", command], env=os.environ)
processes.stream(argv, lambda text: print(text, flush=True))
"""
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    ours = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    tree = [*ours, *(child for pid in ours for child in descendants(pid))]
    assert len(tree) >= 2
    started.kill()
    started.communicate(timeout=PATIENCE)
    still_there = tree if os.geteuid() == 0 and can_unshare() else ours
    wait_until(
        lambda: not any(is_running(int(pid)) for pid in still_there),
        "something runs on",
    )


def descendants(pid: str) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def can_unshare() -> bool:
    return (
        subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "true"], check=False
        ).returncode
        == 0
    )


def test_a_contained_command_keeps_its_exit_code() -> None:
    assert (
        processes.stream(
            processes.contain(["sh", "-c", "exit 7"], env=os.environ), print
        )
        == 7
    )
    with pytest.raises(EngineError, match="`no-such-program` cannot be started"):
        processes.stream(processes.contain(["no-such-program"], env=os.environ), print)
