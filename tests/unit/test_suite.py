"""The suite against a stand-in engine: what its containers get, and how their output is judged."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standin.engine import (
    StandInContainer,
    StandInEngine,
    breaks,
    kind_of,
    says,
    writes_its_files,
)
from standin.suite_output import (
    FACTS,
    FILES,
    IMAGE,
    INSIDE,
    LABELS,
    LOCK,
    LOCK_TEXT,
    event,
    passing,
    plan,
    result,
    start,
)

from envbuilder import serialize
from envbuilder.acceptance import host_checks, suite
from envbuilder.console import Row
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import EngineError, UsageError
from envbuilder.model import Check, Receipt, Status, Verdict

CPU = GpuPlan(access=GpuAccess.NONE, reason="no GPU here")
TRIAL = suite.SuiteOptions(gpu=CPU)


def accept(
    engine: StandInEngine, trial: suite.SuiteOptions = TRIAL, image: str = IMAGE.id
) -> Receipt:
    return suite.accept(engine, image, trial, on_change=lambda rows: None)


def check_of(receipt: Receipt, name: str) -> Check:
    return next(check for check in receipt.checks if check.id == name)


# --- a whole run ---------------------------------------------------------------------------------------------------


def test_an_image_with_evidence_for_every_check_passes() -> None:
    engine = StandInEngine()
    receipt = accept(engine)
    assert receipt.verdict is Verdict.PASSED
    assert {check.id for check in receipt.checks} == {
        *INSIDE,
        *suite.OUTSIDE,
        "suite.complete",
    }
    not_run = {
        check.id for check in receipt.checks if check.status is not Status.PASSED
    }
    assert not_run == {name for name in INSIDE if name.startswith("gpu.")}
    assert (receipt.image, receipt.reference, receipt.stack) == (
        IMAGE.id,
        IMAGE.id,
        LOCK.stack.name,
    )
    assert receipt.suite == {
        "version": suite.bounds()["suite"],
        "hash": suite.suite_hash(TRIAL),
    }
    assert receipt.host == {"engine": "27.0", "cpus": 2, "gpu": "none"}
    assert (receipt.facts, receipt.training) == (
        FACTS,
        {"accuracy": 1.0, "loss": 0.002},
    )


def test_every_container_is_removed_before_the_next_is_made() -> None:
    engine = StandInEngine()
    accept(engine)
    kinds = ("suite", "any_user", "signals")
    assert engine.asked("create", "remove") == [
        f"{verb} {kind}" for kind in kinds for verb in ("create", "remove")
    ]


def test_checks_are_shown_while_waiting_running_and_finished() -> None:
    shown: list[list[Row]] = []
    suite.accept(
        StandInEngine(),
        IMAGE.id,
        TRIAL,
        on_change=lambda rows: shown.append(list(rows)),
    )
    assert [row.title for row in shown[0]] == [
        f"title of {name}" for name in INSIDE
    ] + list(suite.OUTSIDE.values())
    assert {row.state for row in shown[0]} == {"waiting"}
    running = [row.title for rows in shown for row in rows if row.state == "running"]
    assert set(suite.OUTSIDE.values()) <= set(running)
    assert f"title of {INSIDE[0]}" in running
    assert {row.state for row in shown[-1]} == {"done", "not run"}


def test_missing_image_is_named_with_a_remedy() -> None:
    engine = StandInEngine()
    with pytest.raises(EngineError, match="there is no image nobody/knows:1") as caught:
        accept(engine, image="nobody/knows:1")
    assert "`docker pull nobody/knows:1`" in caught.value.hint
    assert engine.journal == []


@pytest.mark.parametrize("name", ["envbuilder", "envbuilder:absent"])
def test_a_missing_image_of_ours_is_never_pulled(name: str) -> None:
    engine = StandInEngine()
    with pytest.raises(EngineError) as caught:
        suite.find_image(engine, name)
    assert caught.value.hint == "build one: `envbuilder build`"
    engine.images = {"envbuilder:b": IMAGE, "envbuilder:a": IMAGE, "x:1": IMAGE}
    with pytest.raises(EngineError) as caught:
        suite.find_image(engine, name)
    assert caught.value.hint == "images of envbuilder: envbuilder:a, envbuilder:b"
    engine.images = {f"envbuilder:{number}": IMAGE for number in range(9)}
    with pytest.raises(EngineError) as caught:
        suite.find_image(engine, name)
    assert "`docker images envbuilder`" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"), [("BAD NAME", "NAME:TAG in lower case"), ("good:1", "")]
)
def test_a_refused_image_name_gets_a_hint(name: str, hint: str) -> None:
    class Refusing(StandInEngine):
        def image(self, reference: str) -> ImageFacts | None:
            raise EngineError(f"cannot inspect {reference}: invalid reference format")

    with pytest.raises(EngineError, match="invalid reference format") as caught:
        suite.find_image(Refusing(), name)
    assert hint in caught.value.hint
    assert bool(caught.value.hint) == bool(hint)


# --- what the suite says -------------------------------------------------------------------------------------------


def judged(lines: list[str], code: int = 0, **how: Any) -> Receipt:
    return accept(StandInEngine(scripts={"suite": says(lines, code, **how)}))


def test_one_check_that_fails_refuses_the_image() -> None:
    receipt = judged(passing(changed={"training.accuracy": "failed"}), 7)
    assert receipt.verdict is Verdict.FAILED
    assert check_of(receipt, "suite.complete").status is Status.PASSED


def test_one_check_that_could_not_be_made_leaves_it_incomplete() -> None:
    assert (
        judged(passing(changed={"imports.failed": "error"}), 7).verdict
        is Verdict.INCOMPLETE
    )


def test_checks_not_run_do_not_fail_an_image() -> None:
    assert judged(passing(changed={"gpu.visible": "not_run"})).verdict is Verdict.PASSED


def test_a_suite_that_leaves_a_check_out_is_incomplete() -> None:
    receipt = judged(passing(INSIDE[1:]))
    assert receipt.verdict is Verdict.INCOMPLETE
    assert check_of(receipt, "suite.complete").detail == f"no answer to {INSIDE[0]}"


def test_silent_suite_is_incomplete() -> None:
    receipt = judged([])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert INSIDE[0] in check_of(receipt, "suite.complete").detail
    assert check_of(receipt, "identity.labels").status is Status.ERROR


def test_interrupted_suite_reports_how_it_ended() -> None:
    lines = [
        plan(),
        event("facts", **FACTS),
        start(INSIDE[0]),
        result(INSIDE[0]),
        start(INSIDE[1]),
    ]
    receipt = judged(lines, 1, errors=["Traceback", "no module named torch"])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert check_of(receipt, INSIDE[0]).status is Status.PASSED
    ended = "the suite ended with exit code 1: no module named torch"
    assert check_of(receipt, INSIDE[1]).detail == f"no answer: {ended}"
    assert ended in check_of(receipt, "suite.complete").detail


@pytest.mark.parametrize(
    ("code", "out_of_memory", "said"),
    [
        (137, True, "the container ran out of memory and was killed"),
        (135, False, "the suite died of SIGBUS: /dev/shm is too small"),
        (137, False, "the suite was killed"),
        (127, False, "the suite is not in this image: no Python"),
        (126, False, "the suite cannot be executed: no Python"),
    ],
)
def test_receipt_contains_the_end_of_the_container(
    code: int, out_of_memory: bool, said: str
) -> None:
    receipt = judged(passing(), code, out_of_memory=out_of_memory, errors=["no Python"])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert check_of(receipt, "suite.complete").detail == said


def test_an_image_without_python_says_so_first() -> None:
    with pytest.raises(EngineError, match="this image has no Python 3"):
        judged([], 127, errors=["sh: warning", "this image has no Python 3.8 or newer"])


@pytest.mark.parametrize(
    "noise",
    ["Segmentation fault", '{"event": "magic"}', '{"event": "result"}', "[" * 5000],
)
def test_malformed_line_makes_the_suite_incomplete(noise: str) -> None:
    lines = passing()
    receipt = judged([*lines[:3], noise, "", *lines[3:]])
    assert receipt.verdict is Verdict.INCOMPLETE
    detail = check_of(receipt, "suite.complete").detail
    assert detail.startswith("1 lines of its output break the protocol; the first: ")
    assert noise[:190] in detail


def test_verdict_of_the_suite_cannot_override_its_checks() -> None:
    lines = passing(changed={"training.loss": "failed"})
    assert json.loads(lines[-1])["verdict"] == "passed"
    assert judged(lines).verdict is Verdict.FAILED


def test_suite_killed_at_its_deadline_names_the_running_check() -> None:
    def script(container: StandInContainer) -> Iterator[str]:
        yield from [plan(), start(INSIDE[0])]
        container.late, container.code = True, 137

    receipt = accept(StandInEngine(scripts={"suite": script}))
    assert receipt.verdict is Verdict.INCOMPLETE
    assert (
        f"killed at its deadline, in {INSIDE[0]}"
        in check_of(receipt, "suite.complete").detail
    )

    def dumb(container: StandInContainer) -> Iterator[str]:
        container.late, container.code = True, 137
        yield from ()

    receipt = accept(StandInEngine(scripts={"suite": dumb}))
    assert (
        "killed at its deadline, in its beginning"
        in check_of(receipt, "suite.complete").detail
    )


def test_each_check_has_a_deadline_with_grace() -> None:
    engine = StandInEngine(
        scripts={"suite": says(passing(["contract.user", "features.nvcc"]))}
    )
    accept(engine, replace(TRIAL, deadline=77))
    container = engine.containers[0]
    patience = suite.bounds()["patience"]
    plain, long = (
        suite.CHECK_DEADLINE * patience + suite.GRACE,
        600 * patience + suite.GRACE,
    )
    assert suite.bounds()["deadlines"]["features.nvcc"] == 600
    assert container.limits == [plain, None, long, None]
    assert container.deadline == 77


# --- an engine that fails ------------------------------------------------------------------------------------------


def test_a_container_that_cannot_start_is_the_engines_error() -> None:
    engine = StandInEngine(
        scripts={"suite": breaks([], EngineError("cannot start the container"))}
    )
    with pytest.raises(EngineError, match="cannot start the container"):
        accept(engine)
    assert engine.asked("create", "remove") == ["create suite", "remove suite"]


def test_lost_engine_makes_the_suite_incomplete() -> None:
    lost = EngineError("cannot follow the container's output: no Docker engine answers")
    receipt = accept(
        StandInEngine(scripts={"suite": breaks([plan(), start(INSIDE[0])], lost)})
    )
    assert receipt.verdict is Verdict.INCOMPLETE
    assert check_of(receipt, INSIDE[0]).detail == f"no answer: {lost.message}"


@pytest.mark.parametrize("kind", ["suite", "any_user", "signals"])
def test_an_interrupt_ends_it_and_the_container_is_removed(kind: str) -> None:
    lines = [plan()] if kind == "suite" else []
    engine = StandInEngine(scripts={kind: breaks(lines, KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        accept(engine)
    assert engine.journal[-2:] == [f"create {kind}", f"remove {kind}"]


def test_engine_that_ignores_the_deadline_is_an_error() -> None:
    """Whatever else would be asked of it, it would not answer."""

    def script(container: StandInContainer) -> Iterator[str]:
        yield plan()
        container.late = True
        raise EngineError("the container engine did not end a container")

    engine = StandInEngine(scripts={"suite": script})
    with pytest.raises(EngineError, match="did not end a container"):
        accept(engine)
    assert engine.asked("create", "remove") == ["create suite", "remove suite"]


def test_external_failures_are_errors_with_a_reason() -> None:
    engine = StandInEngine(
        scripts={"signals": breaks([], ValueError("out of the blue"))}
    )
    check = check_of(accept(engine), "contract.signals")
    assert (check.status, check.detail) == (Status.ERROR, "ValueError: out of the blue")


# --- what the container is given -----------------------------------------------------------------------------------


def suite_job(engine: StandInEngine) -> Any:
    return next(job for job in engine.jobs if kind_of(job) == "suite")


def test_our_image_runs_its_job_foreign_images_get_ours() -> None:
    ours, foreign = (
        StandInEngine(),
        StandInEngine(images={IMAGE.id: replace(IMAGE, labels={})}),
    )
    accept(ours)
    accept(foreign)
    job = suite_job(ours)
    assert job.command == ("python", "/envbuilder-suite/acceptance", "--json-lines")
    assert job.entrypoint is None
    assert "/envbuilder-suite/train/job.py" not in job.files
    suite_files = {
        "/envbuilder-suite/acceptance/__main__.py",
        "/envbuilder-suite/acceptance/bounds.json",
    }
    assert suite_files <= set(job.files)
    job = suite_job(foreign)
    assert job.command == ("/envbuilder-suite/acceptance", "--json-lines")
    assert job.entrypoint[:2] == ("/bin/sh", "-c")
    assert "/envbuilder-suite/train/job.py" in job.files


def test_the_options_reach_the_container(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("print()")
    engine = StandInEngine()
    accept(
        engine,
        suite.SuiteOptions(
            gpu=CPU, require_gpu=True, user="7:8", memory="2g", own=(own,)
        ),
    )
    job = suite_job(engine)
    assert job.command[2:] == (
        "--json-lines",
        "--require-gpu",
        "--own",
        "/envbuilder-suite/own/mine.py",
    )
    assert (job.gpu, job.user, job.memory) == (CPU, "7:8", "2g")
    assert job.files["/envbuilder-suite/own/mine.py"] == b"print()"


def test_foreign_image_is_not_judged_by_our_promises() -> None:
    foreign = replace(IMAGE, labels={})
    engine = StandInEngine(
        images={foreign.id: foreign},
        scripts={
            "suite": says(
                passing(facts={name: v for name, v in FACTS.items() if name != "lock"})
            )
        },
    )
    receipt = accept(engine)
    assert receipt.verdict is Verdict.PASSED
    for name in ("contract.any_user", "contract.signals"):
        assert (check_of(receipt, name).status, check_of(receipt, name).detail) == (
            Status.NOT_RUN,
            host_checks.FOREIGN,
        )
    assert engine.asked("create") == ["create suite"]


def test_image_with_a_lock_but_no_labels_is_judged_fully() -> None:
    receipt = accept(StandInEngine(images={IMAGE.id: replace(IMAGE, labels={})}))
    assert receipt.verdict is Verdict.FAILED
    assert check_of(receipt, "identity.labels").status is Status.FAILED
    assert check_of(receipt, "contract.signals").status is Status.PASSED


# --- a part of the suite -------------------------------------------------------------------------------------------


def test_a_part_is_never_enough() -> None:
    engine = StandInEngine(scripts={"suite": says(passing(["training.accuracy"]))})
    receipt = accept(
        engine, replace(TRIAL, only=("training.accuracy", "contract.signals"))
    )
    assert receipt.verdict is Verdict.INCOMPLETE
    assert [check.id for check in receipt.checks] == [
        "training.accuracy",
        "contract.signals",
        "suite.complete",
    ]
    detail = check_of(receipt, "suite.complete").detail
    assert detail == "only training.accuracy, contract.signals ran"
    assert suite_job(engine).command[-2:] == ("--only", "training.accuracy")


def test_host_checks_alone_start_no_suite() -> None:
    engine = StandInEngine()
    receipt = accept(
        engine, replace(TRIAL, only=("contract.signals", "contract.caches"))
    )
    assert engine.asked("create") == ["create signals"]
    assert [check.id for check in receipt.checks] == [
        "contract.caches",
        "contract.signals",
        "suite.complete",
    ]


@pytest.mark.parametrize("name", ["identity.labels", "contract.size"])
def test_checks_comparing_with_the_inside_read_it(name: str) -> None:
    engine = StandInEngine(scripts={"suite": says(passing(["identity.packages"]))})
    receipt = accept(engine, replace(TRIAL, only=(name,)))
    assert check_of(receipt, name).status is Status.PASSED
    assert suite_job(engine).command[-2:] == ("--only", "identity.packages")


def test_unknown_check_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        UsageError, match=r"there is no check training\.acuracy"
    ) as caught:
        suite.validate(replace(TRIAL, only=("training.acuracy",)))
    assert caught.value.hint == "did you mean training.accuracy?"
    with pytest.raises(UsageError) as caught:
        suite.validate(replace(TRIAL, only=("nosuch",)))
    assert caught.value.hint.startswith("the nearest are ")
    assert caught.value.hint.count(", ") == 3
    suite.validate(replace(TRIAL, only=("own.mine",), own=(Path("mine.py"),)))


# --- the suite's hash and files ------------------------------------------------------------------------------------


def test_everything_that_changes_a_receipt_changes_the_hash(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("1")
    trials = {
        "plain": TRIAL,
        "require_gpu": replace(TRIAL, require_gpu=True),
        "user": replace(TRIAL, user="7"),
        "memory": replace(TRIAL, memory="2g"),
        "only": replace(TRIAL, only=("contract.size",)),
        "own": replace(TRIAL, own=(own,)),
    }
    hashes = {name: suite.suite_hash(trial) for name, trial in trials.items()}
    own.write_text("2")
    hashes["own, edited"] = suite.suite_hash(trials["own"])
    assert len(set(hashes.values())) == len(hashes)
    assert suite.suite_hash(replace(TRIAL, deadline=5)) == hashes["plain"]
    gpu = GpuPlan(access=GpuAccess.CDI, reason="")
    assert (
        suite.suite_hash(replace(TRIAL, gpu=gpu)) == hashes["plain"]
    )  # the host's facts say which
    assert suite.host_facts(StandInEngine(), replace(TRIAL, gpu=gpu))["gpu"] == "cdi"


def test_every_file_of_the_suite_is_in_the_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, files = suite.suite_hash(TRIAL), suite.files()
    for path in files:
        monkeypatch.setattr(
            suite, "files", lambda own, path=path: {**files, path: files[path] + b"\n"}
        )
        assert suite.suite_hash(TRIAL) != before, path


def test_unusable_custom_checks_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text("")
    with pytest.raises(UsageError, match=r"two checks are called same\.py"):
        suite.files((tmp_path / "a" / "same.py", tmp_path / "b" / "same.py"))
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        suite.files((tmp_path / "absent.py",))


def test_custom_check_is_required(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("")
    trial = replace(TRIAL, own=(own,))
    assert (
        check_of(accept(StandInEngine(), trial), "suite.complete").detail
        == "no answer to own.mine"
    )
    engine = StandInEngine(scripts={"suite": says(passing([*INSIDE, "own.mine"]))})
    assert accept(engine, trial).verdict is Verdict.PASSED


# --- the checks from outside ---------------------------------------------------------------------------------------


def test_wrong_labels_and_oversized_images_fail() -> None:
    lying = replace(
        IMAGE, labels={**LABELS, "dev.envbuilder.torch": "2.1.0"}, size=IMAGE.size * 3
    )
    receipt = accept(StandInEngine(images={IMAGE.id: lying}))
    assert receipt.verdict is Verdict.FAILED
    assert (
        check_of(receipt, "identity.labels").detail
        == "dev.envbuilder.torch says 2.1.0; inside is 2.0.1"
    )
    size = check_of(receipt, "contract.size")
    assert (size.status, size.value, size.detail) == (
        Status.FAILED,
        3.0,
        "7.42 GB for 2.47 GB of wheels",
    )


TOKEN = b"hf_" + b"a" * 24


@pytest.mark.parametrize(
    ("image", "history", "layers", "place"),
    [
        (replace(IMAGE, env=(f"X={TOKEN.decode()}",)), [], [], "the environment"),
        (replace(IMAGE, labels={**LABELS, "note": TOKEN.decode()}), [], [], "a label"),
        (IMAGE, [f"RUN curl {TOKEN.decode()}"], [], "the history"),
        (
            IMAGE,
            [],
            [("/home/me/notes.txt", 27, TOKEN)],
            "the layers, as /home/me/notes.txt",
        ),
        (IMAGE, [], [("/root/.netrc", 5, b"x")], "the layers, as /root/.netrc"),
        (IMAGE, [], [("/app/.git/HEAD", 5, b"x")], "the layers, as /app/.git/HEAD"),
    ],
)
def test_secrets_are_found_in_every_place(
    image: Any, history: list[str], layers: list[tuple[str, int, bytes]], place: str
) -> None:
    receipt = accept(
        StandInEngine(images={IMAGE.id: image}, history=history, layers=layers)
    )
    check = check_of(receipt, "contract.layers")
    assert (check.status, check.detail) == (Status.FAILED, f"a secret is in {place}")


def test_an_empty_file_and_a_system_file_are_no_secret() -> None:
    layers = [
        ("/root/.netrc", 0, b""),
        ("/usr/share/x", 27, TOKEN),
        ("/opt/venv/lib/x.py", 27, TOKEN),
    ]
    assert (
        check_of(accept(StandInEngine(layers=layers)), "contract.layers").status
        is Status.PASSED
    )


def test_caches_count_together_and_the_largest_is_named() -> None:
    layers = [
        ("/root/.cache/pip/a", 600_000, b""),
        ("/root/.cache/pip/b", 600_000, TOKEN),
        ("/var/lib/apt/lists/x", 300_000, b""),
    ]
    receipt = accept(StandInEngine(layers=layers))
    check = check_of(receipt, "contract.caches")
    assert (check.status, check.value, check.detail) == (
        Status.FAILED,
        1_500_000,
        "1 MB are in /root/.cache/pip",
    )
    assert check_of(receipt, "contract.layers").status is Status.PASSED
    few = accept(StandInEngine(layers=[("/root/.cache/pip/a", 1_000_000, b"")]))
    assert check_of(few, "contract.caches").status is Status.PASSED


def test_layers_full_of_secrets_and_caches_are_judged_within_bounds() -> None:
    layers = [(f"/root/.cache/pip/{number}/a", 1000, b"") for number in range(20_000)]
    layers += [(f"/home/{number}/.netrc", 5, b"x") for number in range(20_000)]
    found = host_checks.read_layers(StandInEngine(layers=layers), IMAGE.id)
    assert len(found.secrets) == 1000
    assert len(found.caches) == 10_001
    assert sum(found.caches.values()) == 20_000_000


def test_unreadable_layers_are_an_error_of_both_checks() -> None:
    class Unreadable(StandInEngine):
        def layer_files(
            self, image: str, wanted: object
        ) -> Iterator[tuple[str, int, bytes]]:
            raise EngineError("cannot read the layers: no space left")

    receipt = accept(Unreadable())
    assert receipt.verdict is Verdict.INCOMPLETE
    for name in ("contract.layers", "contract.caches"):
        assert (
            check_of(receipt, name).detail
            == "EngineError: cannot read the layers: no space left"
        )


def any_user(script: Any, *, remaps: bool = False) -> tuple[Check, StandInEngine]:
    engine = StandInEngine(scripts={"any_user": script}, remaps=remaps)
    return host_checks.check_any_user(engine, IMAGE.id), engine


def test_any_user_check_may_write_only_one_directory() -> None:
    seen: list[tuple[int, int]] = []

    def script(container: StandInContainer) -> Iterator[str]:
        found = container.job.folder[0].stat()  # type: ignore[index]
        seen.append((found.st_uid, found.st_gid))
        yield from writes_its_files(container)

    check, engine = any_user(script)
    assert check.status is Status.PASSED
    job = engine.jobs[0]
    assert job.read_only
    assert job.user == f"{seen[0][0]}:{seen[0][1]}"
    assert job.command[0] == "train"
    assert job.command[-1] == "/mnt/work/run"
    assert not job.folder[0].exists()  # type: ignore[index]


def strange_file(container: StandInContainer) -> Iterator[str]:
    (container.job.folder[0] / "theirs").symlink_to("/etc/passwd")  # type: ignore[index]
    yield "epoch 1"


def test_files_of_another_user_fail_unless_users_are_mapped() -> None:
    check, _ = any_user(strange_file)
    assert (check.status, check.value) == (Status.FAILED, 1)
    assert check.detail.startswith("theirs belongs to user 0, not to ")
    assert any_user(strange_file, remaps=True)[0].status is Status.PASSED


def test_failure_for_any_user_shows_its_last_output() -> None:
    check, _ = any_user(
        says(["epoch 1"], 3, errors=["no home", "Permission denied: /home"])
    )
    assert check.status is Status.FAILED
    assert check.detail.endswith(
        "`train` ended with exit code 3: Permission denied: /home"
    )
    assert any_user(says(["its last line"], 3))[0].detail.endswith("3: its last line")
    assert any_user(says([], 3))[0].detail.endswith("3: no output")
    check, _ = any_user(breaks([], EngineError("no train here")))
    assert check.detail.endswith("`train` ended with exit code 126: no train here")


def test_no_file_at_all_is_an_engine_elsewhere() -> None:
    assert any_user(says(["epoch 1"]))[0].status is Status.NOT_RUN


def signals(script: Any) -> tuple[Check, StandInContainer]:
    engine = StandInEngine(scripts={"signals": script})
    return host_checks.check_signals(engine, IMAGE.id), engine.containers[0]


def test_sigterm_to_a_running_job_exits_with_130() -> None:
    def script(container: StandInContainer) -> Iterator[str]:
        yield "loading"
        assert container.signals == []
        yield "device: cpu"
        assert (container.signals, container.limits) == (["TERM"], [5])
        yield "device: again"
        container.code = 130

    check, container = signals(script)
    assert check.status is Status.PASSED
    assert container.signals == ["TERM"]
    assert check.bound == {"max": 5}


def test_a_job_that_is_deaf_or_ends_otherwise_fails() -> None:
    def deaf(container: StandInContainer) -> Iterator[str]:
        yield "device: cpu"
        container.late, container.code = True, 137

    assert signals(deaf)[0].detail == "it still ran 5 s after SIGTERM"
    check, _ = signals(says(["device: cpu"], 143))
    assert (check.status, check.detail) == (
        Status.FAILED,
        "it ended with exit code 143, not 130",
    )
    check, _ = signals(says(["hello"], 1, errors=["no train"]))
    assert (check.status, check.detail) == (
        Status.FAILED,
        "`train` did not start: no train",
    )


# --- wrong claims, too much output, malformed events ------------------------------------------------------------------


def test_a_flood_is_not_accepted_and_the_container_is_removed() -> None:
    def flood(container: StandInContainer) -> Iterator[str]:
        yield plan()
        while True:
            yield "junk" * 100

    engine = StandInEngine(scripts={"suite": flood})
    receipt = accept(engine)
    assert receipt.verdict is Verdict.INCOMPLETE
    detail = check_of(receipt, "suite.complete").detail
    assert "it wrote more than 16 MB or 100000 lines, and was stopped" in detail
    assert "lines of its output break the protocol; the first: " in detail
    assert engine.asked("create", "remove")[:2] == ["create suite", "remove suite"]
    assert len(serialize.dumps(receipt)) < 200_000


def test_a_flood_before_the_plan_is_not_accepted_either() -> None:
    receipt = judged(["x" * 1_000_000] * 20)
    assert receipt.verdict is Verdict.INCOMPLETE
    assert "it wrote more than 16 MB" in check_of(receipt, "suite.complete").detail


def test_truncated_line_is_in_the_receipt() -> None:
    receipt = judged([plan(), "x" * 2_000_000, *passing()[1:]])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert (
        "1 lines of its output break the protocol"
        in check_of(receipt, "suite.complete").detail
    )


def test_output_that_stops_before_its_end_is_incomplete() -> None:
    receipt = judged(passing()[:-1])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert (
        check_of(receipt, "suite.complete").detail
        == "its output stops before the end of the suite"
    )


@pytest.mark.parametrize(
    "word",
    [
        '{"event": "training", "accuracy": "x"}',
        '{"event": "plan", "checks": [{"id": 5}]}',
    ],
)
def test_an_event_that_does_not_fit_is_not_accepted(word: str) -> None:
    lines = passing()
    receipt = judged([*lines[:-1], word, lines[-1]])
    assert receipt.verdict is Verdict.INCOMPLETE
    assert (
        "1 lines of its output break the protocol"
        in check_of(receipt, "suite.complete").detail
    )


def test_the_image_cannot_answer_for_the_host() -> None:
    lines = [
        plan(),
        *(result(name) for name in suite.OUTSIDE),
        result("suite.complete"),
        *passing()[1:],
    ]
    receipt = accept(
        StandInEngine(
            images={IMAGE.id: replace(IMAGE, size=IMAGE.size * 3)},
            scripts={"suite": says(lines)},
        )
    )
    assert check_of(receipt, "contract.size").status is Status.FAILED
    assert check_of(receipt, "suite.complete").status is Status.ERROR


def test_image_claiming_a_missing_gpu_fails() -> None:
    receipt = judged(passing(changed={"gpu.kernel": "passed"}))
    assert receipt.verdict is Verdict.FAILED
    assert (
        check_of(receipt, "gpu.kernel").detail
        == "it claims to have a GPU, but was given none"
    )
    gpu = replace(TRIAL, gpu=GpuPlan(access=GpuAccess.CDI, reason=""))
    engine = StandInEngine(
        scripts={"suite": says(passing(changed={"gpu.kernel": "passed"}))}
    )
    assert accept(engine, gpu).verdict is Verdict.PASSED


def test_host_facts_about_an_image_are_printable() -> None:
    receipt = accept(
        StandInEngine(
            scripts={"signals": says([], 1, errors=["\x1b[2Jno\u202e train"])}
        )
    )
    assert (
        check_of(receipt, "contract.signals").detail
        == "`train` did not start: [2Jno train"
    )


# --- lock and labels from outside -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "labels", "facts", "detail"),
    [
        (
            {"envbuilder.lock": None},
            {},
            {},
            "there is no /opt/envbuilder/envbuilder.lock",
        ),
        ({"envbuilder.lock": b"{}"}, {}, {}, "is not a lock of envbuilder's"),
        ({"envbuilder.lock": b"\xff"}, {}, {}, "can't decode"),
        (
            {"envbuilder.lock": LOCK_TEXT.encode() + b"\n"},
            {},
            {},
            "Python in the image has read another lock",
        ),
        (
            {},
            {"dev.envbuilder.lock": "sha256:1"},
            {},
            "the label dev.envbuilder.lock says sha256:1; the lock is sha256:",
        ),
        (
            {},
            {"dev.envbuilder.torch": "9"},
            {},
            "the label dev.envbuilder.torch says 9; the lock says 2.0.1",
        ),
        (
            {"requirements.txt": b"torch"},
            {},
            {},
            "/opt/envbuilder/requirements.txt is not the lock's",
        ),
        (
            {},
            {},
            {"lock": f"sha256:{'0' * 64}"},
            "Python in the image has read another lock",
        ),
        ({}, {}, {"wheel_bytes": 5}, "Python in the image has read wheels of 5 bytes"),
    ],
)
def test_lock_that_differs_from_outside_fails(
    files: dict[str, Any], labels: dict[str, str], facts: dict[str, Any], detail: str
) -> None:
    there = {
        path: content
        for path, content in {**FILES, **files}.items()
        if content is not None
    }
    image = replace(IMAGE, labels={**LABELS, **labels})
    lines = passing(facts={**FACTS, **facts})
    receipt = accept(
        StandInEngine(
            images={IMAGE.id: image}, files=there, scripts={"suite": says(lines)}
        )
    )
    check = check_of(receipt, "identity.shipped")
    assert check.status is Status.FAILED
    assert detail in check.detail
    assert receipt.verdict is Verdict.FAILED


def test_different_training_job_is_only_a_warning() -> None:
    files = {
        **FILES,
        "payload/train/job.py": b"",
        "payload/more.py": b"",
        "payload/train/__pycache__/job.pyc": b"",
    }
    del files["payload/train/data.py"]
    receipt = accept(StandInEngine(files=files))
    assert check_of(receipt, "identity.shipped").findings == (
        "payload/train/job.py differs from this envbuilder's",
        "payload/train/data.py is not in this image",
        "payload/more.py is not this envbuilder's",
    )
    assert receipt.verdict is Verdict.PASSED
    assert check_of(accept(StandInEngine()), "identity.shipped").findings == ()


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/cron.d/x", "", "a b", "x" * 200, "-x", "\x1b[2J"]
)
def test_invalid_label_is_not_used_as_a_name(name: str) -> None:
    image = replace(IMAGE, labels={**LABELS, "dev.envbuilder.name": name})
    assert accept(StandInEngine(images={IMAGE.id: image})).stack == ""


@pytest.mark.parametrize("name", ["my check.py", "ä.py", "a\nb.py"])
def test_check_with_an_invalid_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be used as the name of a check"):
        suite.validate(replace(TRIAL, own=(Path(name),)))
