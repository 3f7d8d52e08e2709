"""The guide's job with the real clients of a model hub, against a hub on this machine (tests/hub)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.material import make_hub
from hub.server import serve

from .engine import Image, docker

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    with serve(make_hub(tmp_path_factory.mktemp("hub"))) as found:
        yield found


def train(
    image: Image, address: str, *words: str, runs: Path | None = None
) -> tuple[int, str, str]:
    mounted = ["--volume", f"{runs}:/runs", "--user", "0"] if runs else []
    options = [
        "--rm",
        "--network",
        "host",
        "--shm-size",
        "1g",
        "--env",
        f"HF_ENDPOINT={address}",
        *mounted,
    ]
    done = docker("run", *options, image.id, "train", *words, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.exhaustive
def test_a_pretrained_bert_learns_real_sentences(
    image: Image, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    words = [
        "--model",
        "bert-base-uncased",
        "--data",
        "snippets",
        "--max-train-samples",
        "500",
        "--max-eval-samples",
        "400",
    ]
    words += [
        "--epochs",
        "2",
        "--batch-size",
        "16",
        "--max-length",
        "40",
        "--output",
        "/runs/snippets",
    ]
    code, _, err = train(image, hub[0], *words, runs=tmp_path)
    assert code == 0, err
    measured = json.loads((tmp_path / "snippets" / "metrics.json").read_text())
    assert measured["accuracy"] >= 0.75
    options = ["run", "--rm", "--user", "0", "--volume", f"{tmp_path}:/runs", image.id]
    asked = docker(*options, "predict", "/runs/snippets", "A wonderful film.")
    assert json.loads(asked.stdout)["label"] == "1"


def test_guide_job_runs_with_hub_names(
    image: Image, hub: tuple[str, list[str]]
) -> None:
    words = [
        "--model",
        "bert-base-uncased",
        "--data",
        "imdb",
        "--max-train-samples",
        "16",
        "--max-eval-samples",
        "16",
        "--epochs",
        "1",
    ]
    code, out, err = train(image, hub[0], *words)
    assert code == 0, err
    assert "epoch 1: accuracy" in out
    assert "GET /datasets/imdb/resolve" in "\n".join(
        line.rsplit("/", 2)[0] for line in hub[1]
    )


@pytest.mark.parametrize(
    "words", [["--data", "imdb"], ["--data", "/opt/envbuilder/payload/train/job.py"]]
)
def test_missing_hub_is_one_line_with_a_hint(image: Image, words: list[str]) -> None:
    code, _, err = train(
        image, "http://127.0.0.1:9", "--model", "bert-base-uncased", *words
    )
    assert code == 1
    assert "Traceback" not in err
    assert "error: " in err
    assert "hint: " in err


def test_unknown_model_is_named_in_the_error(
    image: Image, hub: tuple[str, list[str]]
) -> None:
    code, _, err = train(
        image,
        hub[0],
        "--model",
        "no-such-bert",
        "--data",
        "snippets",
        "--max-train-samples",
        "8",
        "--max-eval-samples",
        "8",
    )
    assert code == 1
    assert "Traceback" not in err
    assert "cannot load model no-such-bert" in err
