"""Temporary folders: removed when their block ends, and by the next run if their process was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from envbuilder import files
from envbuilder.files import temporary_folder

HOLDING = """
import sys, tempfile
from pathlib import Path
from envbuilder.files import temporary_folder
tempfile.tempdir = sys.argv[1]
with temporary_folder("build") as folder:
    (folder / "iid").write_text("sha256:1")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("x")])
def test_temporary_directory_is_removed_with_its_block(
    place: Path, error: BaseException | None
) -> None:
    def use() -> None:
        with temporary_folder("lock") as folder:
            assert folder.parent == place
            assert folder.name.startswith("envbuilder.temporary-lock-")
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "file").write_text("x")
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            use()
    else:
        use()
    assert names(place) == []


def test_folders_of_killed_processes_are_removed(place: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with temporary_folder("lock"):
        assert len(names(place)) == 3
    started[0].send_signal(signal.SIGKILL)
    started[0].communicate()
    assert len(names(place)) == 2
    with temporary_folder("lock"):
        assert len(names(place)) == 2  # this one, and the one that is in use
    started[1].communicate("")
    assert started[1].returncode == 0
    assert names(place) == []


def test_an_old_empty_folder_without_owner_is_removed(place: Path) -> None:
    """A process may be killed between making a folder and holding it."""
    old, new = (place / f"envbuilder.temporary-lock-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    with temporary_folder("lock"):
        pass
    assert names(place) == [new.name]


def test_a_folder_that_something_is_mounted_in_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place / "envbuilder.temporary-base-x"
    (folder / "mmdebstrap" / "dev").mkdir(parents=True)
    monkeypatch.setattr(files, "_has_mounts", lambda path: path == folder)
    with temporary_folder("lock"):
        pass
    assert names(place) == [folder.name]
    monkeypatch.undo()
    assert not files._has_mounts(folder)
    mounts = place / "mountinfo"
    mounts.write_text(f"1 2 0:5 / {folder}/mmdebstrap/dev rw - devtmpfs udev rw\n")
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    assert files._has_mounts(folder)


def test_foreign_directories_are_kept(place: Path) -> None:
    prefix = "envbuilder.temporary-lock-"
    (place / f"{prefix}file").write_text("no folder")
    (place / f"{prefix}empty").mkdir()
    (place / "elsewhere" / "deep").mkdir(parents=True)
    (place / f"{prefix}link").symlink_to(place / "elsewhere")
    (place / "envbuilder-lock-mine" / "deep").mkdir(parents=True)
    (place / f"{prefix}left" / "deep").mkdir(parents=True)
    with temporary_folder("lock"):
        pass
    kept = [
        "elsewhere",
        "envbuilder-lock-mine",
        *(f"{prefix}{kind}" for kind in ("empty", "file", "link")),
    ]
    assert names(place) == kept
    assert (place / "elsewhere" / "deep").is_dir()
