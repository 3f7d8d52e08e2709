"""Rules about the machine itself: its disk and its memory."""

from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning

_IMAGE_BYTES = 15_000_000_000  # a build's layers, its cache mounts and the export, at the same time
_COMFORT = 2  # times that
_SHM_BYTES = 1_000_000_000  # what compose.yaml and the suite give a container


def disk_has_room(case: Case) -> Finding | None:
    host = case.host
    if host.engine_is_elsewhere:
        return None
    if host.disk_free is None:
        return unknown("disk", "how much room the engine has for images is unknown")
    free = f"{host.disk_free / 1e9:.0f} GB are free where the engine keeps its images"
    if host.disk_free < _IMAGE_BYTES:
        return error(
            "disk",
            free,
            f"a build of a CUDA image needs {_IMAGE_BYTES / 1e9:.0f} GB, and ends in `no space left on device`",
            remedies.PRUNE,
        )
    if host.disk_free < _COMFORT * _IMAGE_BYTES:
        return warning("disk", free, "that is one build of a CUDA image, not two", remedies.PRUNE)
    return fine("disk", free)


def shared_memory_is_enough(case: Case) -> Finding | None:
    host = case.host
    why = "DataLoader workers and NCCL pass tensors through /dev/shm and die with SIGBUS when it is full"
    if host.container and host.shm is not None and host.shm < _SHM_BYTES:
        message = f"this container has {host.shm / 2**20:.0f} MiB of shared memory"
        return warning("shm", message, why, remedies.MORE_SHM)
    if host.engine_is_elsewhere:
        return None
    if host.shm_default is None:
        return unknown("shm", "how much shared memory containers get is unknown")
    message = f"containers get {host.shm_default / 2**20:.0f} MiB of shared memory unless they ask for more"
    if host.shm_default < _SHM_BYTES:
        say = note if host.shm_default >= 64 * 2**20 else warning
        return say("shm", message, f"{why}; compose.yaml and the suite ask", remedies.MORE_SHM)
    return fine("shm", message)
