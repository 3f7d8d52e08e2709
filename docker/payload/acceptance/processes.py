"""Processes that a check starts: none outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from acceptance.text import last_line

if TYPE_CHECKING:
    Process = subprocess.Popen[Any]


@contextmanager
def killed_at_end(process: Process) -> Iterator[None]:
    """Kill a process when the block ends, as at a deadline; then close its pipes and reap it."""
    with process:
        try:
            yield
        finally:
            process.kill()


# --- the ranks of a process group ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rank:
    """How one of the processes ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    def last_line(self) -> str:
        return last_line(self.stderr) or "it printed nothing"


def run_ranks(script: str, world_size: int) -> list[Rank]:
    """Run `script RANK MEETING WORLD_SIZE` for each rank. MEETING: a file for torch's `file://` init method.

    What they print is printed on stderr too, for NCCL_DEBUG=INFO and its like.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ExitStack() as stack:
            processes = []
            for rank in range(world_size):
                process = start(script, rank, world_size, folder)
                stack.enter_context(killed_at_end(process))
                processes.append(process)
            exit_codes = [process.wait() for process in processes]
        return [read_rank(folder, rank, code) for rank, code in enumerate(exit_codes)]


def start(script: str, rank: int, world_size: int, folder: Path) -> Process:
    """Its output goes to files: a pipe that nobody reads would fill, and all ranks would wait."""
    command = [
        sys.executable,
        "-c",
        script,
        str(rank),
        str(folder / "meeting"),
        str(world_size),
    ]
    stdout_file = output_file(folder, rank, "stdout")
    stderr_file = output_file(folder, rank, "stderr")
    with stdout_file.open("wb") as stdout, stderr_file.open("wb") as stderr:
        return subprocess.Popen(
            command,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def output_file(folder: Path, rank: int, stream: str) -> Path:
    return folder / f"{stream}-{rank}"


def read_output(folder: Path, rank: int, stream: str) -> str:
    file = output_file(folder, rank, stream)
    text = file.read_text(encoding="utf-8", errors="replace")
    sys.stderr.write(text)
    return text


def read_rank(folder: Path, rank: int, exit_code: int) -> Rank:
    return Rank(
        exit_code=exit_code,
        stdout=read_output(folder, rank, "stdout"),
        stderr=read_output(folder, rank, "stderr"),
    )
