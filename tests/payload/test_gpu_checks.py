"""What the checks of `make gpu-check` compute; their runs need a GPU."""

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "tools" / "gpu_checks" / "gpu_training.py"


@pytest.fixture
def checks() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_training", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_speed_leaves_out_the_first_steps(checks: Any) -> None:
    times = [0.0, 60.0, 120.0, 120.5, 121.0, 121.5]
    assert checks.steady_speed(times, 32) == 64.0
    assert checks.steady_speed([1.0], 32) == 0.0


def test_losses_of_another_number_of_steps_differ(checks: Any) -> None:
    assert checks.difference([1.0, 0.5], [1.0, 0.25]) == 0.25
    assert checks.difference([1.0], [1.0, 0.5]) == math.inf


def test_the_training_job_of_a_checkout_is_found(checks: Any) -> None:
    assert (checks.find_payload() / "train" / "options.py").is_file()


def test_an_error_is_a_failed_result(
    checks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checks.report_error("bf16", "a title", RuntimeError("no kernel"))
    event = json.loads(capsys.readouterr().out)
    assert (event["status"], event["detail"]) == ("failed", "no kernel")


def test_what_this_torch_does_not_have_is_not_run(
    checks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "exit code 1: error: --parallel fsdp needs torch ≥ 2.6 (this is 2.0.1)"
    checks.report_error("fsdp", "a title", RuntimeError(words))
    event = json.loads(capsys.readouterr().out)
    assert (event["status"], event["detail"]) == ("not_run", words)


def test_the_job_still_says_so(checks: Any) -> None:
    """Other words there would turn what is not supported into a failure."""
    job = checks.find_payload() / "train"
    text = "".join(file.read_text() for file in sorted(job.glob("*.py")))
    assert [sign for sign in checks.NOT_SUPPORTED if sign not in text] == []
