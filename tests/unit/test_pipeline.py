"""The pipeline against a stand-in engine: only accepted images get a tag, and nothing is left behind."""

import io
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from marks import few
from standin.engine import DIGEST, StandInContainer, StandInEngine, breaks, says
from standin.programs import Programs, vertex
from standin.suite_output import IMAGE, INSIDE, passing, plan, start

from envbuilder import pipeline, serialize
from envbuilder.acceptance import receipts, suite
from envbuilder.catalog.rows import Catalog
from envbuilder.console import Console
from envbuilder.engine import bootstrap
from envbuilder.engine.build_process import log_path
from envbuilder.engine.buildx import BuildOptions, BuildStep
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import AcceptanceError, EngineError, NoStackError
from envbuilder.lock import creation
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import BaseSource, Lock, Receipt, Request, Verdict
from envbuilder.network import Network
from envbuilder.pipeline import BuildSettings, Session
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11"
    / LOCK_FILE
)
LOCK = parse_lock(PRESET.read_text(), source=str(PRESET))
BASE = replace(
    IMAGE,
    id="sha256:" + "b" * 64,
    labels={bootstrap.LABEL: bootstrap.contents(LOCK.stack.base)},
    digest="sha256:" + "c" * 64,
)
TAG = f"envbuilder:{LOCK.stack.name}"


@pytest.fixture
def session(tmp_path: Path, programs: Programs, facts: Catalog) -> Session:
    def refuse(argv: object) -> Any:
        raise AssertionError("no test here asks the index")

    return Session(
        catalog=facts,
        network=Network(),
        environ={"PATH": f"{programs.folder}:/usr/bin:/bin"},
        uv=Uv(program="uv", run=refuse),
        console=Console(io.StringIO()),
        today=facts.date,
        context=tmp_path / "build",
        logs=tmp_path / "logs",
        receipts=tmp_path / "receipts",
        store=receipts.Store(folder=tmp_path / "state", users=frozenset({os.getuid()})),
    )


def engine_with(**scripts: Any) -> StandInEngine:
    """An engine that has the base and the image that is built."""
    return StandInEngine(
        images={IMAGE.id: IMAGE, LOCK.stack.base.reference: BASE}, scripts=scripts
    )


def build(
    engine: StandInEngine,
    session: Session,
    request: Request | Lock = LOCK,
    **settings: Any,
) -> pipeline.BuildResult:
    return pipeline.build(request, lambda: engine, session, BuildSettings(**settings))


def said(session: Session) -> str:
    stream: Any = session.console._rich.file
    text: str = stream.getvalue()
    return text


def written(session: Session) -> list[Receipt]:
    return [
        serialize.loads(path.read_bytes(), Receipt)
        for path in sorted(session.receipts.glob("*.json"))
    ]


# --- the tag is earned ---------------------------------------------------------------------------------------------

TRIED = [
    f"{verb} {kind}"
    for kind in ("suite", "any_user", "signals")
    for verb in ("create", "remove")
]


def test_build_runs_all_steps_in_order(session: Session, programs: Programs) -> None:
    engine = engine_with()
    engine.before["create"] = lambda: (
        programs.asked("docker") or pytest.fail("it was tried before it was built")
    )
    engine.before["tag"] = lambda: (
        written(session) or pytest.fail("it was tagged before its receipt was kept")
    )
    outcome = build(engine, session)
    assert engine.journal == [
        "connect",
        "sweep",
        *TRIED,
        f"tag {IMAGE.id} {TAG}",
        "close",
    ]
    assert (outcome.image, outcome.tag, outcome.size, outcome.digest) == (
        IMAGE.id,
        TAG,
        IMAGE.size,
        "",
    )
    assert (outcome.steps, outcome.cached) == (2, 1)
    assert written(session) == [outcome.receipt]
    assert outcome.receipt.verdict is Verdict.PASSED
    assert (session.context / "images" / LOCK.stack.name / "Dockerfile").is_file()
    assert f"receipt: {session.receipts / receipts.file_name(outcome.receipt)}" in said(
        session
    )


@pytest.mark.parametrize(
    ("script", "verdict"),
    few(
        [
            (says(passing(changed={"training.accuracy": "failed"}), 7), Verdict.FAILED),
            (says(passing(changed={"imports.failed": "error"}), 7), Verdict.INCOMPLETE),
            (says(passing(INSIDE[1:])), Verdict.INCOMPLETE),
            (says(passing(), 137, out_of_memory=True), Verdict.INCOMPLETE),
            (says([]), Verdict.INCOMPLETE),
        ],
        fast=2,
    ),
    ids=["failed", "error", "a check left out", "out of memory", "silent"],
)
def test_rejected_image_gets_a_receipt_but_no_tag(
    session: Session, script: Any, verdict: Verdict
) -> None:
    engine = engine_with(suite=script)
    with pytest.raises(AcceptanceError, match=rf"not accepted \({verdict}\)") as caught:
        build(engine, session, tag="mine:1", push=True)
    assert caught.value.exit_code == 7
    assert engine.asked("tag", "push") == []
    assert engine.journal[-1] == "close"
    assert [receipt.verdict for receipt in written(session)] == [verdict]


@pytest.mark.parametrize("kind", few(["any_user", "signals"]))
def test_a_check_from_outside_that_fails_leaves_no_tag(
    session: Session, kind: str
) -> None:
    engine = engine_with(**{kind: says(["device: cpu"], 1)})
    with pytest.raises(AcceptanceError):
        build(engine, session)
    assert engine.asked("tag") == []


def test_tag_is_pushed_only_on_request_and_after_acceptance(session: Session) -> None:
    engine = engine_with()
    outcome = build(engine, session, tag="registry.example/team/train:1", push=True)
    name = "registry.example/team/train:1"
    assert engine.journal[-3:] == [f"tag {IMAGE.id} {name}", f"push {name}", "close"]
    assert outcome.digest == DIGEST
    assert f"pushed registry.example/team/train@{DIGEST} in " in said(session)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), EngineError("the engine is gone")]
)
@pytest.mark.parametrize("kind", few(["suite", "any_user", "signals"]))
def test_interrupt_leaves_no_container_tag_or_receipt(
    session: Session, kind: str, error: BaseException
) -> None:
    engine = engine_with(**{kind: breaks([], error)})
    with pytest.raises((type(error), AcceptanceError)):
        build(engine, session, push=True)
    made = [line.removeprefix("create ") for line in engine.asked("create")]
    assert [line.removeprefix("remove ") for line in engine.asked("remove")] == made
    assert kind in made
    assert engine.asked("tag", "push") == []
    assert engine.journal[-1] == "close"
    if not isinstance(error, EngineError):
        assert written(session) == []


def test_the_options_of_a_build_reach_the_suite(
    session: Session, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text("")
    engine = engine_with(suite=says(passing([*INSIDE, "own.mine"])))
    build(engine, session, gpu_access=GpuAccess.RUNTIME, require_gpu=True, own=(own,))
    job = engine.jobs[0]
    assert job.gpu is not None
    assert job.gpu.access is GpuAccess.RUNTIME
    assert job.command[2:] == (
        "--json-lines",
        "--require-gpu",
        "--own",
        "/envbuilder-suite/own/mine.py",
    )
    assert "GPUs with `--runtime nvidia`, as requested" in said(session)


# --- not run again -------------------------------------------------------------------------------------------------


def runs(engine: StandInEngine) -> int:
    return len(engine.asked("create")) // 3


def test_unchanged_image_is_tagged_without_a_second_run(session: Session) -> None:
    first = build(engine_with(), session)
    again = engine_with(suite=says([]))
    outcome = build(again, session)
    assert again.journal == ["connect", "sweep", f"tag {IMAGE.id} {TAG}", "close"]
    assert outcome.receipt == first.receipt
    assert f"accepted on {first.receipt.started}" in said(session)


@pytest.mark.parametrize(
    ("cpus", "settings"),
    few(
        [
            (2, {"fresh": True}),
            (4, {}),
            (2, {"require_gpu": True, "gpu_access": GpuAccess.RUNTIME}),
            (2, {"gpu_access": GpuAccess.CDI}),
        ]
    ),
    ids=["fresh", "another host", "another suite", "another access"],
)
def test_any_difference_causes_a_new_run(
    session: Session, cpus: int, settings: dict[str, Any]
) -> None:
    build(engine_with(), session)
    engine = engine_with()
    engine.cpus = cpus
    build(engine, session, **settings)
    assert runs(engine) == 1


def test_different_image_is_tested_again(session: Session, programs: Programs) -> None:
    build(engine_with(), session)
    other = replace(IMAGE, id="sha256:" + "2" * 64)
    engine = engine_with()
    engine.images[other.id] = other
    programs.builds(other.id)
    assert build(engine, session).receipt.image == other.id
    assert runs(engine) == 1


def test_a_failure_is_never_remembered(session: Session) -> None:
    with pytest.raises(AcceptanceError):
        build(
            engine_with(suite=says(passing(changed={"training.loss": "failed"}))),
            session,
        )
    engine = engine_with()
    build(engine, session)
    assert runs(engine) == 1


def test_fresh_replaces_the_receipt(session: Session) -> None:
    build(engine_with(), session)
    with pytest.raises(AcceptanceError):
        build(
            engine_with(suite=says(passing(changed={"training.loss": "failed"}))),
            session,
            fresh=True,
        )
    assert [receipt.verdict for receipt in written(session)] == [Verdict.FAILED]
    engine = engine_with()
    build(engine, session)
    assert runs(engine) == 1


def test_partial_run_writes_no_receipt(session: Session) -> None:
    engine = engine_with(suite=says(passing(["contract.user"])))
    trial = pipeline.suite_options_for(
        engine, IMAGE.id, GpuAccess.NONE, only=("contract.user",)
    )
    receipt = pipeline.accept(IMAGE.id, engine, session, trial)
    assert receipt.verdict is Verdict.INCOMPLETE
    assert written(session) == []


# --- the build -----------------------------------------------------------------------------------------------------


def test_failed_build_shows_its_log_and_is_not_accepted(
    session: Session, programs: Programs
) -> None:
    programs.answer(
        "docker", 1, "ERROR: failed to solve: write /x: no space left on device\n"
    )
    engine = engine_with()
    with pytest.raises(
        EngineError, match="the build failed: the disk is full"
    ) as caught:
        build(engine, session)
    assert engine.journal == ["connect", "sweep", "close"]
    assert "no space left on device" in Path(caught.value.log).read_text()
    assert "docker system df" in caught.value.hint


def test_unknown_build_failure_points_to_its_log(
    session: Session, programs: Programs
) -> None:
    broken = vertex("[stage-1 2/2] RUN odd", error="exit code: 1")
    programs.answer("docker", 1, serialize.dumps({"vertexes": [broken]}))
    with pytest.raises(EngineError, match=r"the build failed at “.*odd”") as caught:
        build(engine_with(), session)
    assert caught.value.hint == f"read the full log: `less {caught.value.log}`"


def test_a_builder_that_leaves_no_image_has_failed(
    session: Session, programs: Programs
) -> None:
    programs.builds(None)
    engine = engine_with()
    with pytest.raises(EngineError, match="the build failed"):
        build(engine, session)
    assert engine.asked("create", "tag") == []


def test_arguments_passed_to_the_builder(
    session: Session, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path(str(session.context) + "-tmp")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    network = Network(
        index_url="https://me:secret@index.example/simple",
        proxies={"HTTPS_PROXY": "http://proxy"},
    )
    build(
        engine_with(),
        replace(session, network=network),
        options=BuildOptions(no_cache=True),
    )
    words = programs.asked("docker")
    assert words[:2] == ["buildx", "build"]
    assert "--no-cache" in words
    assert words[words.index("--file") + 1] == str(
        session.context / "images" / LOCK.stack.name / "Dockerfile"
    )
    assert words[-1] == str(session.context)
    assert not any("secret@" in word for word in words)
    environment = programs.environment()
    assert environment["ENVBUILDER_INDEX_SECRET"] == network.index_url
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert Path(words[words.index("--iidfile") + 1]).is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_log_is_complete_and_old_logs_are_removed(
    session: Session, tmp_path: Path
) -> None:
    build(engine_with(), session)
    log = next(session.logs.glob(f"{LOCK.stack.name}-*.log")).read_text()
    assert log.splitlines() == [
        "# [stage-1 1/2] RUN step 0",
        "# CACHED: [stage-1 1/2] RUN step 0",
        "# [stage-1 2/2] RUN step 1",
        "# 1.0 s: [stage-1 2/2] RUN step 1",
    ]
    for number in range(12):
        (tmp_path / f"a-{number:02}.log").write_text("")
        (tmp_path / f"b-{number:02}.log").write_text("")
    assert log_path(tmp_path, "a", "99") == tmp_path / "a-99.log"
    assert [path.name for path in sorted(tmp_path.glob("a-*.log"))] == [
        f"a-{number:02}.log" for number in range(3, 12)
    ]
    assert len(list(tmp_path.glob("b-*.log"))) == 12


def test_each_step_is_shown_with_its_state(session: Session) -> None:
    build(engine_with(), session)
    assert re.search(r"^cached +.*step 0$", said(session), re.MULTILINE)
    assert re.search(r"^done +.*step 1  1\.0 s$", said(session), re.MULTILINE)


@pytest.mark.parametrize(
    ("step", "state", "note", "seconds"),
    [
        (BuildStep(title="x"), "waiting", "", None),
        (BuildStep(title="x", started=True, log=["a", "b "]), "running", "b", None),
        (
            BuildStep(title="x", started=True, done=True, seconds=2, log=["a"]),
            "done",
            "",
            2,
        ),
        (BuildStep(title="x", done=True, cached=True), "cached", "", 0),
        (BuildStep(title="x", done=True, error="no"), "failed", "", 0),
    ],
)
def test_a_step_as_a_row(
    step: BuildStep, state: str, note: str, seconds: float | None
) -> None:
    row = pipeline.step_row(step)
    assert (row.title, row.state, row.note, row.seconds) == ("x", state, note, seconds)


# --- from a request ------------------------------------------------------------------------------------------------

WANTED = parse_request({"cuda": "11.7", "torch": "2.0.1", "python": "3.9"})


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Records requests for locks; no index is contacted."""
    asked: list[dict[str, Any]] = []

    def create_lock(stack: Any, **how: Any) -> Lock:
        asked.append({"stack": stack, **how})
        return replace(LOCK, stack=stack, base_digest=how["base_digest"])

    monkeypatch.setattr(creation, "create_lock", create_lock)
    return asked


def with_registry(facts: Catalog, **changes: Any) -> tuple[StandInEngine, str]:
    """An engine whose registry has the base that the request is resolved with."""
    base = resolve(WANTED, facts).base
    assert base.source is BaseSource.REGISTRY
    engine = StandInEngine(
        registry={base.reference: replace(BASE, labels={}, **changes)}
    )
    return engine, base.reference


def test_impossible_request_does_not_contact_the_engine(session: Session) -> None:
    def connect() -> Any:
        raise AssertionError("an engine was asked")

    with pytest.raises(NoStackError):
        pipeline.build(
            parse_request({"cuda": "11.7", "torch": "2.6.0"}),
            connect,
            session,
            BuildSettings(),
        )


def test_a_required_gpu_that_is_missing_stops_build_at_once(session: Session) -> None:
    engine = engine_with()
    settings = BuildSettings(require_gpu=True)
    with pytest.raises(AcceptanceError, match="--require-gpu: "):
        pipeline.build(LOCK, lambda: engine, session, settings)
    without_cuda = replace(LOCK, stack=replace(LOCK.stack, cuda=None))
    with pytest.raises(AcceptanceError, match="the image has no CUDA"):
        pipeline.build(without_cuda, lambda: engine, session, settings)
    assert not session.context.exists()


def test_registry_base_is_pulled_and_locked_by_digest(
    session: Session, facts: Catalog, locked: list[dict[str, Any]]
) -> None:
    engine, base = with_registry(facts)
    build(engine, session, WANTED)
    assert engine.journal[:3] == ["connect", "sweep", f"pull {base} linux/amd64"]
    assert [
        (asked["stack"].base.reference, asked["base_digest"]) for asked in locked
    ] == [(base, BASE.digest)]
    build(engine, session, WANTED)
    assert len(engine.asked("pull")) == 1


def test_without_a_registry_the_base_is_bootstrapped_without_digest(
    session: Session, programs: Programs, locked: list[dict[str, Any]]
) -> None:
    engine = StandInEngine()
    outcome = build(engine, session, WANTED)
    stack = locked[0]["stack"]
    assert stack.base.source is BaseSource.BOOTSTRAP
    assert locked[0]["base_digest"] is None
    assert (
        engine.asked("pull", "import")[1]
        == f"import {stack.base.reference} a file system"
    )
    assert programs.asked("mmdebstrap")[-2] == stack.base.release
    assert outcome.tag == f"envbuilder:{stack.name}"
    text = said(session)
    assert f"continuing with {stack.base.reference}, built from Debian packages" in text
    assert f"locking {stack.name} as of {stack.as_of}" in text
    for note in stack.notes:
        assert note in text
    build(engine, session, WANTED)
    assert len(engine.asked("import")) == 1


def test_explicitly_named_base_is_never_replaced(
    session: Session, locked: list[dict[str, Any]]
) -> None:
    named = parse_request(
        {"cuda": "11.7", "base": "mine.example/base:1", "python": "3.9"}
    )
    engine = StandInEngine()
    with pytest.raises(
        EngineError, match=r"mine\.example/base:1 was not found in the engine's store"
    ) as caught:
        build(engine, session, named)
    assert caught.value.problems == ("no registry answers",)
    assert engine.asked("import", "create", "tag") == []
    assert locked == []


def test_irreplaceable_base_gives_both_reasons(
    session: Session, monkeypatch: pytest.MonkeyPatch, facts: Catalog
) -> None:
    stack = resolve(WANTED, facts)

    def refuse(request: Request, catalog: Catalog, **command: object) -> Any:
        raise NoStackError("none", reasons=["no release has it"], suggestions=["this"])

    monkeypatch.setattr(pipeline, "resolve", refuse)
    with pytest.raises(EngineError, match="not found in the engine's store") as caught:
        pipeline.resolve_with_available_base(WANTED, stack, StandInEngine(), session)
    assert (caught.value.problems, caught.value.hint) == (
        ("no release has it",),
        "try `this`",
    )


def test_a_base_that_vanishes_is_an_error(session: Session, facts: Catalog) -> None:
    class Forgetful(StandInEngine):
        def image(self, reference: str) -> ImageFacts | None:
            return None

    stack = resolve(WANTED, facts)
    engine = Forgetful(registry={stack.base.reference: BASE})
    with pytest.raises(EngineError, match="has vanished from the engine's store"):
        pipeline.ensure_base(stack, engine, session)


def test_failed_bootstrap_is_explained_without_leftovers(
    session: Session,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    engine = StandInEngine()
    programs.answer("mmdebstrap", 25, "I: start\nE: unable to pick chroot mode\n")
    with pytest.raises(
        EngineError, match="mmdebstrap ended with exit code 25"
    ) as caught:
        pipeline.make_base(LOCK.stack.base, engine, session)
    assert caught.value.problems == ("E: unable to pick chroot mode",)
    programs.answer("mmdebstrap", 100, "Err:1 Temporary failure resolving 'deb'\n")
    with pytest.raises(EngineError, match="the network is down") as caught:
        pipeline.make_base(LOCK.stack.base, engine, session)
    assert caught.value.problems == ("Err:1 Temporary failure resolving 'deb'",)
    assert "or use a mirror of Debian: `--apt-mirror URL`" in caught.value.hint
    mirror = Network(apt_mirror="http://me:kestrel@mirror.example/debian")
    said = "E: http://me:kestrel@mirror.example/debian: 404  Not Found\n"
    programs.answer("mmdebstrap", 100, said)
    with pytest.raises(EngineError) as caught:
        pipeline.make_base(LOCK.stack.base, engine, replace(session, network=mirror))
    assert "kestrel" not in str(caught.value.problems)
    assert "--apt-mirror" not in caught.value.hint
    assert engine.journal == []
    assert list(temporary.iterdir()) == []


# --- interrupted where it hurts ------------------------------------------------------------------------------------


def test_interrupted_push_keeps_the_tag(session: Session) -> None:
    class Cut(StandInEngine):
        def push(self, reference: str) -> str:
            raise KeyboardInterrupt

    engine = Cut(images={IMAGE.id: IMAGE, LOCK.stack.base.reference: BASE})
    with pytest.raises(KeyboardInterrupt):
        build(engine, session, tag="r.example/a:1", push=True)
    assert engine.images["r.example/a:1"] is IMAGE
    assert engine.journal[-1] == "close"
    assert written(session)[0].verdict is Verdict.PASSED


def test_a_receipt_that_cannot_be_kept_costs_the_tag(session: Session) -> None:
    session.receipts.write_text("in the way")
    engine = engine_with()
    with pytest.raises(Exception, match="cannot write"):
        build(engine, session)
    assert engine.asked("tag") == []


def test_the_suite_is_followed_on_the_display(session: Session) -> None:
    def script(container: StandInContainer) -> Iterator[str]:
        yield plan()
        yield start(INSIDE[0])
        yield from passing()[1:]

    build(engine_with(suite=script), session)
    assert f"done      title of {INSIDE[0]}" in said(session)
    for title in suite.OUTSIDE.values():
        assert f"done      {title}" in said(session)


# --- a custom base -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"platform": "linux/arm64"}, "nor on any reachable registry for linux/amd64"),
        ({"on_build": ("RUN rm -r /",)}, "whatever is built on it (ONBUILD RUN rm -r /)"),
        ({"volumes": ("/srv", "/opt/")}, "has /opt/ as a volume: what a build writes there is lost"),
    ],
)  # fmt: skip
def test_a_custom_base_is_inspected_before_it_is_used(
    session: Session, changes: dict[str, Any], message: str
) -> None:
    named = parse_request({"cuda": "11.7", "base": "mine:1", "python": "3.9"})
    engine = StandInEngine(images={"mine:1": replace(BASE, **changes)})
    with pytest.raises(EngineError) as caught:
        build(engine, session, named)
    assert message in caught.value.message
    assert engine.asked("create", "tag") == []
