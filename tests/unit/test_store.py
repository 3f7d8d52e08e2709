"""Which receipts save a run: those in this machine's state, never those in the project."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envbuilder import catalog, pipeline, serialize
from envbuilder.acceptance import receipts, suite
from envbuilder.console import Console
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import UsageError
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Check, Receipt, Status, Verdict
from envbuilder.network import Network
from envbuilder.processes import Completed

IMAGE = "sha256:abcdef0123456789"
HOST: Mapping[str, Any] = {"cpus": 2}
PASSED = Receipt(
    schema=1,
    image=IMAGE,
    suite={"version": "1", "hash": "sha256:5"},
    host=HOST,
    verdict=Verdict.PASSED,
    checks=(Check(id="a", title="a", status=Status.PASSED),),
    facts={},
    training={},
    stack="cu117",
    reference="x",
    started="8364-01-01T00:00:00+00:00",
)
TRIAL = suite.SuiteOptions(gpu=GpuPlan(access=GpuAccess.NONE, reason="no GPU"))


class Suite:
    """Replaces the suite: counts its runs."""

    runs = 0

    def accept(self, *_: object, **__: object) -> Receipt:
        self.runs += 1
        return replace(PASSED, started="2026-11-27T00:00:00+00:00")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Suite:
    stand_in = Suite()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "accept", stand_in.accept)
    monkeypatch.setattr(
        suite, "find_image", lambda engine, image: replace(_facts(), id=IMAGE)
    )
    monkeypatch.setattr(suite, "suite_hash", lambda trial: "sha256:5")
    monkeypatch.setattr(suite, "host_facts", lambda engine, trial: HOST)
    return stand_in


def _facts() -> ImageFacts:
    return ImageFacts(**dict.fromkeys(ImageFacts.__dataclass_fields__))  # type: ignore[arg-type]


@pytest.fixture
def session(tmp_path: Path) -> pipeline.Session:
    return pipeline.Session(
        catalog=catalog.load(),
        network=Network(),
        environ={},
        uv=Uv(
            program="uv", run=lambda argv: Completed(returncode=1, stdout="", stderr="")
        ),
        console=Console(),
        today=catalog.load().date,
        store=receipts.Store(
            folder=tmp_path / "state" / "receipts", users=frozenset({os.getuid()})
        ),
    )


def accept(session: pipeline.Session, **options: Any) -> Receipt:
    return pipeline.accept("x", None, session, TRIAL, **options)  # type: ignore[arg-type]


def test_receipts_in_the_project_save_no_run(
    judged: Suite, session: pipeline.Session
) -> None:
    session.receipts.mkdir()
    (session.receipts / receipts.file_name(PASSED)).write_text(serialize.dumps(PASSED))
    assert accept(session).started.startswith("2026")
    assert judged.runs == 1


def test_own_receipt_saves_a_run_and_is_copied(
    judged: Suite,
    session: pipeline.Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = accept(session)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert accept(session) == first
    assert judged.runs == 1
    (written,) = session.receipts.glob("*.json")
    assert serialize.loads(written.read_text(), Receipt) == first
    accept(session, fresh=True)
    assert judged.runs == 2


def test_store_writable_by_others_is_ignored_with_a_note(
    judged: Suite, session: pipeline.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session.store is not None
    accept(session)
    session.store.folder.chmod(0o777)
    accept(replace(session, console=Console()))
    assert judged.runs == 2
    assert (
        "this receipt will not spare a run: others can write to"
        in capsys.readouterr().err
    )
    assert list(session.receipts.glob("*.json")), "it is in the project all the same"


def test_receipts_are_not_written_through_a_link(
    judged: Suite, session: pipeline.Session, tmp_path: Path
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    session.receipts.symlink_to(outside)
    with pytest.raises(UsageError, match="receipts leads out of"):
        accept(session)
    assert judged.runs == 0, "before minutes are spent"
