"""Asked to end, in whichever way, a command removes what it made, gives no tag, and exits with 130."""

import os
import pty
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from marks import few
from standin.daemon import Daemon, daemon_in, image, runs_until_it_is_killed
from standin.programs import Programs
from standin.suite_output import IMAGE, plan
from waiting import PATIENCE, wait_until

from envbuilder.engine import bootstrap
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock

from .conftest import Run

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11"
    / LOCK_FILE
)
BASE = parse_lock(PRESET.read_text(), source=str(PRESET)).stack.base
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
HEARING = ("env", "--default-signal=INT,TERM,HUP")  # the parent process may ignore them
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with daemon_in(tmp_path) as running:
        running.images[IMAGE.id] = image(IMAGE.id)
        labels = {bootstrap.LABEL: bootstrap.contents(BASE)}
        running.images[BASE.reference] = image("sha256:b", Config={"Labels": labels})
        running.script = runs_until_it_is_killed(plan().encode() + b"\n")
        yield running


@pytest.fixture
def start(tmp_path: Path, daemon: Daemon, programs: Programs) -> Iterator[Start]:
    """Start a command as a user would; whatever still runs at the end is killed."""
    (tmp_path / "tmp").mkdir()
    env = {
        **os.environ,
        "PATH": f"{programs.folder}:{os.environ['PATH']}",
        "DOCKER_HOST": f"unix://{daemon.socket}",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    started = []

    def call(
        *words: str,
        before: tuple[str, ...] = HEARING,
        stderr: int = subprocess.PIPE,
        settings: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[str]":
        argv = [*before, sys.executable, "-m", "envbuilder", *words]
        own_env = {**env, **(settings or {})}
        process = subprocess.Popen(
            argv, cwd=tmp_path, env=own_env, stdout=stderr, stderr=stderr, text=True
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def nothing_is_left(daemon: Daemon, folder: Path) -> bool:
    return (
        not daemon.boxes
        and not daemon.asked("tag", "push")
        and not list((folder / "tmp").iterdir())
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_suite_that_is_interrupted_leaves_nothing(
    start: Start, daemon: Daemon, tmp_path: Path, number: int
) -> None:
    process = start("accept", IMAGE.id)
    wait_until(lambda: daemon.asked("start"), "the suite never started")
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert nothing_is_left(daemon, tmp_path)
    assert daemon.asked("remove")
    assert not (tmp_path / "receipts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", few(SIGNALS))
def test_a_build_that_is_interrupted_leaves_nothing(
    start: Start, daemon: Daemon, programs: Programs, tmp_path: Path, number: int
) -> None:
    programs.wait()
    process = start("build", "--lock", str(PRESET))
    wait_until(lambda: programs.asked("docker"), "the build never started")
    assert list((tmp_path / "tmp").iterdir())
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert nothing_is_left(daemon, tmp_path)
    assert daemon.asked("create") == []


@pytest.mark.slow
def test_a_terminal_that_closes_ends_it_as_cleanly(
    start: Start, daemon: Daemon, tmp_path: Path
) -> None:
    """Writing to that terminal is an error from now on."""
    ours, theirs = pty.openpty()
    process = start("accept", IMAGE.id, stderr=theirs)
    os.close(theirs)
    wait_until(lambda: daemon.asked("start"), "the suite never started")
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 130
    assert nothing_is_left(daemon, tmp_path)


@pytest.mark.parametrize("number", few(SIGNALS))
def test_an_interrupt_while_it_starts_is_one_too(tmp_path: Path, number: int) -> None:
    """It waits in its first import."""
    (tmp_path / "click.py").write_text(
        "print('importing', flush=True)\nimport sys; sys.stdin.read()\n"
    )
    argv = [*HEARING, sys.executable, "-m", "envbuilder", "--help"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    out, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, said) == (130, "", "interrupted\n")


def test_the_console_script_handles_signals_too(root: Path) -> None:
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == dict.fromkeys(
        ("envbuilder", "torch-envbuilder"), "envbuilder.__main__:main"
    )


# --- an engine that is frozen --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_suite_whose_engine_freezes_ends_in_6(
    start: Start, daemon: Daemon, tmp_path: Path
) -> None:
    process = start("accept", IMAGE.id, settings={"ENVBUILDER_ENGINE_TIMEOUT": "1"})
    wait_until(lambda: daemon.asked("start"), "the suite never started")
    with daemon.frozen():
        _, said = process.communicate(
            timeout=PATIENCE / 4
        )  # no request to the stand-in takes that long
    assert process.returncode == 6
    assert "error: the container engine has not answered for 1 s" in said
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "receipts").exists()


@pytest.mark.slow
def test_a_build_whose_engine_freezes_ends_in_6(
    start: Start, daemon: Daemon, programs: Programs, tmp_path: Path
) -> None:
    """The builder does not hear an interrupt: it waits for the engine."""
    programs.linger()
    process = start(
        "build", "--lock", str(PRESET), settings={"ENVBUILDER_ENGINE_TIMEOUT": "1"}
    )
    wait_until(programs.is_lingering, "the build never started")
    with daemon.frozen():
        _, said = process.communicate(timeout=PATIENCE / 4)
    assert process.returncode == 6
    assert "error: the container engine has not answered for 1 s" in said
    assert programs.was_interrupted()
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("accept", IMAGE.id), ("build", "--lock", str(PRESET))],
    ids=["accept", "build"],
)
def test_interrupt_works_with_a_frozen_engine(
    start: Start,
    daemon: Daemon,
    programs: Programs,
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    programs.linger()
    process = start(*command)
    wait_until(
        lambda: programs.is_lingering() or daemon.asked("start"), "it never started"
    )
    with daemon.frozen():
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE / 4)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e3", "10000"])
def test_the_engines_time_is_a_whole_number_of_seconds(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
    monkeypatch.setenv("ENVBUILDER_ENGINE_TIMEOUT", seconds)
    answer = run("accept", IMAGE.id)
    assert answer.code == 2
    assert f"ENVBUILDER_ENGINE_TIMEOUT is '{seconds}'" in answer.err


@pytest.mark.slow
def test_accept_removes_leftovers_of_a_killed_run(
    start: Start, daemon: Daemon, programs: Programs, tmp_path: Path
) -> None:
    programs.wait()
    process = start("build", "--lock", str(PRESET))
    wait_until(lambda: programs.asked("docker"), "the build never started")
    process.kill()
    process.communicate()
    assert list((tmp_path / "tmp").iterdir())
    process = start("accept", "sha256:absent")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 6
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
def test_a_second_hangup_does_not_cut_the_cleaning_up_short(
    start: Start, daemon: Daemon, programs: Programs, tmp_path: Path
) -> None:
    """The kernel sends one and the shell another; the builder is waited for all the same."""
    programs.linger()
    process = start("build", "--lock", str(PRESET))
    wait_until(programs.is_lingering, "the build never started")
    process.send_signal(signal.SIGHUP)
    wait_until(programs.was_interrupted, "the builder heard nothing")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    programs.may_end()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert nothing_is_left(daemon, tmp_path)


@pytest.mark.slow
def test_nohup_is_respected(start: Start, daemon: Daemon) -> None:
    process = start("accept", IMAGE.id, before=("env", "--ignore-signal=HUP"))
    wait_until(lambda: daemon.asked("start"), "the suite never started")
    process.send_signal(signal.SIGHUP)
    for box in list(daemon.boxes.values()):
        box.signalled.set()  # the suite ends in the middle
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 7
