"""Run a command as a user would, without a process: exit code, stdout, stderr."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from envbuilder import cli


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> Answer:
        code = cli.run(list(words))
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call
