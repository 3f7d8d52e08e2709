"""The entrypoint for users without a home, a name or a cache."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from marks import few

from .conftest import PAYLOAD

SHOW = 'echo "$HOME|${USER:-}|${HF_HOME:-}|${XDG_CACHE_HOME:-}"'


def run(
    *words: str, uid: int | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    # Threads that are set: the tests may themselves run under a quota, which the entrypoint would name.
    names = {name: os.environ[name] for name in ("PATH", "TMPDIR")}
    names = names | {"OMP_NUM_THREADS": "1"} | env
    command = [str(PAYLOAD / "entrypoint"), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=names,
        user=uid,
        group=uid,
    )


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where fresh homes and caches go: other users cannot enter pytest's own directory."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        monkeypatch.setenv("TMPDIR", folder)
        yield


@pytest.fixture
def stranger() -> int:
    """A UID without a passwd entry; only root can become it, and it must reach the checkout."""
    if os.geteuid() != 0:
        pytest.skip("only root can run it as another user")
    if run("true", uid=4321, HOME="/").returncode != 0:
        pytest.skip("another user cannot read this checkout")
    return 4321


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help(word: str) -> None:
    assert "train [OPTIONS]" in run(word).stdout
    assert run(word).stdout == run().stdout


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "did you mean train?"),
        ("fintune", "did you mean finetune?"),
        ("predcit", "did you mean predict?"),
        ("acept", "did you mean accept?"),
        (
            "nosuch",
            "the commands of this image are train, finetune, predict, accept and launch; `help` explains them",
        ),
    ],
)
def test_an_unknown_command_is_named_with_those_that_exist(
    word: str, hint: str
) -> None:
    answer = run(word, "--output", "/runs/x")
    assert answer.returncode == 127
    assert answer.stderr == f"error: no such command: {word}\nhint: {hint}\n"


def test_other_commands_and_paths_run_as_they_are() -> None:
    assert run("sh", "-c", "echo $0", "x").stdout == "x\n"
    assert run("/bin/echo", "y").stdout == "y\n"


def test_a_good_home_is_kept(tmp_path: Path) -> None:
    home = run("sh", "-c", SHOW, HOME=str(tmp_path), HF_HOME=str(tmp_path / "hf"))
    assert home.stdout.split("|")[0] == str(tmp_path)
    assert home.stdout.split("|")[2:] == [str(tmp_path / "hf"), "\n"]
    assert home.stderr == ""


@pytest.mark.parametrize(
    "home",
    few(
        [
            {},
            {"HOME": ""},
            {"HOME": "/"},
            {"HOME": "/dev/null/home"},
            {"HOME": "/root"},
        ],
        fast=2,
    ),
)
def test_unknown_user_gets_a_home_and_a_name(
    stranger: int, home: dict[str, str]
) -> None:
    told = run("sh", "-c", f'touch "$HOME/x" && {SHOW}', uid=stranger, **home)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("|")[1] == "uid4321"


def test_a_cache_that_cannot_be_written_is_replaced_aloud(stranger: int) -> None:
    told = run(
        "sh",
        "-c",
        f'touch "$HF_HOME/x" && {SHOW}',
        uid=stranger,
        HOME="/",
        HF_HOME="/root/hf",
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr.startswith("HF_HOME: /root/hf cannot be written; ")


def test_a_pip_of_another_python_is_refused(tmp_path: Path) -> None:
    refusal = run("pip", "install", "-q", "peft", VIRTUAL_ENV=str(tmp_path))
    assert refusal.returncode == 1
    assert "envbuilder build --package peft" in refusal.stderr
    assert " -m pip install --no-deps --target ~/extra peft &&" in refusal.stderr
    assert run("pip3", VIRTUAL_ENV=str(tmp_path)).returncode == 1


def test_a_pip_of_the_environment_stays(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").write_text("#!/bin/sh\necho mine\n", encoding="ascii")
    (tmp_path / "bin" / "pip").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    assert run("pip", VIRTUAL_ENV=str(tmp_path), PATH=path).stdout == "mine\n"


@pytest.mark.parametrize(
    ("words", "megabytes", "named"),
    [
        (("python", "job.py"), 64, True),
        (("torchrun", "job.py"), 64, True),
        (("python", "job.py"), 1024, False),
        (("python", "-c", "pass"), 64, False),
    ],
)
def test_little_shared_memory_is_named_before_a_program_runs(
    tmp_path: Path, words: tuple[str, ...], megabytes: int, named: bool
) -> None:
    programs = {"df": f"printf 'size\\n%d\\n' {megabytes * 1024}"}
    programs |= {"python": "true", "torchrun": "true"}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    answer = run(*words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ("docker run --shm-size 1g" in answer.stderr) is named
