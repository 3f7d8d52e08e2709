"""Rules about the machine itself: its disk and its memory."""

from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning

_IMAGE_BYTES = 15_000_000_000  # a build's layers, its cache mounts and the export, at the same time
_COMFORT = 2  # times that
_SHM_BYTES = 1_000_000_000  # what compose.yaml and the suite give a container
_DOCKER_SHM_BYTES = 64 * 2**20  # what Docker gives one by default


def disk_has_room(case: Case) -> Finding | None:
    free = case.host.engine.disk_free
    if case.host.engine.is_remote:
        return None
    if free is None:
        return unknown("disk", "how much disk space is free for images is unknown")
    message = f"{free / 1e9:.0f} GB are free where the engine keeps its images"
    if free < _IMAGE_BYTES:
        needed = _IMAGE_BYTES / 1e9
        why = f"building a CUDA image needs {needed:.0f} GB, else it fails with `no space left on device`"
        return error("disk", message, why, remedies.PRUNE)
    if free < _COMFORT * _IMAGE_BYTES:
        return warning(
            "disk", message, "enough for one CUDA image build", remedies.PRUNE
        )
    return fine("disk", message)


def shared_memory_is_enough(case: Case) -> Finding | None:
    machine = case.host.machine
    why = "DataLoader workers and NCCL pass tensors through /dev/shm and die with SIGBUS when it is full"
    if machine.container and machine.shm is not None and machine.shm < _SHM_BYTES:
        size = machine.shm / 2**20
        message = f"this container has {size:.0f} MiB of shared memory"
        return warning("shm", message, why, remedies.MORE_SHM)
    if case.host.engine.is_remote:
        return None
    default = case.host.engine.shm_default
    if default is None:
        return unknown("shm", "how much shared memory containers get is unknown")
    message = f"containers get {default / 2**20:.0f} MiB of shared memory by default"
    if default >= _SHM_BYTES:
        return fine("shm", message)
    severity = note if default >= _DOCKER_SHM_BYTES else warning
    return severity(
        "shm",
        message,
        f"{why}; compose.yaml and the suite request more",
        remedies.MORE_SHM,
    )
