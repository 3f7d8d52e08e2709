"""The metrics of `evaluate.load` without a hub: seqeval's answers, and how the files get into the cache."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

from .conftest import PAYLOAD

RECORDED = Path(__file__).with_name("seqeval-1.2.2.json")
METRICS = sorted(PAYLOAD.glob("metrics/[!_]*.py"))
KEYS = ("predictions", "references", "suffix", "zero_division")


@pytest.fixture
def seqeval(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """metrics/seqeval.py without evaluate, which is in images alone."""
    monkeypatch.setitem(sys.modules, "datasets", MagicMock())
    monkeypatch.setitem(sys.modules, "evaluate", MagicMock(Metric=object))
    yield importlib.import_module("metrics.seqeval")
    for name in ("metrics", "metrics.seqeval"):
        sys.modules.pop(name, None)


def test_scores_of_entities_are_those_of_seqeval(seqeval: ModuleType) -> None:
    cases = json.loads(RECORDED.read_text())
    assert len(cases) == 40
    for case in cases:
        scores = seqeval.Seqeval()._compute(**{key: case[key] for key in KEYS})
        flat = {
            name: value if isinstance(value, dict) else {"": value}
            for name, value in scores.items()
        }
        expected = {
            name: value if isinstance(value, dict) else {"": value}
            for name, value in case["scores"].items()
        }
        assert flat.keys() == expected.keys()
        for name, values in expected.items():
            assert flat[name] == pytest.approx(values, abs=1e-12), case


def test_rows_of_two_lengths_are_refused(seqeval: ModuleType) -> None:
    with pytest.raises(ValueError, match="row 1 has 2 tags, and 1 are predicted"):
        seqeval.Seqeval()._compute(
            predictions=[["O"], ["O"]], references=[["O"], ["O", "O"]]
        )


def test_strict_mode_names_the_package_that_it_needs(seqeval: ModuleType) -> None:
    rows = [["B-PER"]]
    with pytest.raises(ImportError, match="envbuilder build --package seqeval"):
        seqeval.Seqeval()._compute(
            predictions=rows, references=rows, mode="strict", scheme="IOB2"
        )


# --- the copy in the cache -----------------------------------------------------------------------------------------


def copy(**env: str) -> subprocess.CompletedProcess[str]:
    script = f'. "{PAYLOAD}/metrics/copy"; copy_metrics "{PAYLOAD}/metrics"'
    return subprocess.run(
        ["sh", "-euc", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **env},
    )


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("HOME", ".cache/huggingface/modules"),
        ("XDG_CACHE_HOME", "huggingface/modules"),
        ("HF_HOME", "modules"),
        ("HF_MODULES_CACHE", "."),
    ],
)
def test_metrics_are_copied_to_where_evaluate_looks(
    variable: str, below: str, tmp_path: Path
) -> None:
    assert len(METRICS) == 5
    for _ in range(2):
        done = copy(**{variable: str(tmp_path)})
        assert (done.returncode, done.stderr) == (0, "")
    found = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    modules = tmp_path / below / "evaluate_modules" / "metrics"
    expected = []
    for path in METRICS:
        digest = sha256(path.read_bytes()).hexdigest()
        expected.append(modules / f"evaluate-metric--{path.stem}" / digest / path.name)
    assert found == expected
    # One that was downloaded is newer, and evaluate takes the newest.
    assert {path.stat().st_mtime < 4e8 for path in found} == {True}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = copy(HF_HOME=str(file))
    assert (done.returncode, done.stderr) == (0, "")
