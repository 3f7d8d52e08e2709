"""`predict` before a model is loaded: which texts it reads, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PAYLOAD


def predict(
    *words: str, stdin: str = "", modules: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(modules)} if modules else {}
    return subprocess.run(
        [sys.executable, str(PAYLOAD / "train" / "predict.py"), *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_predict_without_a_text_is_a_usage_error(model: Path) -> None:
    answer = predict(str(model))
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "usage: predict" in answer.stderr
    assert "error: no text: `predict DIR TEXT …`" in answer.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "texts"),
    [
        (["a film", "b"], "ignored\n", ["a film", "b"]),
        ([], "one\n\nthree", ["one", "", "three"]),
    ],
)
def test_predict_reads_arguments_or_lines(
    model: Path, tmp_path: Path, words: list[str], stdin: str, texts: list[str]
) -> None:
    # No torch here: a stand-in for the model calls everything good.
    (tmp_path / "torch.py").write_text("from contextlib import suppress as no_grad\n")
    (tmp_path / "transformers.py").write_text(
        "class Scores(list):\n"
        "    def softmax(self, axis): return [self]\n"
        "    def argmax(self): return 0\n"
        "class Fake:\n"
        "    max_position_embeddings, id2label = 8, ['good']\n"
        "    config = property(lambda self: self)\n"
        "    logits = property(lambda self: Scores([0.5]))\n"
        "    from_pretrained = classmethod(lambda cls, name: cls())\n"
        "    def eval(self): return self\n"
        "    def __call__(self, *texts, **options): return {} if texts else self\n"
        "AutoTokenizer = AutoModelForSequenceClassification = Fake\n"
    )
    answer = predict(str(model), *words, stdin=stdin, modules=tmp_path)
    assert answer.returncode == 0, answer.stderr
    lines = [f'{{"label": "good", "score": 0.5, "text": "{text}"}}' for text in texts]
    assert answer.stdout.splitlines() == lines
