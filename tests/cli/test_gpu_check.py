"""`make gpu-check` without a container; the suite is a program that prints its events."""

import json
import sys
from pathlib import Path

import pytest

import gpu_check
from envbuilder.acceptance import receipts
from envbuilder.files import read_bytes
from envbuilder.model import Status, Verdict

SUITE = """
import json, sys
names = sys.argv[sys.argv.index("--only") + 1].split(",")
def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
say("plan", suite="4", checks=[{"id": name, "title": name} for name in names])
for name in names:
    say("start", id=name)
    say("result", id=name, title=name, status=STATUS, seconds=0.1, value=1, bound=None, detail="", remedy="")
say("facts", torch="2.11.0", gpus=["NVIDIA H100 80GB HBM3"])
say("end", verdict="passed")
"""


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> tuple[int, Path]:
    suite = tmp_path / "payload" / "acceptance"
    suite.mkdir(parents=True)
    (suite / "__main__.py").write_text(SUITE.replace("STATUS", repr(status)))
    monkeypatch.setattr(gpu_check, "PAYLOAD", tmp_path / "payload")
    monkeypatch.setattr(gpu_check, "nvidia_smi", lambda: "NVIDIA H100 80GB HBM3")
    words = ["gpu_check.py", "here", sys.executable, "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    return gpu_check.main(), tmp_path / "gpu-check-here.json"


def test_the_receipt_is_one_and_says_nothing_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, file = run(tmp_path, monkeypatch, "passed")
    receipt = receipts.read(read_bytes(file))
    assert code == 0
    assert receipt
    assert (receipt.verdict, receipt.image) == (Verdict.INCOMPLETE, "")
    assert receipt.host["gpu"] == "NVIDIA H100 80GB HBM3"
    answers = {check.id: check.status for check in receipt.checks}
    assert answers.pop("suite.complete") is Status.ERROR
    assert set(answers.values()) == {Status.PASSED}
    assert {"gpu.nccl", "training.accuracy", "own.gpu_processes"} <= answers.keys()
    assert not [name for name in answers if name.startswith("contract.")]
    log = file.with_suffix(".jsonl").read_text().splitlines()
    assert json.loads(log[-1])["event"] == "end"


def test_a_failed_check_is_exit_code_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = run(tmp_path, monkeypatch, "failed")
    assert code == 7


def test_an_image_gets_every_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Done:
        returncode = 7

    def start(command: list[str], **_: object) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr(gpu_check.subprocess, "run", start)
    assert gpu_check.accept_image("envbuilder:x", tmp_path) == 7
    assert "--require-gpu" in commands[0]
    files = [Path(word) for word in commands[0] if word.endswith(".py")]
    assert tuple(files) == gpu_check.CHECKS
    assert all(file.is_file() for file in files)
