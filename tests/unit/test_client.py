"""The client against a stand-in daemon, with the real SDK: its requests, and the error for each fault."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from marks import few
from standin.daemon import (
    Box,
    Daemon,
    Fault,
    daemon_in,
    image,
    runs_until_it_is_killed,
    tar_of,
    writes,
)
from waiting import wait_until

from envbuilder.engine import background, output, pulse
from envbuilder.engine.container_spec import RUN_LABEL, ContainerSpec
from envbuilder.engine.docker_client import (
    DockerEngine,
    docker_container,
    image_store,
    lifetime,
)
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, GpuSupport
from envbuilder.engine.output import TooMuchOutput
from envbuilder.engine.run_id import new_run_id
from envbuilder.errors import EngineError

IMAGE = "sha256:1"
TRUE = ContainerSpec(command=("true",))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with daemon_in(tmp_path) as running:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{running.socket}")
        running.images[IMAGE] = image(IMAGE)
        yield running


@pytest.fixture
def engine(daemon: Daemon) -> Iterator[DockerEngine]:
    with DockerEngine(new_run_id(), timeout=20) as connected:
        yield connected


def test_missing_engine_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    with pytest.raises(EngineError, match="no Docker engine answers") as caught:
        DockerEngine("x")
    assert "start Docker" in caught.value.hint


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500, message="not today"), Fault(drop=True)],
    ids=["500", "hangs up"],
)
def test_engine_without_a_ping_answer_is_unreachable(
    daemon: Daemon, fault: Fault
) -> None:
    daemon.faults["ping"] = fault
    with pytest.raises(
        EngineError,
        match=r"cannot reach the container engine: (not today|no Docker engine answers)",
    ):
        DockerEngine("x")


# --- images --------------------------------------------------------------------------------------------------------


def test_images_are_found_by_id_and_by_name(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.images["a/b:1"] = image(IMAGE)
    for name in (IMAGE, "a/b:1"):
        found = engine.image(name)
        assert found is not None
        assert (found.id, found.labels, found.size, found.platform) == (
            IMAGE,
            {"a": "b"},
            7,
            "linux/amd64",
        )
    assert engine.image("nobody/knows:1") is None
    assert engine.image("") is None


def test_history_lists_the_first_step_first(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.history = [
        {"Size": 5, "CreatedBy": "COPY x"},
        {"Size": None, "Comment": "imported"},
        {"CreatedBy": ""},
    ]
    assert engine.steps(IMAGE) == [(0, ""), (0, "imported"), (5, "COPY x")]


def test_failed_pull_explains_why(daemon: Daemon, engine: DockerEngine) -> None:
    daemon.registry["a/b:1"] = image("sha256:2")
    assert engine.pull("a/b:1", "linux/arm64") is None
    assert daemon.queries["pull"] == {
        "fromImage": "a/b",
        "tag": "1",
        "platform": "linux/arm64",
    }
    assert engine.image("a/b:1") is not None
    assert engine.pull("a/c:1", "linux/amd64") == "manifest for a/c:1 not found"
    daemon.faults["pull"] = Fault(status=500, message="dial tcp: no route to host")
    assert engine.pull("a/b:1", "linux/amd64") == "dial tcp: no route to host"
    daemon.faults["pull"] = Fault(drop=True)
    assert "Connection aborted" in str(engine.pull("a/b:1", "linux/amd64"))


def test_a_registry_that_never_answers_is_given_up(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine answers: it is the registry that it waits for."""
    monkeypatch.setattr(image_store, "_REGISTRY_SECONDS", 0.1)
    held = threading.Event()
    daemon.faults["pull"] = daemon.faults["distribution"] = Fault(hold=held)
    assert engine.pull("a/b:1", "linux/amd64") == (
        "the registry gives no answer within 0 s"
    )
    assert engine.registry_digest("a/b:1", within=0.1) == (
        "",
        "the registry gives no answer within 0 s",
    )
    held.set()


def test_registry_is_queried_without_a_pull(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.registry["a/b:1"] = image("sha256:2")
    assert engine.registry_failure("a/b:1") is None
    digest, failure = engine.registry_digest("a/b:1")
    assert (digest[:7], failure) == ("sha256:", None)
    assert (
        engine.registry_failure("a/c:1")
        == "denied: requested access to the resource is denied"
    )
    daemon.faults["distribution"] = Fault(drop=True)
    assert "Connection aborted" in str(engine.registry_failure("a/b:1"))
    assert daemon.asked("pull") == []


def test_the_tags_of_a_repository_are_listed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    for name in ("envbuilder:b", "envbuilder:a", "envbuilder-base:a", "other:a"):
        daemon.images[name] = image(IMAGE)
    assert engine.tags("envbuilder") == ["envbuilder:a", "envbuilder:b"]
    assert engine.tags("nobody") == []


def test_a_tar_becomes_an_image(
    daemon: Daemon, engine: DockerEngine, tmp_path: Path
) -> None:
    (tmp_path / "base.tar").write_bytes(b"a file system")
    engine.import_tar(
        tmp_path / "base.tar", "here:5000/base:1", ["ENV A=1", "LABEL b=c"]
    )
    assert daemon.bodies["pull"] == b"a file system"
    assert daemon.queries["pull"] == {
        "repo": "here:5000/base",
        "tag": "1",
        "fromSrc": "-",
        "changes": "ENV A=1\nLABEL b=c",
    }
    assert engine.image("here:5000/base:1") is not None
    daemon.faults["pull"] = Fault(status=500, message="no space left on device")
    with pytest.raises(EngineError, match="cannot import base:2: the disk is full"):
        engine.import_tar(tmp_path / "base.tar", "base:2", [])


def test_a_tag_is_moved_to_the_image(daemon: Daemon, engine: DockerEngine) -> None:
    daemon.images["here:5000/a:1"] = image("sha256:old")
    engine.tag(IMAGE, "here:5000/a:1")
    assert daemon.queries["tag"] == {"repo": "here:5000/a", "tag": "1", "force": "0"}
    assert daemon.images["here:5000/a:1"]["Id"] == IMAGE
    with pytest.raises(EngineError, match="cannot tag a:1: No such image: sha256:9"):
        engine.tag("sha256:9", "a:1")


def test_a_push_gives_the_registrys_digest(
    daemon: Daemon, engine: DockerEngine
) -> None:
    assert engine.push("here:5000/a:1") == "sha256:d"
    assert daemon.asked("push") == ["push here:5000/a"]
    assert daemon.queries["push"] == {"tag": "1"}


def test_refused_push_has_a_remedy(daemon: Daemon, engine: DockerEngine) -> None:
    daemon.pushes = [
        {"status": "pushing"},
        {"error": "denied: no access", "errorDetail": {"message": "denied"}},
    ]
    with pytest.raises(
        EngineError, match="cannot push here:5000/a:1: denied: no access"
    ) as caught:
        engine.push("here:5000/a:1")
    assert caught.value.hint.startswith("log in: `docker login here:5000`")


def test_layers_are_read_out_of_the_saved_image(
    daemon: Daemon, engine: DockerEngine
) -> None:
    layer = tar_of({"/root/.netrc": b"secret", "/etc/x": b"y"})
    daemon.saved = tar_of({"blobs/1": layer, "manifest.json": b"[]"})
    found = list(engine.layer_files(IMAGE, lambda path: path.startswith("/root")))
    assert found == [("/root/.netrc", 6, b"secret")]


# --- the engine's machine ------------------------------------------------------------------------------------------


def test_machine_facts_come_from_the_engine(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.info |= {
        "Architecture": "x86_64",
        "Runtimes": {"nvidia": {}},
        "SecurityOptions": ["name=userns"],
    }
    assert engine.platform() == "linux/amd64"
    assert engine.gpu_support() == GpuSupport(runtimes=("nvidia",))
    assert engine.host()["engine"] == "27.0"
    assert engine.maps_users()
    daemon.faults["info"] = Fault(status=500, message="no space left on device")
    with pytest.raises(
        EngineError, match="cannot inspect the engine: the disk is full: no space left"
    ):
        engine.host()


# --- containers ----------------------------------------------------------------------------------------------------


def lines_of(
    engine: DockerEngine, job: ContainerSpec = TRUE, image: str = IMAGE
) -> list[str]:
    with engine.container(image, job) as container:
        return list(container.lines(60))


def test_a_container_is_made_with_its_files_followed_and_removed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.script = writes(
        b"one\ntw", b"o\n", b"\xff\nrest", code=3, out_of_memory=True, stderr="a\n\nb\n"
    )
    job = ContainerSpec(
        command=("a", "b"), files={"/suite/x.py": b"print()"}, user="7", read_only=True
    )
    with engine.container(IMAGE, job) as container:
        (box,) = daemon.boxes.values()
        assert daemon.files_of(box) == {"/suite/x.py": b"print()"}
        assert not box.started.is_set()
        assert list(container.lines(60)) == ["one", "two", "\ufffd", "rest"]
        assert container.wait() == (3, True)
        assert container.errors() == ["a", "b"]
        assert not container.late
    asked = [
        line.split()[0]
        for line in daemon.journal
        if line.split()[0] not in ("version", "ping", "info", "box")
    ]
    filled = ["make_volume", "create", "put", "remove"]
    assert asked == [
        *filled,
        "create",
        "attach",
        "start",
        "wait",
        "logs",
        "remove",
        "remove_volume",
    ]
    assert daemon.queries["attach"] == {
        "logs": "1",
        "stdout": "1",
        "stderr": "0",
        "stream": "1",
    }
    assert daemon.queries["logs"]["stderr"] == "1"
    assert daemon.queries["logs"]["stdout"] == "0"
    assert daemon.queries["remove"] == {"v": "True", "link": "False", "force": "True"}
    config = json.loads(daemon.bodies["create"])
    assert (config["Cmd"], config["User"], config["HostConfig"]["NetworkMode"]) == (
        ["a", "b"],
        "7",
        "none",
    )
    assert config["Labels"] == {RUN_LABEL: engine.run_id}
    limits = {
        name: config["HostConfig"][name]
        for name in ("CapDrop", "SecurityOpt", "PidsLimit", "LogConfig")
    }
    assert limits == {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": 16384,
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": "10m", "max-file": "1"},
        },
    }
    (mount,) = config["HostConfig"]["Mounts"]
    assert mount.pop("Source") not in daemon.volumes
    assert mount == {
        "Type": "volume", "Target": "/envbuilder-suite", "ReadOnly": True, "VolumeOptions": {"NoCopy": True},
    }  # fmt: skip
    assert json.loads(daemon.bodies["make_volume"])["Labels"] == {
        RUN_LABEL: engine.run_id
    }
    assert daemon.boxes == daemon.volumes == {}


def test_container_gets_most_but_not_all_memory(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.info["MemTotal"] = 1_000_000_000
    lines_of(engine)
    assert json.loads(daemon.bodies["create"])["HostConfig"]["Memory"] == 900_000_000


@pytest.mark.parametrize(
    "flood", [b"x" * 65536, b"junk\n" * 13000], ids=["an endless line", "junk lines"]
)
def test_a_flood_is_stopped_and_the_container_killed(
    daemon: Daemon, engine: DockerEngine, flood: bytes
) -> None:
    def script(box: Box) -> Iterator[bytes]:
        while not box.signalled.is_set():
            yield flood
        box.code = 137

    daemon.script = script
    with engine.container(IMAGE, TRUE) as container:
        box = next(iter(daemon.boxes.values()))
        kept: list[str] = []
        with pytest.raises(
            TooMuchOutput,
            match="it wrote more than 16 MB or 100000 lines, and was stopped",
        ):
            kept.extend(container.lines(60))
        assert box.signals == ["KILL"]
    assert sum(map(len, kept)) <= output.MOST_BYTES
    assert daemon.boxes == {}


def test_a_program_that_floods_has_no_output(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.script = writes(b"x" * 17_000_000)
    assert engine.output(IMAGE, ["python"], 60) is None


def test_a_folder_of_an_image_is_read_without_starting_it(
    daemon: Daemon, engine: DockerEngine
) -> None:
    assert engine.read_folder(IMAGE, "/opt/envbuilder") == {}
    assert daemon.asked("start") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), SystemExit(2)])
def test_container_is_removed_after_any_error(
    daemon: Daemon, engine: DockerEngine, error: BaseException
) -> None:
    daemon.script = runs_until_it_is_killed(b"one\n")

    def follow() -> None:
        with engine.container(IMAGE, TRUE) as container:
            for _ in container.lines(60):
                raise error

    with pytest.raises(type(error)):
        follow()
    assert daemon.boxes == {}


def test_an_interrupt_while_a_container_is_made_leaves_none(
    daemon: Daemon, engine: DockerEngine
) -> None:
    """The daemon makes the container only after the interrupt has come."""
    answers, interrupted = threading.Event(), threading.Event()
    daemon.faults["create"] = Fault(hold=answers)

    def on_signal(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def interrupt() -> None:
        wait_until(lambda: daemon.asked("create"), "the engine was never asked")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        interrupted.wait(60)
        answers.set()

    before = signal.signal(signal.SIGINT, on_signal)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            lines_of(engine)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert [line.split()[0] for line in daemon.asked("create", "start", "remove")] == [
        "create",
        "remove",
    ]
    assert daemon.boxes == {}


@pytest.mark.parametrize("which", few([1, 2]), ids=["of the files", "of the job"])
def test_interrupted_removal_leaves_no_container_and_no_volume(
    daemon: Daemon, engine: DockerEngine, which: int
) -> None:
    """The daemon removes the container only some time after the interrupt has come; a volume in use stays."""
    removed, interrupted = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def interrupt() -> None:
        wait_until(lambda: len(daemon.asked("remove")) == which, "nothing is removed")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        interrupted.wait(60)
        before = len(daemon.asked("ping"))
        with suppress(AssertionError):  # it is no longer awaited
            wait_until(lambda: len(daemon.asked("ping")) > before + 1, "")
        removed.set()

    daemon.faults["remove"] = Fault(hold=removed)
    before = signal.signal(signal.SIGINT, on_signal)
    if which == 2:
        removed.set()
        daemon.faults.clear()

        def script(box: Box) -> Iterator[bytes]:
            removed.clear()
            daemon.faults["remove"] = Fault(hold=removed)
            yield b"hello\n"

        daemon.script = script
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            lines_of(
                engine,
                ContainerSpec(command=("true",), files={"/envbuilder-suite/a": b""}),
            )
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert daemon.boxes == daemon.volumes == {}


def test_interrupt_during_creation_leaves_no_container(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt comes before there is anything to wait for."""

    def start_and_interrupt(compute: Callable[[], Any], answer: Any) -> None:
        background.in_background(compute, answer)
        raise KeyboardInterrupt

    monkeypatch.setattr(lifetime, "in_background", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        lines_of(engine)
    assert [line.split()[0] for line in daemon.asked("create", "start", "remove")] == [
        "create",
        "remove",
    ]


@pytest.mark.parametrize("route", ["make_volume", "create", "put", "attach", "start"])
def test_a_container_that_cannot_be_prepared_is_removed(
    daemon: Daemon, engine: DockerEngine, route: str
) -> None:
    daemon.faults[route] = Fault(status=500, message="not today")
    with pytest.raises(EngineError, match="not today"):
        lines_of(engine, ContainerSpec(command=("true",), files={"/a": b""}))
    assert daemon.boxes == daemon.volumes == {}


def test_failed_removal_hides_no_other_error(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.faults["remove"] = Fault(status=500, message="busy")
    assert lines_of(engine) == ["hello"]
    with pytest.raises(KeyboardInterrupt), engine.container(IMAGE, TRUE):
        raise KeyboardInterrupt


def test_a_container_that_cannot_be_made(daemon: Daemon, engine: DockerEngine) -> None:
    with pytest.raises(
        EngineError, match="cannot make a container of sha256:absent: No such image"
    ):
        lines_of(engine, image="sha256:absent")
    daemon.faults["create"] = Fault(drop=True)
    with pytest.raises(
        EngineError,
        match="cannot make a container of sha256:1: no Docker engine answers",
    ):
        lines_of(engine)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            'could not select device driver "cdi" with capabilities: [[gpu]]',
            "the engine does not support CDI",
            "--gpu-access none",
        ),
        (
            'exec: "/bin/sh": stat /bin/sh: no such file or directory',
            "the suite cannot start in this image",
            "it needs a shell and Python",
        ),
        (
            'exec: "sh": executable file not found in $PATH',
            "the suite cannot start in this image",
            "it needs a shell",
        ),
        (
            'invalid mount config for type "bind": bind source path does not exist: /x: no such file or directory',
            "cannot start the container: invalid mount config",
            "",
        ),
        (
            "dial unix /run/containerd.sock: connect: no such file or directory",
            "cannot start the container: dial",
            "",
        ),
        (
            "write /var/lib/docker: no space left on device",
            "cannot start the container: the disk is full: ",
            "",
        ),
    ],
)
def test_failed_start_explains_why(
    daemon: Daemon, engine: DockerEngine, said: str, message: str, hint: str
) -> None:
    daemon.faults["start"] = Fault(status=500, message=said)
    with pytest.raises(EngineError) as caught:
        lines_of(
            engine,
            ContainerSpec(
                command=("true",), gpu=GpuPlan(access=GpuAccess.GPUS, reason="")
            ),
        )
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_at_its_deadline_a_container_is_killed_and_late(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.script = runs_until_it_is_killed(b"one\n")
    with engine.container(IMAGE, TRUE) as container:
        assert list(container.lines(0.1)) == ["one"]
        assert container.late
        assert container.wait() == (137, False)
        assert next(iter(daemon.boxes.values())).signals == ["KILL"]


def test_shorter_limit_kills_unless_it_is_cancelled(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.script = runs_until_it_is_killed(b"one\n")
    with engine.container(IMAGE, TRUE) as container:
        for _ in container.lines(60):
            container.limit(30)
            container.limit(0.1)
        assert container.late
    daemon.script = writes(b"one\n", b"two\n")
    with engine.container(IMAGE, TRUE) as container:
        for line in container.lines(60):
            container.limit(60 if line == "one" else None)
        assert not container.late


def test_timers_end_with_their_container(daemon: Daemon, engine: DockerEngine) -> None:
    with engine.container(IMAGE, TRUE) as container:
        for _ in container.lines(60):
            container.limit(60)
    timers = [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer)
    ]
    for timer in timers:
        timer.join(5)
    assert not any(timer.is_alive() for timer in timers)


def test_signal_to_an_ended_container_is_ignored(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.faults["kill"] = Fault(status=409, message="is not running")
    with engine.container(IMAGE, TRUE) as container:
        container.signal("TERM")
    assert daemon.queries["kill"] == {"signal": "TERM"}


def test_a_connection_that_is_lost_ends_the_output(
    daemon: Daemon, engine: DockerEngine
) -> None:
    def script(box: Box) -> Iterator[bytes]:
        yield b"one\ntw"
        raise BrokenPipeError

    daemon.script = script
    assert lines_of(engine) == ["one", "tw"]


def test_failing_wait_and_log_requests_are_errors(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.faults["wait"] = Fault(drop=True)
    daemon.faults["logs"] = Fault(status=500, message="no log")
    with engine.container(IMAGE, TRUE) as container:
        list(container.lines(60))
        with pytest.raises(
            EngineError, match="cannot wait for the container: no Docker engine answers"
        ):
            container.wait()
        with pytest.raises(
            EngineError, match="cannot read the container's log: no log"
        ):
            container.errors()


def test_a_file_of_an_image_is_read_without_starting_it(
    daemon: Daemon, engine: DockerEngine
) -> None:
    with engine.container(IMAGE, ContainerSpec(command=("none",))) as container:
        next(iter(daemon.boxes.values())).files["/etc/x"] = b"y"
        assert container.read_file("/etc/x") == b"y"
    assert engine.read_file(IMAGE, "/etc/absent") is None
    assert daemon.asked("start", "attach") == []
    assert len(daemon.asked("create")) == len(daemon.asked("remove")) == 2


def test_the_output_of_a_program_in_an_image(
    daemon: Daemon, engine: DockerEngine
) -> None:
    assert engine.output(IMAGE, ["python", "-V"], 60) == ["hello"]
    config = json.loads(daemon.bodies["create"])
    assert (
        config["Entrypoint"],
        config["User"],
        config["HostConfig"]["ReadonlyRootfs"],
    ) == (
        ["python", "-V"],
        "0",
        True,
    )
    assert "NVIDIA_VISIBLE_DEVICES=void" in config["Env"]
    daemon.script = writes(b"Traceback\n", code=1)
    assert engine.output(IMAGE, ["python"], 60) is None
    daemon.faults["start"] = Fault(
        status=400, message='exec: "python": executable file not found in $PATH'
    )
    assert engine.output(IMAGE, ["python"], 60) is None
    daemon.faults["start"] = Fault(drop=True)
    with pytest.raises(EngineError, match="no Docker engine answers"):
        engine.output(IMAGE, ["python"], 60)
    assert daemon.boxes == {}


# --- what a killed run left ----------------------------------------------------------------------------------------


def test_only_containers_of_dead_runs_are_removed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    host, pid, began = new_run_id().rsplit(":", 2)
    dead = daemon.add({RUN_LABEL: f"{host}:{pid}:{began}0"})
    kept = [
        daemon.add({RUN_LABEL: label}).id
        for label in (f"{host}:{pid}:{began}", "elsewhere:1:1", "no run id")
    ]
    stranger = daemon.add({"other": "label"})
    assert engine.sweep() == 1
    assert list(daemon.boxes) == [*kept, stranger.id]
    assert daemon.asked("remove") == [f"remove {dead.id}"]
    assert daemon.queries["list"]["all"] == "1"


def test_only_volumes_of_dead_runs_are_removed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    host, pid, began = new_run_id().rsplit(":", 2)
    daemon.add_volume("dead", {RUN_LABEL: f"{host}:{pid}:{began}0"})
    daemon.add_volume("alive", {RUN_LABEL: f"{host}:{pid}:{began}"})
    daemon.add_volume("stranger", {"other": "label"})
    assert engine.sweep() == 1
    assert list(daemon.volumes) == ["alive", "stranger"]


def test_leftovers_already_removed_are_not_an_error(
    daemon: Daemon, engine: DockerEngine
) -> None:
    host, pid, began = new_run_id().rsplit(":", 2)
    daemon.add({RUN_LABEL: f"{host}:{pid}:{began}0"})
    daemon.add_volume("dead", {RUN_LABEL: f"{host}:{pid}:{began}0"})
    daemon.faults["remove"] = Fault(status=404, message="No such container")
    daemon.faults["remove_volume"] = Fault(status=409, message="volume is in use")
    assert engine.sweep() == 0
    daemon.faults["remove_volume"] = Fault(status=500, message="not now")
    with pytest.raises(
        EngineError, match="cannot remove what earlier runs left: not now"
    ):
        engine.sweep()
    daemon.faults["list"] = Fault(status=500, message="not today")
    with pytest.raises(
        EngineError, match="cannot remove what earlier runs left: not today"
    ):
        engine.sweep()


# --- an engine that is frozen --------------------------------------------------------------------------------------


@pytest.fixture
def impatient(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerEngine]:
    """A client that gives up after a second of silence, and asks more often than that."""
    monkeypatch.setattr(pulse, "_BETWEEN_PINGS", 0.2)
    with DockerEngine(new_run_id(), silence=1) as connected:
        yield connected


def push(engine: DockerEngine, tmp_path: Path) -> object:
    return engine.push("here:5000/a:1")


def read_layers(engine: DockerEngine, tmp_path: Path) -> object:
    return list(engine.layer_files(IMAGE, lambda path: True))


def look(engine: DockerEngine, tmp_path: Path) -> object:
    return engine.image(IMAGE)


def read_history(engine: DockerEngine, tmp_path: Path) -> object:
    return engine.steps(IMAGE)


def import_tar(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "base.tar").write_bytes(b"a file system")
    engine.import_tar(tmp_path / "base.tar", "base:1", [])


CALLS: dict[str, Callable[[DockerEngine, Path], object]] = {
    "image": look,
    "history": read_history,
    "pull": lambda engine, path: engine.pull("a/b:1", "linux/amd64"),
    "distribution": lambda engine, path: engine.registry_failure("a/b:1"),
    "import": import_tar,
    "tag": lambda engine, path: engine.tag(IMAGE, "a/b:1"),
    "push": push,
    "info": lambda engine, path: engine.host(),
    "create": lambda engine, path: lines_of(engine),
    "save": read_layers,
    "list": lambda engine, path: engine.sweep(),
}


@pytest.mark.parametrize("call", few(CALLS.values()), ids=CALLS)
def test_frozen_engine_is_abandoned(
    daemon: Daemon,
    impatient: DockerEngine,
    tmp_path: Path,
    call: Callable[[DockerEngine, Path], object],
) -> None:
    with (
        daemon.frozen(),
        pytest.raises(
            EngineError, match="the container engine has not answered for 1 s"
        ) as caught,
    ):
        call(impatient, tmp_path)
    assert "docker version" in caught.value.hint


def test_engine_frozen_from_the_start_is_unreachable(daemon: Daemon) -> None:
    with (
        daemon.frozen(),
        pytest.raises(
            EngineError, match=r"no Docker engine answers \(nothing within 1 s\)"
        ),
    ):
        DockerEngine(new_run_id(), silence=1)


def test_engine_freezing_during_a_run_is_abandoned(
    daemon: Daemon, impatient: DockerEngine
) -> None:
    daemon.script = runs_until_it_is_killed(b"one\n")
    seen = []
    with impatient.container(IMAGE, TRUE) as container:
        lines = container.lines(60)
        seen.append(next(lines))
        with daemon.frozen():
            for call in (
                lambda: next(lines),
                container.wait,
                container.errors,
                lambda: container.read_file("/a"),
            ):
                with pytest.raises(
                    EngineError, match="the container engine has not answered for 1 s"
                ):
                    call()
    assert seen == ["one"]


def test_an_engine_that_only_takes_its_time_is_waited_for(
    daemon: Daemon, impatient: DockerEngine
) -> None:
    """It answers pings meanwhile: many more of them than silence would allow."""
    slow = threading.Event()
    daemon.faults["info"] = Fault(hold=slow)
    before = len(daemon.asked("ping"))

    def answer() -> None:
        wait_until(
            lambda: len(daemon.asked("ping")) >= before + 10,
            "nobody asks whether it lives",
        )
        slow.set()

    thread = threading.Thread(target=answer)
    thread.start()
    assert impatient.host()["engine"] == "27.0"
    assert slow.is_set()
    thread.join()


def test_deadline_applies_if_the_engine_kills_nothing(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_container, "_KILL_SECONDS", 0.2)
    daemon.script = runs_until_it_is_killed(b"one\n")
    daemon.faults["kill"] = Fault(status=500, message="not today")
    with engine.container(IMAGE, TRUE) as container:
        with pytest.raises(
            EngineError, match=r"did not end a container within 0.2 s of its deadline"
        ):
            list(container.lines(0.1))
        assert container.late


def test_deadline_applies_if_the_engine_is_frozen(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_container, "_KILL_SECONDS", 0.2)
    monkeypatch.setattr(lifetime, "_SILENCE_AT_THE_END", 0.1)
    daemon.script = runs_until_it_is_killed(b"one\n")

    def follow() -> None:
        with engine.container(IMAGE, TRUE) as container:
            for _ in container.lines(0.1):
                frozen.enter_context(daemon.frozen())

    with ExitStack() as frozen:
        with pytest.raises(
            EngineError, match=r"did not end a container within 0.2 s of its deadline"
        ):
            follow()
        assert len(daemon.boxes) == 1  # its removal was not awaited


def test_interrupt_does_not_wait_for_a_frozen_engine(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "_SILENCE_AT_THE_END", 0.1)

    def interrupt() -> None:
        with engine.container(IMAGE, TRUE):
            frozen.enter_context(daemon.frozen())
            raise KeyboardInterrupt

    with ExitStack() as frozen:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert (
            len(daemon.boxes) == 1
        )  # it is removed when the engine continues, or by the next run
    wait_until(lambda: not daemon.boxes, "nobody asked to remove it")


def test_silent_registry_is_abandoned(
    daemon: Daemon, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_store, "_IDLE_SECONDS", 0.1)
    stalled = threading.Event()
    daemon.stalls = {"pull": stalled, "push": stalled}
    daemon.registry["a/b:1"] = image("sha256:2")
    try:
        for call in (
            lambda: engine.pull("a/b:1", "linux/amd64"),
            lambda: engine.push("here:5000/a:1"),
        ):
            with pytest.raises(
                EngineError, match="the registry has sent nothing for 0 s"
            ):
                call()
    finally:
        stalled.set()


# --- answers that are cut off --------------------------------------------------------------------------------------


def read_file(engine: DockerEngine, tmp_path: Path) -> object:
    with engine.container(
        IMAGE, ContainerSpec(command=("none",), files={"/etc/x": b"y" * 5000})
    ) as container:
        return container.read_file("/etc/x")


def read_errors(engine: DockerEngine, tmp_path: Path) -> object:
    with engine.container(IMAGE, TRUE) as container:
        list(container.lines(60))
        return container.errors()


@pytest.mark.parametrize(
    ("route", "ask"),
    [
        ("push", push),
        ("save", read_layers),
        ("get", read_file),
        ("image", look),
        ("history", read_history),
        ("logs", read_errors),
    ],
)
def test_an_answer_that_is_cut_off_is_the_engines_error(
    daemon: Daemon,
    engine: DockerEngine,
    tmp_path: Path,
    route: str,
    ask: Callable[[DockerEngine, Path], object],
) -> None:
    daemon.script = writes(b"x\n", stderr="one\ntwo\n")
    daemon.saved = tar_of({"blobs/1": tar_of({"/root/.netrc": b"secret" * 5000})})
    daemon.faults[route] = Fault(truncate=True)
    with pytest.raises(EngineError):
        ask(engine, tmp_path)
    assert daemon.boxes == {}


def test_interrupted_pull_is_reported(daemon: Daemon, engine: DockerEngine) -> None:
    daemon.registry["a/b:1"] = image("sha256:2")
    daemon.faults["pull"] = Fault(truncate=True)
    assert engine.pull("a/b:1", "linux/amd64")


def test_push_without_a_digest_is_an_error(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.pushes = [{"status": "pushing"}]
    with pytest.raises(
        EngineError, match="cannot push here:5000/a:1: the engine gave no digest"
    ):
        engine.push("here:5000/a:1")
