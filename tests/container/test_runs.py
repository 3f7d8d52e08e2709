"""Runs of `train` that are cut off, and data that cannot be trained on, in the image."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from .engine import Image, docker

SHORT = ("--epochs", "2", "--rows", "640", "--held-out", "100", "--save-every", "5")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    os.chown(tmp_path, 1000, 1000)
    tmp_path.chmod(0o755)
    return tmp_path


def start(image: Image, runs: Path, name: str, *words: str) -> "subprocess.Popen[str]":
    options = ["--rm", "--name", name, "--network", "none", "--volume", f"{runs}:/runs", image.id]
    return subprocess.Popen(
        ["docker", "run", *options, "train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def losses(runs: Path, name: str) -> list[float]:
    found: list[float] = json.loads((runs / name / "metrics.json").read_text())["losses"]
    return found


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_a_run_that_was_killed_goes_on_with_the_same_losses(image: Image, runs: Path) -> None:
    options = ["run", "--rm", "--volume", f"{runs}:/runs", image.id, "train", *SHORT]
    docker(*options, "--output", "/runs/whole")
    name = f"envbuilder-test-{os.getpid()}"
    process = start(image, runs, name, *SHORT, "--output", "/runs/killed")
    wait_for(runs / "killed" / "checkpoint-10")
    docker("kill", "--signal", "KILL", name, check=False)
    process.communicate()
    assert not (runs / "killed" / "metrics.json").exists()
    docker(
        "run", "--rm", "--volume", f"{runs}:/runs", image.id, "train", *SHORT, "--output", "/runs/killed", "--resume"
    )
    assert losses(runs, "killed") == losses(runs, "whole")
    assert len(losses(runs, "whole")) == 40


def test_an_interrupt_saves_and_ends_with_130(image: Image, runs: Path) -> None:
    name = f"envbuilder-test-{os.getpid()}"
    process = start(image, runs, name, "--epochs", "900", "--rows", "640", "--output", "/runs/cut")
    wait_for(runs / "cut" / "checkpoint-20")
    docker("kill", "--signal", "INT", name)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: saving" in err
    assert "go on with `--resume`" in out


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("text,label\n", [], "error: "),
        ("text,label\ngood,1\nfine,1\nnice,1\n", ["--held-out", "1"], "all rows have one label, 1"),
        ("a,b\ngood,1\nbad,0\n", [], "there are: a, b"),
        ("text,label\ngood,1\nbad,0\n", ["--text-column", "body"], "there is no column body"),
        ("text,label\ngood,1\n,0\nbad,0\nfine,1\n", ["--held-out", "1"], "has no text"),
        ("text,label\ngood,1\nbad,0\n", ["--held-out", "5"], "5 cannot be held out"),
    ],
)
def test_data_that_cannot_be_trained_on_is_explained(
    image: Image, runs: Path, text: str, words: list[str], said: str
) -> None:
    (runs / "my.csv").write_text(text)
    options = ["--rm", "--network", "none", "--volume", f"{runs}:/runs", image.id]
    done = docker("run", *options, "train", "--model", "/nothing", "--data", "/runs/my.csv", *words, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert said in done.stderr
