"""The fine-tune's command line, without torch; what it learns is measured in tests/container."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

from .conftest import PAYLOAD

HEAVY = ("torch", "torch.utils", "torch.utils.data", "datasets", "tqdm", "tqdm.auto", "transformers")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Any:
    """train.py over a torch that is a mock and sees no GPU."""
    for name in HEAVY:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    sys.modules["torch"].cuda.is_available.return_value = False  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "train", raising=False)
    import train

    yield train
    sys.modules.pop("train", None)


def test_the_measured_defaults(train: ModuleType) -> None:
    settings = vars(train.parse_settings([]))
    assert settings == {
        "rows": 2000, "held_out": 500, "epochs": 4, "batch": 32, "learning_rate": 1e-3, "warmup": 0.1, "max_length": 24,
        "layers": 2, "hidden": 128, "heads": 2, "seed": 0, "device": "auto", "output": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "60000"], "there are 17920 reviews in all"),
        (["--rows", "0"], "--rows: invalid count value: '0'"),
        (["--epochs", "-1"], "--epochs"),
        (["--heads", "3"], "--hidden 128 cannot be shared by --heads 3"),
        (["--device", "cuda"], "no GPU is visible in here; `docker run --gpus all …` shows it one"),
    ],
)
def test_what_cannot_be_is_refused(
    train: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        train.parse_settings(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_even_while_torch_is_imported(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "torch.py").write_text("import time; print('importing', flush=True); time.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, str(PAYLOAD / "train.py")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda path: str(path.relative_to(PAYLOAD)))
def test_the_payload_is_python_3_8_and_knows_nothing_of_envbuilder(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    allowed = {"torch", "torchvision", "torchaudio", "transformers", "datasets", "numpy", "tqdm", "packaging"} | {
        "checks",
        "reviews",
        "train",
    }
    allowed.add("functorch")  # inside torch's wheel, before torch.func
    assert {name.split(".")[0] for name in names} <= allowed | sys.stdlib_module_names
