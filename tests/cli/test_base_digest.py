"""The digest of a lock's base: asked when it is made; `lock --upgrade-base` renews it and moves nothing else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from json_documents import problems
from standin.engine import StandInEngine
from standin.suite_output import IMAGE

from envbuilder.cli import base_digest
from envbuilder.errors import EngineError
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock
from envbuilder.network import Network

from .conftest import Run

IMAGES = Path(__file__).parents[2] / "docker/images"
NAME = "cu117-torch2.0.1-py3.10-debian12"
SLIM = "python:3.10-slim-bookworm"
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def committed(name: str = NAME) -> Lock:
    return parse_lock((IMAGES / name / LOCK_FILE).read_text(), source=name)


def read(path: Path) -> Lock:
    return parse_lock(path.read_text(), source=str(path))


def serve(monkeypatch: pytest.MonkeyPatch, digest: str | None) -> None:
    """An engine whose registry gives the base this digest, or which reaches none."""
    registry = {SLIM: replace(IMAGE, digest=digest)} if digest else {}
    engine = StandInEngine(images={}, registry=registry)
    monkeypatch.setattr(base_digest, "new_engine", lambda patience: engine)


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(IMAGES / NAME / LOCK_FILE, tmp_path / LOCK_FILE))


def test_only_the_digest_changes_and_is_reported(
    run: Run, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, OLD)
    answer = run("lock", "--upgrade-base", "--json")
    assert answer.code == 0, answer.err
    assert read(lock_file) == replace(committed(), base_digest=OLD)
    assert f"{LOCK_FILE}: {SLIM}: no digest → {OLD}\n" in answer.err
    assert problems("lock", json.loads(answer.out)) == []

    serve(monkeypatch, NEW)
    answer = run("lock", "--upgrade-base")
    assert f"{LOCK_FILE}: {SLIM}: {OLD} → {NEW}\n" in answer.err
    assert read(lock_file) == replace(committed(), base_digest=NEW)

    answer = run("lock", "--upgrade-base")
    assert f"{LOCK_FILE}: {SLIM} is still {NEW}\n" in answer.err


def test_facts_of_the_base_are_renewed_too(
    run: Run, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = lock_file.read_text()
    ends = committed().stack.base.end_of_life
    lock_file.write_text(text.replace(f'"{ends}"', '"2001-01-01"'))
    serve(monkeypatch, OLD)
    assert run("lock", "--upgrade-base").code == 0
    assert read(lock_file).stack.base.end_of_life == ends


def test_without_a_registry_the_lock_stays_as_it_is(
    run: Run, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lock_file.read_text()
    serve(monkeypatch, None)
    answer = run("lock", "--upgrade-base")
    assert answer.code == 6
    assert answer.err.startswith(
        f"error: the digest of {SLIM} cannot be learned; {LOCK_FILE} stays as it is\n"
    )
    assert "no registry answers" in answer.err
    assert lock_file.read_text() == before


def test_a_base_that_is_made_here_has_no_digest(run: Run, lock_file: Path) -> None:
    fallback = "cu117-torch2.0.1-py3.9-debian11"
    shutil.copy(IMAGES / fallback / LOCK_FILE, lock_file)
    answer = run("lock", "--upgrade-base")
    assert answer.code == 2
    assert "envbuilder-base:debian11 is made here from Debian packages" in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("--check",),
        ("--cuda", "11.7"),
        ("--package", "peft"),
        ("--output", "-"),
        ("--format", "requirements"),
    ],
)
def test_what_would_make_another_lock_is_refused(
    run: Run, lock_file: Path, words: tuple[str, ...]
) -> None:
    before = lock_file.read_text()
    assert run("lock", "--upgrade-base", *words).code == 2
    assert lock_file.read_text() == before


def test_in_a_repository_its_own_lock_is_renewed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docker/images" / NAME
    shutil.copytree(IMAGES / NAME, folder)
    (tmp_path / "envbuilder.toml").write_text('[render]\ntargets = ["compose"]\n')
    serve(monkeypatch, OLD)
    answer = run("lock", "--upgrade-base")
    assert answer.code == 0, answer.err
    assert read(folder / LOCK_FILE).base_digest == OLD
    assert "next: `envbuilder render`, then `envbuilder build`\n" in answer.err
    assert run("render").code == 0
    assert f"ARG BASE={SLIM}@{OLD}\n" in (folder / "Dockerfile").read_text()


def test_a_new_lock_gets_the_digest_if_a_registry_answers(
    monkeypatch: pytest.MonkeyPatch, session_notes: list[str]
) -> None:
    base = committed().stack.base
    serve(monkeypatch, OLD)
    assert base_digest.find_digest(Notes(session_notes), base) == OLD  # type: ignore[arg-type]
    assert session_notes == []
    serve(monkeypatch, None)
    assert base_digest.find_digest(Notes(session_notes), base) is None  # type: ignore[arg-type]
    assert session_notes == [
        f"the lock does not pin {SLIM} by digest: no registry answers; "
        "`envbuilder lock --upgrade-base` adds it later"
    ]


def test_no_engine_is_asked_for_a_base_made_here(
    monkeypatch: pytest.MonkeyPatch, session_notes: list[str]
) -> None:
    def refuse(patience: float) -> StandInEngine:
        raise EngineError("no test here asks an engine")

    monkeypatch.setattr(base_digest, "new_engine", refuse)
    base = committed("cu117-torch2.0.1-py3.9-debian11").stack.base
    assert base_digest.find_digest(Notes(session_notes), base) is None  # type: ignore[arg-type]
    assert session_notes == []


class Notes:
    """A session whose console only keeps its notes."""

    def __init__(self, notes: list[str]) -> None:
        self.console = self
        self.note = notes.append
        self.network = Network()


@pytest.fixture
def session_notes() -> list[str]:
    return []
