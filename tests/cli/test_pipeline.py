"""`build`, `accept` and `base` on the command line, with a stand-in engine: exit codes, options, output."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from json_documents import problems
from marks import few
from standin.engine import DIGEST, StandInEngine, breaks, says
from standin.programs import Programs
from standin.suite_output import IMAGE, INSIDE, passing, plan

from envbuilder import cli, serialize
from envbuilder.cli import accept_command, base_command, build_command
from envbuilder.engine import bootstrap
from envbuilder.errors import EngineError
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import BaseSource

from .conftest import Run

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11"
    / LOCK_FILE
)
STACK = parse_lock(PRESET.read_text(), source=str(PRESET)).stack
BASE = replace(
    IMAGE,
    id="sha256:b",
    size=71_000_000,
    labels={bootstrap.LABEL: bootstrap.contents(STACK.base)},
)
LOCK = ("--lock", str(PRESET))
FAILING = says(passing(changed={"training.accuracy": "failed"}), 7)

Connect = Callable[..., StandInEngine]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, programs: Programs) -> Connect:
    """An engine that every command connects to, and a builder that gives it the image."""
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")

    def make(**scripts: Any) -> StandInEngine:
        engine = StandInEngine(
            images={IMAGE.id: IMAGE, STACK.base.reference: BASE}, scripts=scripts
        )
        for module in (accept_command, base_command, build_command):
            monkeypatch.setattr(module, "new_engine", lambda: engine)
        return engine

    return make


# --- accept --------------------------------------------------------------------------------------------------------


def test_accept_answers_by_its_exit_code(run: Run, connect: Connect) -> None:
    engine = connect()
    answer = run("accept", IMAGE.id)
    assert answer.code == 0, answer.err
    assert "verdict" in answer.out
    assert engine.journal[:2] == ["connect", "sweep"]
    assert engine.journal[-1] == "close"
    assert engine.asked("tag", "push") == []


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (FAILING, "failed"),
        (says(passing(INSIDE[1:])), "incomplete"),
        (says([plan()], 137), "incomplete"),
    ],
)
def test_image_that_is_not_accepted_exits_with_7(
    run: Run, connect: Connect, script: Any, verdict: str
) -> None:
    connect(suite=script)
    answer = run("accept", IMAGE.id, "--json")
    assert answer.code == 7
    assert json.loads(answer.out)["verdict"] == verdict
    assert f"not accepted ({verdict})" in answer.err


@pytest.mark.parametrize(
    "lines",
    few(
        [
            ['{"event": "training", "accuracy": "x"}'],
            ['{"event": "plan", "checks": [{"id": 5, "title": "x"}]}'],
            ['{"event": "training", "losses": [NaN, 1e999, %s]}' % ("9" * 5000)],
            ["[" * 100_000, '{"event": "facts", "os": "\\ud800"}', "\0"],
            ["junk"] * 200_000,
            ["x" * 20_000_000],
        ],
        fast=4,
    ),
    ids=[
        "a word",
        "a number for an id",
        "odd numbers",
        "deep",
        "a flood of lines",
        "a long line",
    ],
)
def test_malformed_events_exit_with_7_never_1(
    run: Run, connect: Connect, lines: list[str]
) -> None:
    whole = passing()
    connect(suite=says([*whole[:-1], *lines, whole[-1]]))
    answer = run("accept", IMAGE.id)
    assert answer.code == 7
    assert (
        "lines of its output break the protocol" in answer.err
        or "it wrote more than 16 MB" in answer.err
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--memory", "much"),
        ("--memory", "-1"),
        ("--memory", "2g\n"),
        ("--user", "a b"),
        ("--user", ":"),
    ],
)
def test_invalid_user_or_size_is_refused(
    run: Run, connect: Connect, option: str, value: str
) -> None:
    engine = connect()
    answer = run("accept", IMAGE.id, option, value)
    assert answer.code == 2
    assert option in answer.err
    assert engine.journal == []


@pytest.mark.parametrize("deadline", ["nan", "inf", "-inf", "-1", "0", "1e12", "x"])
def test_invalid_deadline_is_refused(run: Run, connect: Connect, deadline: str) -> None:
    engine = connect()
    answer = run("accept", IMAGE.id, "--deadline", deadline)
    assert answer.code == 2
    assert "--deadline" in answer.err
    assert engine.journal == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (EngineError("the engine is gone"), 6, "error: the engine is gone"),
        (ValueError("odd"), 1, "error: a bug in envbuilder: ValueError: odd"),
    ],
)
def test_each_end_has_its_code(
    run: Run, connect: Connect, error: BaseException, code: int, said: str
) -> None:
    engine = connect(suite=breaks([], error))
    answer = run("accept", IMAGE.id)
    assert answer.code == code
    assert said in answer.err
    assert engine.journal[-2:] == ["remove suite", "close"]


def test_an_accepted_image_is_not_tried_again_but_with_fresh(
    run: Run, connect: Connect
) -> None:
    connect()
    first = json.loads(run("accept", IMAGE.id, "--json").out)
    engine = connect(suite=says([]))
    again = run("accept", IMAGE.id, "--json")
    assert again.code == 0
    assert json.loads(again.out) == first
    assert engine.asked("create") == []
    assert run("accept", IMAGE.id, "--fresh").code == 7
    assert "create suite" in engine.journal


def test_the_options_of_accept_reach_the_suite(
    run: Run, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("")
    engine = connect()
    words = (
        "--require-gpu",
        "--gpu-access",
        "runtime",
        "--user",
        "7",
        "--memory",
        "2g",
        "--deadline",
        "77",
    )
    assert (
        run(
            "accept",
            IMAGE.id,
            *words,
            "--check",
            "mine.py",
            "--only",
            "own.mine,contract.user",
        ).code
        == 7
    )
    job = engine.jobs[0]
    assert job.command[2:4] == ("--json-lines", "--require-gpu")
    assert job.command[-2:] == ("--only", "own.mine,contract.user")
    assert job.gpu is not None
    assert (
        job.gpu.access.value,
        job.user,
        job.memory,
        engine.containers[0].deadline,
    ) == ("runtime", "7", "2g", 77)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "the engine has no NVIDIA runtime and no CDI specification"),
        (("--gpu-access", "none"), "no GPU, as requested"),
    ],
)
def test_a_required_gpu_that_is_missing_stops_accept_at_once(
    run: Run, connect: Connect, words: tuple[str, ...], reason: str
) -> None:
    engine = connect()
    answer = run("accept", IMAGE.id, "--require-gpu", *words)
    assert answer.code == 7
    assert engine.jobs == []
    assert "--require-gpu: no GPU" in answer.err
    assert reason in answer.err
    assert "running on the CPU" not in answer.err
    assert "--gpu-access gpus" in answer.err


def test_settings_replace_options(run: Run, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "envbuilder.toml").write_text(
        'gpu-access = "gpus"\n[accept]\nchecks = ["mine.py"]\n'
    )
    engine = connect(suite=says(passing([*INSIDE, "own.mine"])))
    answer = run("accept", IMAGE.id)
    assert answer.code == 0, answer.err
    assert engine.jobs[0].gpu is not None
    assert engine.jobs[0].gpu.access.value == "gpus"
    assert "/envbuilder-suite/own/mine.py" in engine.jobs[0].files


def test_a_part_of_the_suite_leaves_no_receipt(
    run: Run, connect: Connect, tmp_path: Path
) -> None:
    connect(suite=says(passing(["contract.user"])))
    assert run("accept", IMAGE.id, "--only", "contract.user").code == 7
    assert not (tmp_path / "receipts").exists()
    answer = run("accept", IMAGE.id, "--only", "contract.usr")
    assert answer.code == 2
    assert "did you mean contract.user?" in answer.err


def test_reports_are_written_also_of_a_failure(
    run: Run, connect: Connect, tmp_path: Path
) -> None:
    connect(suite=FAILING)
    names = ("r.html", "r.xml", "r.md", "r.json")
    words = [word for name in names for word in ("--report", name)]
    assert run("accept", IMAGE.id, *words).code == 7
    for name in names:
        assert "training.accuracy" in (tmp_path / name).read_text()
    engine = connect()
    assert run("accept", IMAGE.id, "--report", "r.pdf").code == 2
    assert engine.journal == []


# --- build ---------------------------------------------------------------------------------------------------------


def test_build_tags_an_accepted_image(run: Run, connect: Connect) -> None:
    engine = connect()
    answer = run("build", *LOCK, "--json")
    assert answer.code == 0, answer.err
    outcome = json.loads(answer.out)
    assert (outcome["ok"], outcome["image"], outcome["tag"]) == (
        True,
        IMAGE.id,
        f"envbuilder:{STACK.name}",
    )
    assert outcome["receipt"]["verdict"] == "passed"
    assert problems("build", outcome) == []
    assert engine.asked("tag") == [f"tag {IMAGE.id} envbuilder:{STACK.name}"]
    assert (
        f"use it: docker run --rm -it envbuilder:{STACK.name} train"
        in run("build", *LOCK).out
    )


@pytest.mark.parametrize(
    "script", [FAILING, says(passing(INSIDE[1:]))], ids=["failed", "incomplete"]
)
def test_build_does_not_tag_other_images(
    run: Run, connect: Connect, script: Any
) -> None:
    engine = connect(suite=script)
    answer = run("build", *LOCK, "--tag", "r.example/a:1", "--push", "--json")
    assert answer.code == 7
    assert json.loads(answer.out)["ok"] is False
    assert engine.asked("tag", "push") == []


def test_build_pushes_on_request(run: Run, connect: Connect) -> None:
    engine = connect()
    answer = run("build", *LOCK, "--tag", "r.example/a:1", "--push", "--json")
    assert answer.code == 0, answer.err
    assert engine.asked("tag", "push") == [
        f"tag {IMAGE.id} r.example/a:1",
        "push r.example/a:1",
    ]
    outcome = json.loads(answer.out)
    assert outcome["digest"] == DIGEST
    assert problems("build", outcome) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--push",), "--push needs --tag"),
        (
            ("--require-gpu", "--gpu-access", "none"),
            "--require-gpu and --gpu-access none contradict each other",
        ),
        (("--tag", "UPPER CASE"), "a tag is lower-case"),
        (("--platform", "linux/vax"), "a platform is one of linux/amd64"),
        (("--compression", "zstd"), "have no effect without --push"),
        (("--attest", "sbom"), "--attest 'sbom': an attestation is type="),
    ],
)
def test_invalid_options_do_not_contact_the_engine(
    run: Run, connect: Connect, words: tuple[str, ...], said: str
) -> None:
    engine = connect()
    answer = run("build", *LOCK, *words)
    assert answer.code == 2
    assert said in answer.err
    assert engine.journal == []


def test_the_options_of_build_reach_suite_and_builder(
    run: Run, connect: Connect, programs: Programs
) -> None:
    engine = connect()
    built = ("--no-cache", "--builder", "far", "--cache-to", "x", "--cache-from", "y")
    assert run("build", *LOCK, "--require-gpu", "--gpu-access", "cdi", *built).code == 0
    assert "--require-gpu" in engine.jobs[0].command
    assert engine.jobs[0].gpu is not None
    assert engine.jobs[0].gpu.access.value == "cdi"
    assert {*built} <= {*programs.asked("docker")}
    again = connect(suite=says([]))
    assert run("build", *LOCK, "--require-gpu", "--gpu-access", "cdi").code == 0
    assert again.asked("create") == []
    assert (
        run("build", *LOCK, "--require-gpu", "--gpu-access", "cdi", "--fresh").code == 7
    )


def test_dry_run_contacts_no_engine_and_no_index(
    run: Run, connect: Connect, tmp_path: Path
) -> None:
    engine = connect()
    answer = run("build", *LOCK, "--dry-run")
    assert answer.code == 0
    assert STACK.name in answer.out
    assert engine.journal == []
    assert not (tmp_path / "build").exists()


def test_build_is_retried_once_after_a_lost_session(
    run: Run, connect: Connect, programs: Programs
) -> None:
    """BuildKit may say so right after a build that was interrupted."""
    connect()
    programs.fail_once(
        "ERROR: failed to build: failed to solve: no active session for x: context deadline exceeded\n"
    )
    answer = run("build", *LOCK)
    assert answer.code == 0, answer.err
    programs.answer("docker", 1, "ERROR: failed to solve: no active sessions\n")
    answer = run("build", *LOCK)
    assert answer.code == 6
    assert "no active sessions" in answer.err


def test_an_interrupt_of_build_is_130_and_tags_nothing(
    run: Run, connect: Connect, tmp_path: Path
) -> None:
    engine = connect(any_user=breaks([], KeyboardInterrupt()))
    answer = run("build", *LOCK)
    assert answer.code == 130
    assert answer.err.rstrip().endswith("interrupted")
    assert engine.journal[-2:] == ["remove any_user", "close"]
    assert engine.asked("tag") == []
    assert not (tmp_path / "receipts").exists()


# --- base ----------------------------------------------------------------------------------------------------------


def test_base_prints_the_existing_image(run: Run, connect: Connect) -> None:
    engine = connect()
    answer = run("base", *LOCK)
    assert (answer.code, answer.out) == (
        0,
        f"{STACK.base.reference}  sha256:b  71 MB\n",
    )
    answer = run("base", *LOCK, "--json")
    found = json.loads(answer.out)
    assert (found["ok"], found["base"]) == (True, STACK.base.reference)
    assert (found["image"], found["bytes"]) == ("sha256:b", 71_000_000)
    assert problems("base", found) == []
    assert engine.asked("pull", "import") == []


def test_base_is_bootstrapped_without_a_registry(run: Run, connect: Connect) -> None:
    engine = connect()
    del engine.images[STACK.base.reference]
    answer = run("base", "--cuda", "11.7", "--torch", "2.0.1", "--python", "3.9")
    assert answer.code == 0, answer.err
    assert "built from Debian packages" in answer.err
    assert [line.split()[0] for line in engine.asked("pull", "import")] == [
        "pull",
        "import",
    ]
    answer = run("base", "--cuda", "11.7", "--base", "mine/base:1", "--python", "3.9")
    assert answer.code == 6
    assert "mine/base:1 was not found in the engine's store" in answer.err


@pytest.mark.parametrize("command", ["base", "build"])
def test_the_hint_for_a_locked_base_works(
    run: Run, connect: Connect, tmp_path: Path, command: str
) -> None:
    stack = replace(
        STACK,
        base=replace(
            STACK.base,
            reference="python:3.10-slim-bookworm",
            source=BaseSource.REGISTRY,
        ),
    )
    lock = replace(parse_lock(PRESET.read_text(), source=str(PRESET)), stack=stack)
    (tmp_path / "a.lock").write_text(serialize.dumps(lock))
    connect()
    answer = run(command, "--lock", "a.lock")
    assert answer.code == 6
    again = "--cuda 11.7 --torch 2.0.1 --base bootstrap"
    assert f"`envbuilder lock {again}`" in answer.err
    assert run("resolve", *again.split()).code == 0
    (tmp_path / "envbuilder.toml").write_text('[render]\ntargets = ["compose"]\n')
    answer = run(command, "--lock", "a.lock")
    assert answer.code == 6
    assert "`envbuilder init --base bootstrap --force`" in answer.err


# --- the boundary --------------------------------------------------------------------------------------------------


def test_an_error_is_one_json_object_too(run: Run, connect: Connect) -> None:
    connect(suite=breaks([], EngineError("the engine is gone", hint="start it")))
    answer = run("accept", IMAGE.id, "--json")
    document = json.loads(answer.out)
    assert (document["ok"], document["error"], document["hint"]) == (
        False,
        "the engine is gone",
        "start it",
    )


def test_debug_variable_shows_the_traceback(
    run: Run, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(suite=breaks([], ValueError("odd")))
    monkeypatch.setenv("ENVBUILDER_DEBUG", "1")
    with pytest.raises(ValueError, match="odd"):
        cli.run(["accept", IMAGE.id])
