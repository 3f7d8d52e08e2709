"""The second job of the suite: its task, its bound, and when its checks run. That it learns is seen in an image."""

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from unittest.mock import MagicMock

import pytest

from acceptance import checks
from acceptance.causal_lm import learning, sentences
from acceptance.checks import lm
from acceptance.deadline import Deadline
from acceptance.limits import read_limits
from acceptance.runner import run_check
from acceptance.supervisor import Run, skip_dependent


@pytest.fixture
def inspection(monkeypatch: pytest.MonkeyPatch) -> checks.Inspection:
    monkeypatch.setitem(sys.modules, "torch", MagicMock())
    return checks.Inspection(read_limits())


def test_bounds_are_far_from_a_model_without_attention() -> None:
    bounds = read_limits().bounds
    words = len(sentences.WORDS)
    assert math.log(words) == sentences.ENTROPY
    assert bounds["lm.loss"]["max"] < sentences.ENTROPY / 10
    assert bounds["lm.accuracy"]["min"] > 10 / words
    assert bounds["lm.lora"]["min"] > 10 / words


def test_words_of_a_sentence_are_drawn_evenly() -> None:
    """The bound holds only if a word says nothing of the next one."""
    drawn = sentences.draw_sentences(4000, seed=1)
    pairs = set()
    for sentence in drawn:
        pairs |= set(pairwise(sentence))
    assert len(pairs) == len(sentences.WORDS) ** 2


def test_no_held_out_sentence_is_learned() -> None:
    trained = {tuple(one) for one in learning.training_sentences(6400)}
    held_out = {tuple(one) for one in learning.held_out_sentences()}
    assert len(trained) == 6400
    assert not trained & held_out


def test_translation_changes_every_word_and_twice_none() -> None:
    words = sentences.WORDS
    answer = sentences.translate(words)
    assert sorted(answer) == sorted(words)
    assert not any(a == b for a, b in zip(words, answer, strict=True))
    assert sentences.translate(answer) == words


def test_learning_rate_rises_and_falls_to_almost_nothing() -> None:
    plan = learning.COPYING
    rates = [learning.learning_rate(plan, step) for step in range(1, plan.steps + 1)]
    peak = rates.index(plan.learning_rate)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < plan.learning_rate / 50


def test_a_model_that_a_deadline_ended_is_not_trained_again(
    inspection: checks.Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = MagicMock(side_effect=ring_the_alarm)
    monkeypatch.setattr(lm, "learn_to_copy", learn)
    first = run_check(named("lm.accuracy"), inspection, Deadline(60, 1))
    second = run_check(named("lm.generation"), inspection, Deadline(60, 1))
    assert first["detail"] == "took longer than 60 s"
    assert second["detail"] == "the causal model broke: it did not end in time"
    assert learn.call_count == 1


def ring_the_alarm(*_: object) -> None:
    from acceptance.deadline import TimedOut

    raise TimedOut


def test_without_peft_lora_is_not_run(
    inspection: checks.Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.importlib.util, "find_spec", lambda name: None)
    for name in ("lm.lora", "lm.adapter", "lm.merged"):
        result = run_check(named(name), inspection, Deadline(60, 1))
        assert (result["status"], result["detail"]) == ("not_run", lm.NO_PEFT)


def test_figures_outside_their_bounds_fail(inspection: checks.Inspection) -> None:
    inspection.lm.result = lm.Decoder(None, None)
    inspection.lm.figures = {"architecture": "gpt2", "accuracy": 0.5, "loss": 3.4}
    inspection.lm.processor_seconds = 30
    inspection.lora.processor_seconds = 20
    details = {}
    for name in ("lm.accuracy", "lm.loss", "lm.seconds"):
        result = run_check(named(name), inspection, Deadline(60, 1))
        assert result["status"] == "failed"
        details[name] = result["detail"]
    assert "one word in 32" in details["lm.accuracy"]
    assert "without attention the least loss is 3.466" in details["lm.loss"]


def test_a_model_that_stands_in_for_llama_is_named(
    inspection: checks.Inspection,
) -> None:
    inspection.lm.result = lm.Decoder(None, None)
    inspection.lm.figures = {"architecture": "gpt2", "accuracy": 1.0}
    result = run_check(named("lm.accuracy"), inspection, Deadline(60, 1))
    assert result["findings"] == [
        "this transformers has no Llama: GPT-2 learned instead"
    ]


@pytest.mark.parametrize("worst", ["changed", "off", "on_again"])
def test_the_worst_of_an_adapter_is_named(
    inspection: checks.Inspection, monkeypatch: pytest.MonkeyPatch, worst: str
) -> None:
    monkeypatch.setattr(lm.importlib.util, "find_spec", lambda name: object())
    inspection.lora.figures = {"changed": 0.0, "off": 0.0, "on_again": 0.0}
    assert run_check(named("lm.adapter"), inspection, Deadline(60, 1))["value"] == 0
    inspection.lora.figures[worst] = 1e-6
    result = run_check(named("lm.adapter"), inspection, Deadline(60, 1))
    assert (result["status"], result["value"]) == ("failed", 1e-6)
    words = {"changed": "training", "off": "adapter off", "on_again": "on again"}
    assert words[worst] in result["detail"]


def test_checks_of_a_model_that_died_are_not_measured() -> None:
    """BERT's figures are no evidence that the causal model was trained."""
    emit: Callable[..., Any] = MagicMock()
    run = Run(emit)
    run.training["accuracy"] = 1.0
    accuracy = named("lm.accuracy")
    run.results["lm.accuracy"] = accuracy.result("failed", checks.Answer(detail="died"))
    loss = named("lm.loss")
    assert skip_dependent(loss, run)
    assert run.results["lm.loss"]["status"] == "error"
    run.lm["accuracy"] = 0.5
    assert not skip_dependent(named("lm.generation"), run)


def named(name: str) -> checks.Check:
    return next(check for check in checks.CHECKS if check.id == name)
