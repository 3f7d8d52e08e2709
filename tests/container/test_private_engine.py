"""GPU access with stand-ins for NVIDIA's programs, and engines that crash, run out of disk or lose the network."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envbuilder.engine import build_process as builds
from envbuilder.engine.buildx import BuildOptions, BuildProgress
from envbuilder.engine.container_spec import RUN_LABEL, SUITE_FOLDER, ContainerSpec
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.gpu_access import GpuAccess, plan_gpu
from envbuilder.engine.run_id import new_run_id
from envbuilder.errors import EngineError
from envbuilder.network import Network

from .engine import Image, docker
from .private_engine import PrivateEngine, import_shell, private_engine

SHELL = "test/shell:1"
BUILT = "envbuilder:cu117-torch2.0.1-py3.9-debian11"
CDI = """cdiVersion: "0.5.0"
kind: {kind}
devices:
  - name: all
    containerEdits:
      env: [STAND_IN_GPU=all]
"""


@pytest.fixture(scope="module")
def plain() -> Iterator[PrivateEngine]:
    with private_engine() as engine:
        import_shell(engine, SHELL)
        yield engine


@pytest.fixture(scope="module")
def nvidia() -> Iterator[PrivateEngine]:
    with private_engine(nvidia=True) as engine:
        import_shell(engine, SHELL)
        yield engine


@pytest.fixture(scope="module")
def with_cdi() -> Iterator[PrivateEngine]:
    """Has NVIDIA's runtime too: a specification goes before it."""
    with private_engine(nvidia=True, cdi=CDI.format(kind="nvidia.com/gpu")) as engine:
        import_shell(engine, SHELL)
        yield engine


Start = Callable[[PrivateEngine, GpuAccess], tuple[GpuAccess, dict[str, str]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a container with GPUs by some access; gives the access that was planned and the variables it saw."""

    def started(
        engine: PrivateEngine, access: GpuAccess
    ) -> tuple[GpuAccess, dict[str, str]]:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        with DockerEngine(new_run_id()) as client:
            plan = plan_gpu(client.gpu_support(), access)
            with client.container(
                SHELL, ContainerSpec(command=("env",), gpu=plan)
            ) as container:
                lines = list(container.lines(30))
                assert container.wait() == (0, False)
        return plan.access, dict(line.split("=", 1) for line in lines)

    return started


# --- the files of a job --------------------------------------------------------------------------------------------

TRY = """
read line </envbuilder-suite/checks/a; echo "$line"
for place in /envbuilder-suite/a /a /tmp/a; do
  if (echo x >"$place") 2>/dev/null; then echo "$place is writable"; fi
done
"""


def test_job_files_are_read_only_and_removed_with_the_job(
    plain: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", plain.host)
    job = ContainerSpec(
        command=("sh", "-c", TRY),
        files={f"{SUITE_FOLDER}/checks/a": b"hello\n"},
        read_only=True,
    )
    with (
        DockerEngine(new_run_id()) as client,
        client.container(SHELL, job) as container,
    ):
        assert list(container.lines(30)) == ["hello", "/tmp/a is writable"]
    assert (
        plain.docker("ps", "--all", "--quiet")
        == plain.docker("volume", "ls", "--quiet")
        == ""
    )


def test_the_volume_of_a_killed_run_is_swept(
    plain: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", plain.host)
    host, pid, began = new_run_id().rsplit(":", 2)
    volume = plain.docker(
        "volume", "create", "--label", f"{RUN_LABEL}={host}:{pid}:{began}0"
    ).strip()
    mount = f"type=volume,source={volume},target={SUITE_FOLDER}"
    plain.docker(
        "create",
        "--label",
        f"{RUN_LABEL}={host}:{pid}:{began}0",
        "--mount",
        mount,
        SHELL,
        "sh",
    )
    with DockerEngine(new_run_id()) as client:
        assert client.sweep() == 2
    assert (
        plain.docker("ps", "--all", "--quiet")
        == plain.docker("volume", "ls", "--quiet")
        == ""
    )


# --- GPUs ----------------------------------------------------------------------------------------------------------


def test_engine_reports_its_gpu_support(
    plain: PrivateEngine,
    nvidia: PrivateEngine,
    with_cdi: PrivateEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = []
    for engine in (plain, nvidia, with_cdi):
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        with DockerEngine(new_run_id()) as client:
            offers.append(client.gpu_support())
    assert ["nvidia" in offer.runtimes for offer in offers] == [False, True, True]
    assert [offer.cdi_devices for offer in offers] == [(), (), ("nvidia.com/gpu=all",)]


def test_auto_takes_the_runtime(nvidia: PrivateEngine, start: Start) -> None:
    before = nvidia.calls("runtime")
    access, seen = start(nvidia, GpuAccess.AUTO)
    assert access is GpuAccess.RUNTIME
    assert seen["NVIDIA_VISIBLE_DEVICES"] == "all"
    new = nvidia.calls("runtime")[len(before) :]
    assert any(" create " in call for call in new)
    assert any(" start " in call for call in new)


def test_gpus_all_calls_the_hook(nvidia: PrivateEngine, start: Start) -> None:
    before = nvidia.calls("hook"), nvidia.calls("runtime")
    access, seen = start(nvidia, GpuAccess.GPUS)
    assert access is GpuAccess.GPUS
    assert seen["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert nvidia.calls("hook")[len(before[0]) :] == ["prestart"]
    assert nvidia.calls("runtime") == before[1]


def test_auto_takes_cdi_before_the_runtime(
    with_cdi: PrivateEngine, start: Start
) -> None:
    before = with_cdi.calls("hook"), with_cdi.calls("runtime")
    access, seen = start(with_cdi, GpuAccess.AUTO)
    assert access is GpuAccess.CDI
    assert seen["STAND_IN_GPU"] == "all"
    assert "NVIDIA_VISIBLE_DEVICES" not in seen
    assert (with_cdi.calls("hook"), with_cdi.calls("runtime")) == before


def test_access_none_uses_no_gpu(with_cdi: PrivateEngine, start: Start) -> None:
    before = with_cdi.calls("hook"), with_cdi.calls("runtime")
    access, seen = start(with_cdi, GpuAccess.NONE)
    assert access is GpuAccess.NONE
    assert "STAND_IN_GPU" not in seen
    assert seen["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert (with_cdi.calls("hook"), with_cdi.calls("runtime")) == before


def test_a_failing_driver_is_named(start: Start) -> None:
    says = "nvidia-container-cli: initialization error: nvml error: driver not loaded"
    with private_engine(nvidia=True, hook_says=says) as engine:
        import_shell(engine, SHELL)
        with pytest.raises(EngineError) as caught:
            start(engine, GpuAccess.GPUS)
        assert caught.value.message.startswith(
            "the NVIDIA runtime could not prepare the container: "
        )
        assert says in caught.value.message
        assert "`--gpu-access none`" in caught.value.hint
        assert engine.calls("hook") == ["prestart"]
        assert engine.docker("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (
            GpuAccess.GPUS,
            "the engine has no NVIDIA Container Toolkit for `--gpus all`: ",
        ),
        (GpuAccess.RUNTIME, "the engine has no runtime called nvidia: "),
        (GpuAccess.CDI, "the engine does not support CDI: "),
    ],
)
def test_engine_without_nvidia_is_reported(
    plain: PrivateEngine, start: Start, access: GpuAccess, said: str
) -> None:
    assert start(plain, GpuAccess.AUTO)[0] is GpuAccess.NONE
    with pytest.raises(EngineError) as caught:
        start(plain, access)
    assert caught.value.message.startswith(said)
    assert "`--gpu-access none`" in caught.value.hint
    assert plain.docker("ps", "--all", "--quiet") == ""


def test_engine_with_foreign_cdi_specifications_is_reported(start: Start) -> None:
    with private_engine(cdi=CDI.format(kind="other.example/gpu")) as engine:
        import_shell(engine, SHELL)
        assert start(engine, GpuAccess.AUTO)[0] is GpuAccess.NONE
        with pytest.raises(EngineError) as caught:
            start(engine, GpuAccess.CDI)
    assert caught.value.message.startswith(
        "the engine knows no CDI device nvidia.com/gpu=all: "
    )


# --- builds --------------------------------------------------------------------------------------------------------


def failed_build(
    folder: Path,
    dockerfile: str,
    *,
    host: str = "",
    on_change: Callable[[BuildProgress], None] = lambda progress: None,
) -> EngineError:
    """What a build of `dockerfile` fails with, by the engine at `host` or else the one that the others use."""
    context = folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    environ = {
        **os.environ,
        "BUILDX_CONFIG": str(folder / "buildx"),
        **({"DOCKER_HOST": host} if host else {}),
    }
    with pytest.raises(EngineError) as caught:
        builds.build(
            context,
            dockerfile="Dockerfile",
            log=folder / "build.log",
            options=BuildOptions(),
            network=Network(),
            environ=environ,
            on_change=on_change,
        )
    assert caught.value.exit_code == 6
    assert Path(caught.value.log).read_text()
    return caught.value


def pid_namespace(process: str) -> str:
    try:
        return str(Path(f"/proc/{process}/ns/pid").readlink())
    except OSError:
        return ""


def test_engine_crash_during_a_build_is_reported_without_leftovers(
    tmp_path: Path,
) -> None:
    at_death: list[str] = []

    def kill(progress: BuildProgress) -> None:
        running = [
            step for step in progress.steps.values() if "running" in step.log
        ]  # output of the step, not its name
        if running and not at_death:
            at_death.append(pid_namespace(str(engine.pid)))
            assert not running[0].done
            engine.kill()

    with private_engine() as engine:
        import_shell(engine, SHELL)
        text = f"FROM {SHELL}\nRUN --network=none echo running; sleep 60\n"
        error = failed_build(tmp_path, text, host=engine.host, on_change=kill)
    assert at_death, Path(error.log).read_text()
    assert "the engine died" in error.message, (
        error.problems,
        Path(error.log).read_text(),
    )
    assert "`sudo systemctl start docker`" in error.hint
    assert at_death[0] not in [
        pid_namespace(path.name) for path in Path("/proc").glob("[0-9]*")
    ]
    assert str(engine.folder) not in Path("/proc/mounts").read_text()
    assert list(Path("/sys/fs/cgroup").glob(f"**/{engine.folder.name}")) == []
    assert not engine.folder.exists()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with private_engine(disk="64m") as engine:
        import_shell(engine, SHELL)
        text = f"FROM {SHELL}\nRUN --network=none dd if=/dev/zero of=/big bs=1M count=200\n"
        error = failed_build(tmp_path, text, host=engine.host)
    assert "the disk is full" in error.message, (
        error.problems,
        Path(error.log).read_text(),
    )
    assert any("No space left on device" in line for line in error.problems)
    assert "`docker builder prune`" in error.hint


@pytest.fixture
def built(request: pytest.FixtureRequest) -> str:
    """An image with a Python: the one that is there, else the one under test, which takes minutes to build."""
    if docker("image", "inspect", BUILT, check=False).returncode == 0:
        return BUILT
    image: Image = request.getfixturevalue("image")
    return image.tag


def test_a_cut_network_is_named(tmp_path: Path, built: str) -> None:
    look = "import urllib.request; urllib.request.urlopen('http://index.invalid')"
    error = failed_build(
        tmp_path, f'FROM {built}\nRUN --network=none python3 -c "{look}"\n'
    )
    assert "the network is down" in error.message, (
        error.problems,
        Path(error.log).read_text(),
    )
    assert any("name resolution" in line for line in error.problems)
    assert "`HTTPS_PROXY`" in error.hint


def test_missing_base_is_named(tmp_path: Path, plain: PrivateEngine) -> None:
    error = failed_build(tmp_path, "FROM registry.invalid/nothing:1\n", host=plain.host)
    assert "the base image was not found on any reachable registry" in error.message, (
        error.problems,
        Path(error.log).read_text(),
    )
    assert "--base bootstrap`" in error.hint
