"""`train --compile` gives the numbers of the uncompiled job, in the image, and says what it lacks."""

import json
from pathlib import Path

import pytest

from .engine import Image, docker

COMPILED = Path(__file__).with_name("compiled.py")


@pytest.fixture(scope="module")
def measured(image: Image) -> dict[str, float]:
    words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--volume",
        f"{COMPILED}:/compiled.py:ro",
        image.id,
    ]
    done = docker(*words, "python", "/compiled.py", "/opt/envbuilder/payload")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.exhaustive
def test_it_was_compiled_in_one_piece(measured: dict[str, float]) -> None:
    assert (measured["graphs"], measured["breaks"]) == (1, {})


@pytest.mark.exhaustive
def test_dropout_and_steps_are_those_of_the_uncompiled_job(
    measured: dict[str, float],
) -> None:
    assert measured["moved"] > 1e-3  # it trained: equal losses say something
    assert measured["losses"] < 1e-4


@pytest.mark.exhaustive
def test_the_uncompiled_model_has_learned_the_same(measured: dict[str, float]) -> None:
    assert measured["logits"] < 1e-3
    assert measured["names"]


def test_missing_compiler_is_reported(image: Image) -> None:
    done = docker(
        "run",
        "--rm",
        "--network",
        "none",
        "--env",
        "CXX=none",
        image.id,
        "train",
        "--compile",
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: --compile needs a C++ compiler, and this image has none\nhint: leave out --compile, or install g++\n"
    )
