"""The programs of examples/ run in the image, without a network and as any user."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .engine import Image, docker

EXAMPLES = Path(__file__).parents[2] / "examples"
BERT = "--data runs/offline/reviews.csv --model runs/offline/bert --learning-rate 1e-3 --epochs 3 --batch-size 32"
LORA = "--data runs/offline/notes.jsonl --model runs/offline/llama --learning-rate 5e-3 --epochs 2 --batch-size 32"
# One after the other, in the server's container: its port is nobody else's business.
CLIENT = """
import json, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(path, body=None):
    request = urllib.request.Request("http://127.0.0.1:8000" + path, data=body)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)

def predict(*texts):
    return ask("/predict", json.dumps({"texts": texts}).encode())

good, bad = "the film was very good", "the film was very bad"
with ThreadPoolExecutor(8) as pool:
    together = list(pool.map(predict, [good, bad] * 8))
print(json.dumps({
    "health": ask("/health"),
    "both": predict(good, bad),
    "together": [answer["answers"][0]["label"] for _, answer in together],
    "none": predict(),
    "path": ask("/elsewhere")[0],
    "json": ask("/predict", b"{")[0],
    "kind": ask("/predict", b'{"texts": [1]}')[0],
    "many": predict(*[good] * 65)[0],
    "large": ask("/predict", b"x" * 1_000_001)[0],
}))
"""


def options(folder: Path) -> list[str]:
    return [
        "--network",
        "none",
        "--user",
        f"{os.getuid()}:{os.getgid()}",
        "--shm-size",
        "1g",
        # On a busy machine, several threads of so small a model wait for each other.
        "--env",
        "OMP_NUM_THREADS=1",
        "--mount",
        f"type=bind,src={folder},dst=/work",
        "--mount",
        f"type=bind,src={EXAMPLES},dst=/work/examples,readonly",
        "--workdir",
        "/work",
    ]


@pytest.fixture(scope="module")
def work(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which offline.py has run."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "examples").mkdir()
    run(image, folder, "python examples/offline.py runs/offline")
    return folder


def run(image: Image, folder: Path, command: str) -> str:
    return docker(
        "run", "--rm", *options(folder), image.id, *command.split()
    ).stdout.strip()


def metrics(folder: Path, name: str) -> dict[str, Any]:
    text = (folder / "runs" / name / "metrics.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture(scope="module")
def classifier(image: Image, work: Path) -> Path:
    run(image, work, f"python examples/finetune_bert.py --output runs/bert {BERT}")
    return work


def test_the_trainer_example_learns(classifier: Path) -> None:
    assert metrics(classifier, "bert")["eval_accuracy"] >= 0.95
    files = {path.name for path in (classifier / "runs" / "bert").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files


def test_the_plain_loop_learns(image: Image, work: Path) -> None:
    run(image, work, f"python examples/accelerate_loop.py --output runs/loop {BERT}")
    assert metrics(work, "loop")["accuracy"] >= 0.95


@pytest.mark.exhaustive
def test_the_plain_loop_learns_in_two_processes(image: Image, work: Path) -> None:
    launch = "accelerate launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    run(image, work, f"{launch} examples/accelerate_loop.py --output runs/loop2 {BERT}")
    assert metrics(work, "loop2")["accuracy"] >= 0.95


def test_lora_answers_held_out_prompts(image: Image, work: Path) -> None:
    found = docker("run", "--rm", image.id, "python", "-c", "import peft", check=False)
    if found.returncode:
        pytest.skip("peft is not in this image")
    run(
        image, work, f"python examples/lora_causal.py --output runs/lora --merge {LORA}"
    )
    assert metrics(work, "lora")["exact_answers"] >= 0.95
    files = {path.name for path in (work / "runs" / "lora").rglob("*.safetensors")}
    assert files == {"adapter_model.safetensors", "model.safetensors"}


@pytest.fixture
def server(image: Image, classifier: Path) -> Iterator[str]:
    command = ["python", "examples/serve.py", "--model", "runs/bert"]
    container = docker(
        "run", "--detach", *options(classifier), image.id, *command
    ).stdout.strip()
    yield container
    docker("rm", "--force", container)


def test_the_server_answers_refuses_and_ends(server: str) -> None:
    docker("exec", server, "sh", "-c", WAIT)
    answered = json.loads(docker("exec", server, "python", "-c", CLIENT).stdout)
    assert answered.pop("health") == [200, {"status": "ok"}]
    status, document = answered.pop("both")
    assert status == 200
    assert [row["label"] for row in document["answers"]] == ["positive", "negative"]
    assert answered.pop("together") == ["positive", "negative"] * 8
    assert answered.pop("none") == [200, {"answers": []}]
    assert answered == {
        "path": 404, "json": 400, "kind": 400, "many": 413, "large": 413,
    }  # fmt: skip
    docker("stop", "--time", "60", server)
    state = docker("inspect", "--format", "{{.State.ExitCode}}", server)
    assert state.stdout.strip() == "0"
    assert "stopped" in docker("logs", server).stderr


WAIT = """
for second in $(seq 300); do
  if python -c 'import urllib.request as r; r.urlopen("http://127.0.0.1:8000/health")' 2>/dev/null; then exit 0; fi
  sleep 1
done
exit 1
"""
