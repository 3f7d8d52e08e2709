"""What runs in a container, and its options for the SDK."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, run_options

RUN_LABEL = "dev.envbuilder.run"
SHM_SIZE = "1g"  # Docker's 64 MB break DataLoader workers (SIGBUS)
LOG = {
    "type": "json-file",
    "config": {"max-size": "10m", "max-file": "1"},
}  # stdout is followed while it runs
PROCESSES = 16_384  # and threads: torch starts as many as there are cores, in each of its processes
# Bounded, unlike a layer or a volume. Without a mode it takes that of the image's own /tmp, so that a check can see a
# wrong one; with `exec`, as libraries that are compiled there are loaded from there.
TMPFS = {"/tmp": "exec,size=2g"}  # noqa: S108 - the container's
SUITE_FOLDER = "/envbuilder-suite"
NO_GPU = {
    "NVIDIA_VISIBLE_DEVICES": "void"
}  # if NVIDIA's runtime is the engine's default, it adds no GPU and no driver


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What runs in a container, and how: without network, capabilities and ways to gain more."""

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    gpu: GpuPlan | None = None
    user: str | None = None
    memory: str | None = None  # as in `docker run --memory`
    files: Mapping[str, bytes] = field(
        default_factory=dict
    )  # path below SUITE_FOLDER, absolute → content; read-only
    folder: tuple[Path, str] | None = None  # (on the host, in the container), writable
    read_only: bool = False  # its root file system, except /tmp and /dev/shm
    environment: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[
        str, ...
    ] = ()  # of Linux; a process that is not root has none in any case


def create_options(spec: ContainerSpec, run_id: str, memory: int = 0) -> dict[str, Any]:
    """A container as the keyword arguments of docker-py's `containers.create`, with the label of its run.

    `memory`: its limit in bytes if the specification has none, so that too much ends the container, not the machine.
    """
    options: dict[str, Any] = dict(run_options(spec.gpu)) if spec.gpu else {}
    has_gpu = spec.gpu is not None and spec.gpu.access is not GpuAccess.NONE
    without_gpu = {} if has_gpu else NO_GPU
    options["environment"] = {
        **without_gpu,
        **options.get("environment", {}),
        **spec.environment,
    }
    if spec.entrypoint:
        options["entrypoint"] = list(spec.entrypoint)
    if spec.memory:
        options |= {"mem_limit": spec.memory, "memswap_limit": spec.memory}
    elif memory:
        options["mem_limit"] = memory
    if spec.folder:
        on_host, inside = spec.folder
        options["volumes"] = [f"{on_host}:{inside}"]
    if spec.read_only:
        options |= {"read_only": True, "tmpfs": TMPFS}
    return options | {
        "labels": {RUN_LABEL: run_id},
        "network_mode": "none",
        "shm_size": SHM_SIZE,
        "user": spec.user,
        "init": False,
        "cap_drop": ["ALL"],
        "cap_add": list(spec.capabilities),
        "security_opt": ["no-new-privileges"],
        "pids_limit": PROCESSES,
        "log_config": LOG,
    }


def suite_mount(volume: str, *, read_only: bool) -> dict[str, Any]:
    """The mount of the volume with the container's files; nothing that the image has there is copied into it."""
    return {
        "Type": "volume",
        "Source": volume,
        "Target": SUITE_FOLDER,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def volume_filler_options(volume: str, run_id: str) -> dict[str, Any]:
    """Options of a container that never starts: files get into a volume through it."""
    mounts = [suite_mount(volume, read_only=False)]
    return {"labels": {RUN_LABEL: run_id}, "network_mode": "none", "mounts": mounts}
