"""Pre-training on texts without labels: what it gains with few labels, and that it resumes after a kill."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .engine import Image, docker
from .test_runs import runs, wait_for  # noqa: F401 - `runs` is a fixture

# One thread: as fast for so small a model, and on a busy machine many times faster than two.
RUN = ("run", "--rm", "--network", "none", "--env", "OMP_NUM_THREADS=1")
GAIN = (
    0.04  # less than the least of five seeds, 0.050: docs/decisions/0012-pretraining.md
)

SHORT = (
    "--pretrain",
    "2",
    "--pretrain-rows",
    "320",
    "--max-train-samples",
    "64",
    "--epochs",
    "2",
    "--max-eval-samples",
    "50",
)
SHORT += ("--save-every", "5", "--no-pad-to-max-length")


def train(image: Image, folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """The output of `train`, and its metrics from `folder`."""
    where = ["--volume", f"{folder.parent}:/runs", image.id]
    done = docker(*RUN, *where, "train", *words, "--output", f"/runs/{folder.name}")
    return done.stdout, json.loads((folder / "metrics.json").read_text())


def test_killed_pretraining_resumes_with_the_same_losses(
    image: Image,
    runs: Path,  # noqa: F811
) -> None:
    _, whole = train(image, runs / "whole", *SHORT)
    name = f"envbuilder-test-{os.getpid()}"
    where = ["--name", name, "--volume", f"{runs}:/runs", image.id]
    words = ["docker", *RUN, *where, "train", *SHORT, "--output", "/runs/cut"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(runs / "cut" / "pretrained" / "checkpoint-5")
    docker("kill", "--signal", "KILL", name, check=False)
    process.communicate()
    assert not (runs / "cut" / "pretrained" / "pretraining.json").exists()
    said, cut = train(image, runs / "cut", *SHORT, "--resume")
    assert "resuming after batch" in said
    assert cut["losses"] == whole["losses"]
    assert cut["pretraining"]["losses"] == whole["pretraining"]["losses"]
    assert len(whole["pretraining"]["losses"]) == 20

    left = {path.name for path in (runs / "cut" / "pretrained").iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "pretraining.json",
        "metrics.jsonl",
    } <= left
    assert not [name for name in left if name.startswith("checkpoint-")]
    assert "<h2>Pre-training</h2>" in (runs / "cut" / "report.html").read_text()
    events = [
        json.loads(line)
        for line in (runs / "cut" / "pretrained" / "metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert {
        event["step"]
        for event in events
        if "masked_words" in event and "sentence_pairs" in event
    } == {10, 20}


@pytest.mark.exhaustive
def test_pretraining_helps_with_few_labels(image: Image, runs: Path) -> None:  # noqa: F811
    few = (
        "--max-train-samples",
        "100",
        "--epochs",
        "12",
        "--batch-size",
        "16",
        "--no-pad-to-max-length",
    )
    _, without = train(image, runs / "without", *few)
    said, after = train(image, runs / "after", *few, "--pretrain", "8")
    assert "pre-training on 4000 texts, 4000 of them in two halves" in said
    assert after["accuracy"] > without["accuracy"] + GAIN
