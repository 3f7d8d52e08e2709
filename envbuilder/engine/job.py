"""What runs in a container, and how the SDK is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbuilder.gpu import GpuPlan, run_options

RUN_LABEL = "dev.envbuilder.run"
SHM_SIZE = "1g"  # Docker's 64 MB break DataLoader workers (SIGBUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs in a container, and how. No network unless it asks for one."""

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    gpu: GpuPlan | None = None
    user: str | None = None
    memory: str | None = None  # as `docker run --memory` takes it
    files: Mapping[str, bytes] = field(default_factory=dict)  # absolute path → content, put there before it starts
    folder: tuple[Path, str] | None = None  # (on the host, in the container), writable
    read_only: bool = False  # its root file system, but for /tmp and /dev/shm
    environment: Mapping[str, str] = field(default_factory=dict)


def create_options(job: Job, run_id: str) -> dict[str, Any]:
    """A job as the keyword arguments of docker-py's `containers.create`, under the label of its run."""
    options: dict[str, Any] = dict(run_options(job.gpu)) if job.gpu else {}
    options["environment"] = {**options.get("environment", {}), **job.environment}
    if job.entrypoint:
        options["entrypoint"] = list(job.entrypoint)
    if job.memory:
        options |= {"mem_limit": job.memory, "memswap_limit": job.memory}
    if job.folder:
        options["volumes"] = [f"{job.folder[0]}:{job.folder[1]}"]
    if job.read_only:
        options |= {"read_only": True, "tmpfs": {"/tmp": "mode=1777"}}  # noqa: S108 - the container's
    labels = {RUN_LABEL: run_id}
    return options | {
        "labels": labels, "network_mode": "none", "shm_size": SHM_SIZE, "user": job.user, "init": False
    }  # fmt: skip
