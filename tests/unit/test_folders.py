"""A folder is replaced in one step: there is the old one or the new one at every instant."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envbuilder.errors import UsageError
from envbuilder.model import Context
from envbuilder.render import context_folder, folders
from envbuilder.render.context_folder import stale_files, write_context

OLD = {"images/x/envbuilder.lock": "old"}
NEW = {"images/x/envbuilder.lock": "new", "images/x/Dockerfile": "FROM scratch"}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def no_exchange(new: Path, target: Path) -> bool:
    return False


def test_two_folders_are_exchanged(two: Path) -> None:
    folders.put(two / "new", two / "target", two / "old")
    assert contents(two) == {"target/file": "new", "new/file": "target"}


def test_a_file_system_without_exchange_gets_two_renames(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchange", no_exchange)
    folders.put(two / "new", two / "target", two / "old")
    assert contents(two) == {"target/file": "new", "old/file": "target"}


@pytest.mark.parametrize("exchange", [None, no_exchange])
def test_an_interrupt_in_the_middle_leaves_the_old_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exchange: Callable[[Path, Path], bool] | None,
) -> None:
    """Where no exchange can be had, between the two renames; otherwise there is no between."""
    write_context(Context(files=OLD), tmp_path)
    if exchange:
        monkeypatch.setattr(folders, "_exchange", exchange)
    renamed = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    if exchange:
        with pytest.raises(KeyboardInterrupt):
            write_context(Context(files=NEW), tmp_path)
        assert contents(tmp_path) == OLD
    else:
        write_context(Context(files=NEW), tmp_path)
        assert contents(tmp_path) == NEW


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_a_signal_during_rename_leaves_old_or_new(tmp_path: Path, signal: str) -> None:
    """A process that is killed in each system call that renames, before and after it."""
    program = """
import os, signal, sys
from pathlib import Path
from envbuilder.model import Context
from envbuilder.render import context_folder, folders
from envbuilder.render.context_folder import write_context
when, number, folder = sys.argv[1], getattr(signal, sys.argv[2]), Path(sys.argv[3])
def hurt(path):
    os.kill(os.getpid(), number)
done = folders._exchange
def exchange(new, target):
    if when == "before": hurt(new)
    answer = done(new, target)
    if when == "after": hurt(new)
    return answer
folders._exchange = exchange
write_context(Context(files={"images/x/envbuilder.lock": "new"}), folder)
"""
    for when in ("before", "after"):
        write_context(Context(files=OLD), tmp_path / when)
        done = subprocess.run(
            [sys.executable, "-c", program, when, signal, str(tmp_path / when)],
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0
        found = (tmp_path / when / "images" / "x" / "envbuilder.lock").read_text()
        assert found == ("old" if when == "before" else "new")


def test_only_one_process_writes_to_a_folder(tmp_path: Path) -> None:
    second = folders.alone(tmp_path, patience=0)
    with (
        folders.alone(tmp_path),
        pytest.raises(UsageError, match="another envbuilder writes to"),
    ):
        second.__enter__()
    with folders.alone(tmp_path, patience=0):
        assert list(tmp_path.iterdir()) == [], "it leaves no file"


def test_file_system_without_locks_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")  # NFS

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folders.alone(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()


@pytest.mark.slow
def test_renders_at_the_same_second_all_succeed(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from envbuilder.model import Context
from envbuilder.render.context_folder import write_context
files = {f"install/{number}": sys.argv[2] for number in range(40)} | {"install/wheels.py": sys.argv[2]}
sys.stdin.read()
for turn in range(8):
    write_context(Context(files={name: f"{text} {turn}" for name, text in files.items()}), Path(sys.argv[1]))
"""
    words = [sys.executable, "-c", program, str(tmp_path / "build")]
    started = [
        subprocess.Popen(
            [*words, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for n in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [
        (process.returncode, err)
        for process, (_, err) in zip(started, ended, strict=True)
    ] == [(0, b"")] * 3
    assert len(set(contents(tmp_path / "build").values())) == 1, (
        "one writer's files, not a mixture"
    )
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["install"]


def test_a_full_disk_leaves_existing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(Context(files=OLD), tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        UsageError, match=r"cannot write .*: No space left on device"
    ) as caught:
        write_context(Context(files=NEW), tmp_path)
    assert caught.value.exit_code == 2
    assert contents(tmp_path) == OLD


def test_file_vanishing_during_comparison_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(Context(files=OLD), tmp_path)
    monkeypatch.setattr(context_folder, "exists", lambda path: True)
    assert list(stale_files(Context(files=NEW), tmp_path)) == [
        "stale: images/x/envbuilder.lock",
        "missing: images/x/Dockerfile",
    ]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leads out of"):
        write_context(
            Context(files={**NEW, "install/wheels.py": ""}), tmp_path / "build"
        )
    assert contents(tmp_path) == {}
