"""What runs in a container, and how the SDK is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, run_options

RUN_LABEL = "dev.envbuilder.run"
SHM_SIZE = "1g"  # Docker's 64 MB break DataLoader workers (SIGBUS)
LOG = {"type": "json-file", "config": {"max-size": "10m", "max-file": "1"}}  # stdout is followed while it runs
PROCESSES = 16_384  # and threads: torch starts as many as there are cores, in each of its processes
# Bounded, unlike a layer or a volume. Without a mode it has that of the image's own folder, so that a check can see a
# wrong one; `exec`, for what is compiled there is loaded from there.
TMPFS = {"/tmp": "exec,size=2g"}  # noqa: S108 - the container's
SUITE_FOLDER = "/envbuilder-suite"
NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void"}  # where NVIDIA's runtime is the default, it gives none and no driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs in a container, and how: without network, capabilities and ways to get more than it has."""

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    gpu: GpuPlan | None = None
    user: str | None = None
    memory: str | None = None  # as `docker run --memory` takes it
    files: Mapping[str, bytes] = field(default_factory=dict)  # path below SUITE_FOLDER, absolute → content; read-only
    folder: tuple[Path, str] | None = None  # (on the host, in the container), writable
    read_only: bool = False  # its root file system, but for /tmp and /dev/shm
    environment: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()  # of Linux; a process that is not root has none in any case


def create_options(job: Job, run_id: str, memory: int = 0) -> dict[str, Any]:
    """A job as the keyword arguments of docker-py's `containers.create`, under the label of its run.

    `memory`: bytes it gets where the job does not say, so that it is the container that ends and not the machine.
    """
    options: dict[str, Any] = dict(run_options(job.gpu)) if job.gpu else {}
    has_gpu = job.gpu is not None and job.gpu.access is not GpuAccess.NONE
    options["environment"] = {**({} if has_gpu else NO_GPU), **options.get("environment", {}), **job.environment}
    if job.entrypoint:
        options["entrypoint"] = list(job.entrypoint)
    if job.memory:
        options |= {"mem_limit": job.memory, "memswap_limit": job.memory}
    elif memory:
        options["mem_limit"] = memory
    if job.folder:
        options["volumes"] = [f"{job.folder[0]}:{job.folder[1]}"]
    if job.read_only:
        options |= {"read_only": True, "tmpfs": TMPFS}
    return options | {
        "labels": {RUN_LABEL: run_id},
        "network_mode": "none",
        "shm_size": SHM_SIZE,
        "user": job.user,
        "init": False,
        "cap_drop": ["ALL"],
        "cap_add": list(job.capabilities),
        "security_opt": ["no-new-privileges"],
        "pids_limit": PROCESSES,
        "log_config": LOG,
    }


def suite_mount(volume: str, *, read_only: bool) -> dict[str, Any]:
    """The volume with the job's files, at its place; nothing that the image has there is copied into it."""
    return {
        "Type": "volume",
        "Source": volume,
        "Target": SUITE_FOLDER,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def filler_options(volume: str, run_id: str) -> dict[str, Any]:
    """What makes a container that never starts, and through which files get into a volume."""
    mounts = [suite_mount(volume, read_only=False)]
    return {"labels": {RUN_LABEL: run_id}, "network_mode": "none", "mounts": mounts}
