"""Paths that people give: missing files, folders in place of files, blanks."""

import re
import shlex
from pathlib import Path

import pytest

from .conftest import Run
from .test_init import LOCK


@pytest.mark.parametrize("command", ["build", "base", "render", "init"])
def test_a_lock_that_does_not_exist_is_a_wrong_path(run: Run, command: str) -> None:
    answer = run(command, "--lock", "typo.lock")
    assert answer.code == 2
    assert answer.err == (
        "error: the lock typo.lock does not exist\nhint: check the path\n"
    )


def test_checking_a_missing_lock_hints_at_the_same_request(run: Run) -> None:
    answer = run("lock", "--check", "--cuda", "11.7", "--python", "3.10")
    assert answer.code == 2
    assert "hint: create it: `envbuilder lock --cuda 11.7 --python 3.10`" in answer.err
    answer = run("lock", "--check", "--cuda", "11.7", "--output", "our own.lock")
    assert "`envbuilder lock --cuda 11.7 --output 'our own.lock'`" in answer.err


def test_missing_settings_are_a_wrong_path(run: Run, tmp_path: Path) -> None:
    answer = run("--config", "nosuch.toml", "resolve")
    assert (answer.code, "hint: check the path\n" in answer.err) == (2, True)
    (tmp_path / "such.toml").write_text("cuda = \n")
    answer = run("--config", "such.toml", "resolve")
    assert (answer.code, "hint: fix it, or" in answer.err) == (2, True)


def test_the_command_after_render_can_be_pasted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a b.lock").write_text(Path(LOCK).read_text())
    answer = run("render", "--lock", "a b.lock", "--output", "out dir")
    assert answer.code == 0, answer.err
    (line,) = re.findall("`(.+)`", answer.err)
    words = shlex.split(line)
    assert words[-1] == "out dir"
    assert Path(words[words.index("--file") + 1]).is_file()


def test_a_folder_is_no_file_for_a_lock(run: Run, tmp_path: Path) -> None:
    for name in (".", str(tmp_path)):
        answer = run("lock", "--cuda", "11.7", "--output", name)
        assert answer.code == 2
        assert answer.err == (
            f"error: {name} is a folder\nhint: name a file: `--output FILE`\n"
        )
