"""`tools/in-memory`: temporary files in memory where that works, nothing left behind, the exit code kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts processes
PROGRAM = Path(__file__).parents[2] / "tools" / "in-memory"


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_folder_is_removed_and_the_exit_code_kept(tmp_path: Path) -> None:
    done = run("sh", "-c", 'echo "$TMPDIR"; touch "$TMPDIR/x"; exit 3', TMPDIR=str(tmp_path))  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")
    folder = Path(done.stdout.strip())
    assert folder == tmp_path or not folder.exists()


@pytest.mark.parametrize("size", ["4096", ""])
def test_little_memory_is_left_alone(tmp_path: Path, size: str) -> None:
    df = tmp_path / "df"
    df.write_text(f"#!/bin/sh\nprintf 'head\\nshm 1 1 {size}\\n'\n")
    df.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run("sh", "-c", 'echo "$TMPDIR"', TMPDIR=str(tmp_path), PATH=path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}\n")


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "sh", "-c", 'echo "$TMPDIR"; exec sleep 60'],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    folder = Path(process.stdout.readline().strip())
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert folder == tmp_path or not folder.exists()


def test_shellcheck_reports_nothing() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [shellcheck, PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
