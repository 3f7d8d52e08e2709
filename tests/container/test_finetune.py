"""`finetune` in the image; or, where FINETUNE_PYTHON names one, with a Python of this machine that has torch."""

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .engine import Image, docker

HERE = Path(__file__).parent
PAYLOAD = HERE.parents[1] / "docker" / "payload"
LEFT = {
    "README.md", "finetune.json", "learning-curve.png", "metrics.json", "metrics.jsonl", "model.safetensors",
    "report.html", "tokenizer.json",
}  # fmt: skip

Answers = dict[str, Any]


@pytest.fixture(scope="module")
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """What `finetuned.py` prints; a run for each task."""
    folder = tmp_path_factory.mktemp("finetune")
    python = os.environ.get("FINETUNE_PYTHON")
    if python:
        words = [
            python,
            str(HERE / "finetuned.py"),
            str(PAYLOAD / "finetune"),
            str(folder),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    else:
        image: Image = request.getfixturevalue("image")
        mounts = ["--volume", f"{HERE}:/tests:ro", "--volume", f"{folder}:/work"]
        user = ["--user", f"{os.getuid()}:{os.getgid()}", "--network", "none"]
        job = [
            "python",
            "/tests/finetuned.py",
            "/opt/envbuilder/payload/finetune",
            "/work",
        ]
        done = docker("run", "--rm", *user, *mounts, image.id, *job)
    result: Answers = json.loads(done.stdout.splitlines()[-1])
    return result


def scores(answers: Answers, name: str) -> dict[str, float]:
    run = answers[name]
    assert run["code"] == 0, run["err"]
    assert set(run["files"]) >= LEFT
    found: dict[str, float] = run["metrics"]["validation"]
    return found


def test_a_chinese_file_is_learned_and_named(answers: Answers) -> None:
    assert scores(answers, "chinese")["f1"] >= 0.95
    assert (
        "chinese.csv is GB18030 (detected by charset-normalizer), not UTF-8"
        in answers["chinese"]["out"]
    )
    assert "predictions.jsonl" in answers["chinese"]["files"]
    assert [row["label"] for row in answers["classify"]] == ["正面", "负面"]
    confusion = answers["chinese"]["metrics"]["validation_labels"]["confusion"]
    assert sum(map(sum, confusion["rows"])) == 24


def test_several_labels_numbers_and_masked_words(answers: Answers) -> None:
    assert scores(answers, "several")["f1"] >= 0.65
    assert scores(answers, "numbers")["pearson"] >= 0.8
    losses = [
        row["eval_loss"]
        for row in answers["masked"]["losses"].values()
        if "eval_loss" in row
    ]
    assert scores(answers, "masked")["loss"] == pytest.approx(losses[-1], abs=1e-4)


def test_a_causal_model_learns_to_answer(answers: Answers) -> None:
    assert scores(answers, "chats")["perplexity"] < 2
    assert [row["answer"] for row in answers["say"]] == ["blue . blue", "red . red"]


@pytest.mark.parametrize("name", ["tags", "lora"])
def test_entities_and_adapters_are_learned(answers: Answers, name: str) -> None:
    run = answers[name]
    assert run["code"] == 0, run["err"]
    assert "metrics.json" in run["files"]
    if name == "lora":
        assert {"adapter_model.safetensors", "merged"} <= set(run["files"])
    else:
        assert run["metrics"]["validation"]["f1"] >= 0.95


def test_a_killed_run_goes_on_with_the_same_losses(answers: Answers) -> None:
    assert answers["cut"]["killed"] == -9
    assert "resuming after step 12 of 18" in answers["cut"]["out"]
    whole, cut = answers["whole"]["losses"], answers["cut"]["losses"]
    assert len(whole) == 18
    assert cut == whole
    assert (
        answers["cut"]["metrics"]["validation"]
        == answers["whole"]["metrics"]["validation"]
    )


@pytest.mark.parametrize("name", ["accumulated", "processes"])
def test_a_step_of_several_batches_has_the_loss_of_one(
    answers: Answers, name: str
) -> None:
    # Two labels, nothing learned yet: ln 2, and not twice that.
    assert scores(answers, name)["loss"] == pytest.approx(math.log(2), abs=0.1)
    assert answers[name]["losses"]["1"]["loss"] == pytest.approx(math.log(2), abs=0.2)
    assert answers["processes"]["metrics"]["processes"] == 2


def test_a_directory_that_is_not_empty_is_refused(answers: Answers) -> None:
    assert answers["again"]["code"] == 2
    assert "is not empty" in answers["again"]["err"]
