"""`envbuilder resolve`, and what every command shares: errors, hints, exit codes, JSON."""

import json
import shlex
from pathlib import Path

import pytest

from .conftest import Run


def test_the_contract_of_resolve_json(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--json")
    document = json.loads(answer.out)
    assert (answer.code, answer.err, document["schema"], document["ok"]) == (0, "", 1, True)
    stack = document["stack"]
    assert {
        "python", "torch", "torchvision", "torchaudio", "cuda", "cudnn", "nccl", "index", "arch_list", "driver_floor",
        "base", "os", "as_of", "packages",
    } <= stack.keys()  # fmt: skip
    assert (stack["cuda"], stack["base"]) == ("11.7.99", "python:3.10-slim-bookworm")


def test_a_refusal_in_json(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--gpu", "H100", "--json")
    document = json.loads(answer.out)
    assert answer.code == 4
    assert document["ok"] is False
    assert document["conflict"] == [{"option": "cuda", "value": "11.7"}, {"option": "gpu", "value": "H100"}]
    assert all("sm_37" in reason or "built for" in reason for reason in document["reasons"])
    for suggestion in document["suggestions"]:
        assert run(*shlex.split(suggestion["command"])[1:]).code == 0


def test_the_answer_for_a_person(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--base", "bootstrap")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "cu117-torch2.0.1-py3.9-debian11"
    assert "torch.compile  works" in lines
    assert lines[-1].startswith("note: Debian 11 is past its end of life")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("99.9", 4), ("11.70", 4), ("11.7\n", 2), ("11.7\nRUN x", 2), ("１１.７", 2), ("", 2), ("1" * 1_000_000, 2)
    ],
    ids=["unknown", "near miss", "newline", "instruction", "full width", "empty", "long"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["resolve", "lock", "render", "build", "base"])
def test_bad_input_is_refused_before_anything_is_asked(run: Run, command: str, value: str, code: int) -> None:
    answer = run(command, f"--cuda={value}")
    assert answer.code == code
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert "hint: " in answer.err
    assert len(answer.err) < 1000


@pytest.mark.parametrize(
    "words",
    [
        ("build", "--cuda", "11.7", "--tag", "No Tag"),
        ("build", "--cuda", "11.7", "--tag", "a:b\nRUN x"),
        ("build", "--cuda", "11.7", "--base", "debian:12\nRUN x", "--python", "3.10"),
        ("build", "--cuda", "11.7", "--push"),
        ("build", "--cuda", "11.7", "--platform", "windows/amd64"),
        ("build", "--cuda", "11.7", "--require-gpu", "--gpu-access", "none"),
        ("build", "--cuda", "11.7", "--ca-bundle", "nowhere.pem"),
        ("build", "--lock", "nowhere.lock"),
        ("resolve", "--python", "three"),
        ("resolve", "--cuad", "11.7"),
        ("reslove",),
    ],
)
def test_bad_options_exit_2(run: Run, words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")


def test_a_misspelt_setting_names_the_right_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text('cdua = "11.7"\n')
    answer = run("resolve")
    assert answer.code == 2
    assert "did you mean 'cuda'?" in answer.err


def test_settings_are_defaults_and_the_command_line_wins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.7"\nbase = "bootstrap"\n')
    assert json.loads(run("resolve", "--json").out)["stack"]["python"] == "3.9"
    assert json.loads(run("resolve", "--base", "auto", "--json").out)["stack"]["python"] == "3.10"


def test_no_engine_is_exit_6(run: Run) -> None:
    answer = run("accept", "envbuilder:nothing")
    assert answer.code == 6
    assert "no Docker engine answers" in answer.err
    assert "tools/engine up" in answer.err


def test_dry_run_asks_nobody(run: Run) -> None:
    answer = run("build", "--cuda", "11.7", "--dry-run")
    assert answer.code == 0
    assert "docker buildx build" in answer.out
    assert "envbuilder:cu117-torch2.0.1-py3.10-debian12" in answer.out


def test_a_bug_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envbuilder.resolver.resolve", lambda *_: 1 / 0)
    answer = run("resolve", "--cuda", "11.7")
    assert answer.code == 1
    assert "a bug in envbuilder: ZeroDivisionError" in answer.err
    assert "Traceback" not in answer.err


def test_ctrl_c_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("envbuilder.resolver.resolve", interrupt)
    assert run("resolve", "--cuda", "11.7").code == 130
