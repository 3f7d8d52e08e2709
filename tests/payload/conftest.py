"""The payload is no package: its folder is put on the path, as in an image, and torch is a mock."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

PAYLOAD = Path(__file__).parents[2] / "docker" / "payload"
NO_FILE = (
    f"{os.devnull}/envbuilder.lock"  # below a file there is nothing, on any machine
)
BOUNDS = json.loads((PAYLOAD / "acceptance" / "bounds.json").read_text())
sys.path.insert(0, str(PAYLOAD))
HEAVY = (
    "torch torch.distributed torch.nn torch.nn.functional torch.utils torch.utils.checkpoint torch.utils.data datasets "
    "tqdm transformers safetensors safetensors.torch torchmetrics torchmetrics.functional "
    "torchmetrics.functional.classification"
).split()


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """train/job.py, imported again with a mocked torch that sees no GPU."""
    for name in HEAVY:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    sys.modules["torch"].cuda.is_available.return_value = False  # type: ignore[attr-defined]
    for name in _train_modules():
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("train.job")
    for name in _train_modules():
        del sys.modules[name]


def _train_modules() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "train"]
