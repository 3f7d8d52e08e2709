"""Packages that are bound to torch, as far as that can be told without them."""

import importlib.util
from pathlib import Path

import pytest

from acceptance import checks
from acceptance.checks import companions, imports
from acceptance.limits import parse_limits

from .conftest import BOUNDS

LIMITS = parse_limits(BOUNDS)
WEIGHTS = [((7 * number) % 101 - 50) / 37 for number in range(2 * companions.BLOCK)]


def answer_of(monkeypatch: pytest.MonkeyPatch, unpacked: list[float]) -> checks.Answer:
    monkeypatch.setattr(companions, "installed", lambda: {"bitsandbytes": "0.50.2"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(companions, "round_trip", lambda: (WEIGHTS, unpacked))
    return companions.check_four_bit(checks.Inspection(LIMITS))


def test_weights_come_back_as_the_nearest_levels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nearest = companions.nearest_levels(WEIGHTS)
    scale = max(map(abs, WEIGHTS[: companions.BLOCK]))
    assert {round(value / scale, 6) for value in nearest[: companions.BLOCK]} <= {
        round(level, 6) for level in companions.NF4
    }
    assert answer_of(monkeypatch, nearest).value == 0


@pytest.mark.parametrize("other", [WEIGHTS, WEIGHTS[:-1], [float("nan")] * 128])
def test_other_weights_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, other: list[float]
) -> None:
    with pytest.raises(checks.Failure, match="come back as others"):
        answer_of(monkeypatch, other)


def test_without_the_package_or_its_operators_it_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(companions, "installed", dict)
    with pytest.raises(checks.Skipped, match="is not in this image"):
        companions.check_four_bit(checks.Inspection(LIMITS))
    monkeypatch.setattr(companions, "installed", lambda: {"bitsandbytes": "0.45.3"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(checks.Skipped, match="needs a GPU"):
        companions.check_four_bit(checks.Inspection(LIMITS))


NO_GPU = (
    "NotImplementedError: Unsloth cannot find any torch accelerator? You need a GPU."
)


def test_an_import_is_excused_by_its_name_and_its_error() -> None:
    failed = {"unsloth": NO_GPU, "unsloth_zoo": "ImportError: x", "other": NO_GPU}
    excuses = LIMITS.exceptions["imports.failed"]
    findings = imports.take_out_excused(failed, excuses)
    assert sorted(failed) == ["other", "unsloth_zoo"]
    assert findings == [
        "unsloth was not imported: it asks for a GPU when it is imported, and there is none: not run"
    ]


@pytest.mark.parametrize("gpus", [[], ["/dev/nvidia0"]])
def test_with_a_gpu_nothing_is_excused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: list[str]
) -> None:
    monkeypatch.setattr(imports, "gpu_devices", lambda: gpus)
    monkeypatch.setattr(imports, "distributions", list)
    monkeypatch.setattr(
        imports,
        "import_all",
        lambda *_: {"failed": {"unsloth": NO_GPU}, "warned": {}},
    )
    inspection = checks.Inspection(LIMITS, {"stack": {}, "wheels": []})
    if gpus:
        with pytest.raises(checks.Failure, match="unsloth: NotImplementedError"):
            imports.check_imports(inspection)
    else:
        assert imports.check_imports(inspection).value == 0
