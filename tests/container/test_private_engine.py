"""GPU plumbing through a stand-in for NVIDIA's runtime, and engines that die, fill up or lose the network."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from envbuilder.engine import build as builds
from envbuilder.engine.buildx import BuildOptions, Progress
from envbuilder.engine.client import Engine, new_run_id
from envbuilder.errors import EngineError
from envbuilder.gpu import GpuAccess, plan_gpu
from envbuilder.network import Network

from .conftest import Image
from .private_engine import PrivateEngine, import_shell, private_engine

SHELL = "test/shell:1"
CDI = """cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits:
      env: [STAND_IN_GPU=all]
"""


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    folder = tmp_path_factory.mktemp("nvidia")
    (folder / "cdi").mkdir()
    (folder / "cdi" / "nvidia.yaml").write_text(CDI)
    (folder / "daemon.json").write_text(f'{{"features": {{"cdi": true}}, "cdi-spec-dirs": ["{folder}/cdi"]}}')
    with private_engine(folder / "e", nvidia=True, options=["--config-file", str(folder / "daemon.json")]) as engine:
        import_shell(engine, SHELL)
        yield engine


def environment(engine: PrivateEngine, access: GpuAccess, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that a container sees when it gets GPUs by `access`."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with Engine(new_run_id()) as client:
        plan = plan_gpu(client.offers(), access)
        with client.container(SHELL, ["env"], gpu=plan) as container:
            lines = list(container.lines(30))
            assert container.wait() == (0, False)
    return dict(line.split("=", 1) for line in lines)


def test_auto_finds_the_cdi_specification(nvidia: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment(nvidia, GpuAccess.AUTO, monkeypatch)["STAND_IN_GPU"] == "all"


def test_the_runtime_is_called(nvidia: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = nvidia.calls.count("runtime")
    assert environment(nvidia, GpuAccess.RUNTIME, monkeypatch)["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert nvidia.calls.count("runtime") > before


def test_gpus_all_calls_the_hook(nvidia: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = nvidia.calls.count("prestart")
    assert environment(nvidia, GpuAccess.GPUS, monkeypatch)["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert nvidia.calls.count("prestart") > before


def test_none_touches_no_gpu(nvidia: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = nvidia.calls
    seen = environment(nvidia, GpuAccess.NONE, monkeypatch)
    assert not {"STAND_IN_GPU", "NVIDIA_VISIBLE_DEVICES"} & seen.keys()
    assert nvidia.calls == before


def test_a_failing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "nvidia-container-cli: initialization error: nvml error: driver not loaded"
    with private_engine(tmp_path / "e", nvidia=True, hook_says=says) as engine:
        import_shell(engine, SHELL)
        with pytest.raises(EngineError) as caught:
            environment(engine, GpuAccess.GPUS, monkeypatch)
        assert "the NVIDIA runtime could not prepare the container" in caught.value.message
        assert "driver not loaded" in caught.value.message
        assert "--gpu-access none" in caught.value.hint
        assert engine.docker("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(
    ("access", "said"),
    [(GpuAccess.GPUS, "Container Toolkit"), (GpuAccess.RUNTIME, "no runtime called nvidia"), (GpuAccess.CDI, "CDI")],
)
def test_an_engine_without_nvidia_says_so(image: Image, access: GpuAccess, said: str) -> None:
    with Engine(new_run_id()) as client, pytest.raises(EngineError) as caught:  # noqa: SIM117
        with client.container(image.id, ["true"], gpu=plan_gpu(client.offers(), access)) as container:
            list(container.lines(30))
    assert said in caught.value.message
    assert "--gpu-access none" in caught.value.hint


def failed_build(folder: Path, dockerfile: str, host: str = "", kill: PrivateEngine | None = None) -> EngineError:
    """What a build of `dockerfile` fails with; `kill` is an engine to kill as soon as its step runs."""
    context = folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    killed = threading.Event()

    def on_change(progress: Progress) -> None:
        if kill and not killed.is_set() and any("running" in line for line in progress.log):
            killed.set()
            kill.kill()

    with pytest.raises(EngineError) as caught:
        builds.build(
            context,
            log=folder / "build.log",
            options=BuildOptions(),
            network=Network(),
            environ={**os.environ, **({"DOCKER_HOST": host} if host else {})},
            on_change=on_change,
        )
    assert caught.value.exit_code == 6
    assert Path(caught.value.log).read_text()
    return caught.value


def test_an_engine_that_dies_in_a_build_is_named(tmp_path: Path) -> None:
    with private_engine(tmp_path / "e") as engine:
        import_shell(engine, SHELL)
        text = f"FROM {SHELL}\nRUN --network=none echo running; sleep 20\n"
        error = failed_build(tmp_path, text, engine.host, engine)
    assert "the engine died" in error.message, (error.problems, Path(error.log).read_text())
    assert "tools/engine up" in error.hint


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with private_engine(tmp_path / "e", disk="64m") as engine:
        import_shell(engine, SHELL)
        text = f"FROM {SHELL}\nRUN --network=none dd if=/dev/zero of=/big bs=1M count=200\n"
        error = failed_build(tmp_path, text, engine.host)
    assert "the disk is full" in error.message, (error.problems, Path(error.log).read_text())
    assert "docker builder prune" in error.hint


def test_a_cut_network_is_named(tmp_path: Path, image: Image) -> None:
    look = "import urllib.request; urllib.request.urlopen('http://index.invalid')"
    error = failed_build(tmp_path, f'FROM {image.tag}\nRUN --network=none python -c "{look}"\n')
    assert "the network was cut" in error.message
    assert any("name resolution" in line for line in error.problems)


def test_a_base_that_nobody_has_is_named(tmp_path: Path) -> None:
    error = failed_build(tmp_path, "FROM registry.invalid/nothing:1\n")
    assert "the base image cannot be had" in error.message
    assert "--base bootstrap" in error.hint
