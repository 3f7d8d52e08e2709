"""The steps of transformers' Trainer and of accelerate, with libraries made up here; mutants have the real ones."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from acceptance.checks import CHECKS, Answer, Failure, Inspection, Skipped, trainers
from acceptance.limits import parse_limits

from .conftest import BOUNDS

VERSIONS = {"transformers": "4.36.2", "accelerate": "1.5.2", "torch": "2.0.1"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that the checks see."""
    versions = dict(VERSIONS)
    monkeypatch.setattr(trainers, "installed", versions.get)
    return versions


def inspection() -> Inspection:
    return Inspection(parse_limits(BOUNDS))


def test_both_checks_are_in_the_suite_with_a_bound() -> None:
    ids = [check.id for check in CHECKS]
    for name in ("training.trainer", "training.accelerate"):
        assert name in ids
        assert BOUNDS["bounds"][name] == {"max": 1e-06}


def test_an_accelerate_that_is_too_new_is_the_trainers_failure(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        def __init__(self, **fields: Any) -> None:
            raise TypeError("__init__() got an unexpected keyword 'dispatch_batches'")

    library = SimpleNamespace(Trainer=Trainer, TrainingArguments=MagicMock())
    monkeypatch.setitem(sys.modules, "transformers", library)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torch", MagicMock())
    monkeypatch.setattr(trainers, "small_model", MagicMock())
    monkeypatch.setattr(trainers, "small_rows", list)
    monkeypatch.setattr(trainers, "plain_step", lambda model, rows: model)
    with pytest.raises(Failure) as caught:
        trainers.check_trainer(inspection())
    answer = caught.value.answer
    assert answer.detail.startswith("transformers' Trainer broke: TypeError: ")
    assert "transformers 4.36.2 and accelerate 1.5.2 and torch 2.0.1" in answer.remedy


def test_a_library_that_is_missing_is_no_evidence(installed: dict[str, str]) -> None:
    @trainers.step_check("a step", "torch")
    def check(_: Inspection) -> Answer:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(ModuleNotFoundError):
        check(inspection())


@pytest.mark.parametrize(
    ("transformers", "accelerate", "is_skipped"),
    [("4.29.2", None, False), ("4.30.0", None, True), ("4.30.0", "0.20.3", False)],
)
def test_trainers_before_4_30_need_no_accelerate(
    transformers: str,
    accelerate: "str | None",
    is_skipped: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"transformers": transformers, "accelerate": accelerate}
    monkeypatch.setattr(trainers, "installed", versions.get)
    if is_skipped:
        with pytest.raises(Skipped, match="accelerate is not installed"):
            trainers.require_accelerate((4, 29))
    else:
        trainers.require_accelerate((4, 29))


def test_a_loop_of_accelerate_is_skipped_without_it(
    installed: dict[str, str],
) -> None:
    del installed["accelerate"]
    with pytest.raises(Skipped):
        trainers.check_accelerate(inspection())


@pytest.mark.parametrize("name", ["use_cpu", "no_cuda"])
def test_a_step_stays_off_the_gpu_by_either_name(name: str) -> None:
    class Arguments:
        def __init__(self, **fields: Any) -> None:
            self.fields = fields

    setattr(Arguments, name, False)
    fields = trainers.trainer_arguments(Arguments, "folder").fields
    assert fields[name] is True
    assert fields["report_to"] == "none"
    assert ("use_cpu" in fields) != ("no_cuda" in fields)


def test_the_module_imports_nothing_heavy() -> None:
    assert isinstance(trainers, ModuleType)
    assert not hasattr(trainers, "torch")
