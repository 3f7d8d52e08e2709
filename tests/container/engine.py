"""The commands that these tests run: ours and docker's."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CUDA = "11.7"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def envbuilder(*words: str, cwd: Path, timeout: float = 900, **env: str) -> Answer:
    """The command as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "envbuilder", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={
            **os.environ,
            "ENVBUILDER_STATE_DIR": str(cwd.with_name(f"{cwd.name}-state")),
            **env,
        },
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def docker(
    *words: str, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=cwd,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@dataclass(frozen=True)
class Image:
    """The image under test: how it was built, and where."""

    id: str
    tag: str
    outcome: dict[str, Any]
    site: Path  # the working directory of the build: build/ and receipts/ are in it
    talk: str  # stderr of the build
