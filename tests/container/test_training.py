"""The bounds can tell a working environment from a broken one: the job, broken from outside in each way we know."""

import json
from pathlib import Path

import pytest

from .engine import Image, docker

VARIANTS = Path(__file__).with_name("variants.py")


@pytest.fixture(scope="module")
def measured(image: Image) -> dict[str, dict[str, float]]:
    words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--volume",
        f"{VARIANTS}:/variants.py:ro",
        image.id,
    ]
    done = docker(*words, "python", "/variants.py", "/opt/envbuilder/payload")
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["working", "another_seed"])
def test_a_working_job_learns(measured: dict[str, dict[str, float]], name: str) -> None:
    assert measured[name]["accuracy"] >= 0.95
    assert measured[name]["negated"] >= 0.95


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", ["frozen", "learning_rate_0", "shuffled_labels", "permuted_vocabulary"]
)
def test_a_broken_job_does_not(
    measured: dict[str, dict[str, float]], name: str
) -> None:
    assert measured[name]["accuracy"] < 0.65


@pytest.mark.exhaustive
def test_counting_words_is_not_enough(measured: dict[str, dict[str, float]]) -> None:
    assert measured["bag_of_words"]["accuracy"] < 0.75
    assert measured["bag_of_words"]["negated"] < 0.5
