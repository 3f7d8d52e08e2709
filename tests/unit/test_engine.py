"""What the engine is given and what it says, without one: tars, images, the options of a container, its machine."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envbuilder.engine import archive, run_id
from envbuilder.engine import info as machine
from envbuilder.engine.archive import pack
from envbuilder.engine.container_spec import ContainerSpec, create_options
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, GpuSupport
from envbuilder.engine.image import ImageFacts, facts_of

CHUNK = 7  # bytes a chunk: no member of a tar ends where one does


class Download:
    """A tar as the engine sends it; knows whether it was ended."""

    def __init__(self, content: bytes) -> None:
        self.closed = False
        self._chunks = (
            content[start : start + CHUNK] for start in range(0, len(content), CHUNK)
        )

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.closed = True


def test_files_come_out_as_they_went_in() -> None:
    with tarfile.open(
        fileobj=io.BytesIO(pack({"/b/two": b"2", "/a": b"one"}))
    ) as packed:
        found = [(m.name, m.mode, packed.extractfile(m).read()) for m in packed]  # type: ignore[union-attr]
    assert found == [("a", 0o644, b"one"), ("b/two", 0o644, b"2")]


def test_the_first_file_is_read_and_the_download_ended() -> None:
    download = Download(pack({"/etc/os-release": b"ID=debian\n" * 999, "/later": b""}))
    assert archive.first_file(download) == b"ID=debian\n" * 999
    assert download.closed


def test_a_folder_and_a_huge_file_are_no_file() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        written.addfile(folder)
    assert archive.first_file(Download(buffer.getvalue())) is None
    assert archive.first_file(iter([pack({"/huge": bytes(16_000_001)})])) is None


def test_requested_files_of_every_layer_are_read() -> None:
    layers = {
        "blobs/1": pack({"/root/.netrc": b"old"}),
        "blobs/2": pack({"/root/.netrc": b"x" * 100_001, "/b": b""}),
    }
    image = Download(
        pack(
            {**layers, "manifest.json": json.dumps([{"Layers": list(layers)}]).encode()}
        )
    )
    found = list(archive.files_of_layers(image, lambda path: path.startswith("/root")))
    assert found == [
        ("/root/.netrc", 3, b"old"),
        ("/root/.netrc", 100_001, b"x" * 100_000),
    ]
    assert image.closed


def test_image_facts_come_from_inspect() -> None:
    attrs = {
        "Id": "sha256:1", "Size": 5, "Created": "2026-01-01", "Os": "linux", "Architecture": "arm64", "Variant": "v8",
        "RepoDigests": ["debian@sha256:2"],
        "Config": {"Env": ["A=1"], "Cmd": ["bash"], "User": "me", "Labels": None, "Entrypoint": None},
    }  # fmt: skip
    assert facts_of(attrs) == ImageFacts(
        id="sha256:1", labels={}, env=("A=1",), created="2026-01-01", platform="linux/arm64/v8", user="me",
        entrypoint=(), command=("bash",), size=5, digest="sha256:2", config=attrs["Config"],
    )  # fmt: skip
    assert facts_of({"Id": "sha256:1", "Size": 0}) == ImageFacts(
        id="sha256:1", labels={}, env=(), size=0, digest=None
    )


def test_a_container_gets_no_more_than_it_needs() -> None:
    least = {
        "labels": {"dev.envbuilder.run": "here:1:2"}, "network_mode": "none", "shm_size": "1g", "init": False,
        "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "pids_limit": 16384,
        "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "1"}},
    }  # fmt: skip
    no_gpu = {"NVIDIA_VISIBLE_DEVICES": "void"}
    plain = {"environment": no_gpu, "user": None, "cap_add": []}
    assert create_options(ContainerSpec(command=("true",)), "here:1:2") == least | plain
    assert create_options(
        ContainerSpec(command=("true",)), "here:1:2", 9
    ) == least | plain | {"mem_limit": 9}
    job = ContainerSpec(
        command=(), entrypoint=("python",), user="0", memory="2g", folder=(Path("/out"), "/runs"), read_only=True,
        environment={"A": "1"}, capabilities=("DAC_READ_SEARCH",),
    )  # fmt: skip
    assert create_options(job, "here:1:2", 9) == least | {
        "environment": {**no_gpu, "A": "1"}, "user": "0", "entrypoint": ["python"], "mem_limit": "2g",
        "memswap_limit": "2g", "volumes": ["/out:/runs"], "read_only": True, "tmpfs": {"/tmp": "exec,size=2g"},
        "cap_add": ["DAC_READ_SEARCH"],
    }  # fmt: skip


def test_container_gets_a_gpu_only_on_request() -> None:
    void = {"NVIDIA_VISIBLE_DEVICES": "void"}
    environments = {}
    for access in GpuAccess:
        job = ContainerSpec(command=(), gpu=GpuPlan(access=access, reason=""))
        environments[access] = create_options(job, "here:1:2")["environment"]
    assert environments[GpuAccess.NONE] == void
    assert void not in [
        environments[access]
        for access in (GpuAccess.CDI, GpuAccess.RUNTIME, GpuAccess.GPUS)
    ]


def test_a_container_leaves_memory_to_the_machine() -> None:
    assert machine.memory_to_give({"MemTotal": 10_000_000_000}) == 9_000_000_000
    for info in (
        {},
        {"MemTotal": 1},
        {"MemTotal": 10_000_000_000, "MemoryLimit": False},
    ):
        assert machine.memory_to_give(info) == 0


def test_the_machine_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(
        'kind: nvidia.com/gpu\ndevices:\n- name: "all"\n'
    )
    info = {
        "ServerVersion": "27.0", "KernelVersion": "6.1", "OperatingSystem": "Debian 13", "Architecture": "aarch64",
        "NCPU": 2, "MemTotal": 9, "OSType": "linux", "Runtimes": {"runc": {}, "nvidia": {}}, "Name": "elsewhere",
        "CDISpecDirs": [str(tmp_path)], "SecurityOptions": ["name=rootless"],
    }  # fmt: skip
    facts = {
        "engine": "27.0",
        "kernel": "6.1",
        "os": "Debian 13",
        "architecture": "aarch64",
        "cpus": 2,
        "memory": 9,
    }
    assert machine.facts(info) == facts
    assert machine.platform(info) == "linux/arm64"
    assert machine.maps_users(info)
    assert not machine.maps_users({"SecurityOptions": ["name=seccomp,profile=builtin"]})
    assert machine.gpu_support(info) == GpuSupport(
        runtimes=("nvidia", "runc"),
        cdi_devices=("nvidia.com/gpu=all",),
        device_nodes=False,
    )


@pytest.mark.parametrize(
    ("run", "alive"), [("elsewhere:1:2", True), ("no run id", True), ("", True)]
)
def test_run_counts_as_alive_if_in_doubt(run: str, alive: bool) -> None:
    assert run_id.is_alive(run) is alive


def test_a_run_lives_as_long_as_its_process() -> None:
    mine = run_id.new_run_id()
    assert run_id.is_alive(mine)
    assert not run_id.is_alive(mine + "0")


def test_two_builds_at_the_same_second_have_a_log_each(tmp_path: Path) -> None:
    now = datetime(2026, 11, 27, 12, 0, 1, tzinfo=UTC)
    one, two = (run_id.stamp(run, now) for run in ("host:1:100", "host:2:100"))
    assert one != two
    assert re.fullmatch(r"20261127T120001-[0-9a-f]{6}", one)
    later = run_id.stamp("host:1:100", now.replace(second=2))
    assert sorted([later, two, one])[-1] == later, (
        "older logs are removed by their names"
    )
