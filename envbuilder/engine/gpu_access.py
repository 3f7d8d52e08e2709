"""How a container gets the GPUs, by what the engine offers. Pure: `plan_gpu` judges what `Engine.offers` asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CDI_ALL = "nvidia.com/gpu=all"
RUNTIME = "nvidia"


class GpuAccess(StrEnum):
    """The ways a container can get GPUs; `auto` takes the first that the engine offers."""

    AUTO = "auto"
    CDI = "cdi"  # --device nvidia.com/gpu=all
    RUNTIME = "runtime"  # --runtime nvidia
    GPUS = "gpus"  # --gpus all
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What the engine and its host have for GPUs."""

    runtimes: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    device_nodes: bool = False  # /dev/nvidia* on this host, if the engine runs on it


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """The chosen way and why, for the person; `run_options` for the SDK."""

    access: GpuAccess
    reason: str


def plan_gpu(offers: Offers, wanted: GpuAccess = GpuAccess.AUTO) -> GpuPlan:
    """CDI before the runtime before `--gpus all`: from what names its devices to what asks for a hook by faith."""
    if wanted is GpuAccess.NONE:
        return GpuPlan(access=wanted, reason="no GPU, as asked for: running on the CPU")
    if wanted is not GpuAccess.AUTO:
        return GpuPlan(access=wanted, reason=f"GPUs by {_FLAGS[wanted]}, as asked for")
    if CDI_ALL in offers.cdi_devices:
        return _found(GpuAccess.CDI, "the engine has a CDI specification for NVIDIA GPUs")
    if RUNTIME in offers.runtimes:
        return _found(GpuAccess.RUNTIME, "the engine has the NVIDIA runtime")
    if offers.device_nodes:
        return _found(GpuAccess.GPUS, "this host has NVIDIA devices")
    return GpuPlan(
        access=GpuAccess.NONE,
        reason="no GPU: the engine has no NVIDIA runtime and no CDI specification; running on the CPU",
    )


_FLAGS = {
    GpuAccess.CDI: f"`--device {CDI_ALL}`",
    GpuAccess.RUNTIME: "`--runtime nvidia`",
    GpuAccess.GPUS: "`--gpus all`",
}


def _found(access: GpuAccess, why: str) -> GpuPlan:
    return GpuPlan(access=access, reason=f"GPUs by {_FLAGS[access]}: {why}")


def run_options(plan: GpuPlan) -> Mapping[str, Any]:
    """The plan as keyword arguments of the SDK's `containers.create`; device requests as plain dicts of the API."""
    match plan.access:
        case GpuAccess.CDI:
            return {"device_requests": [{"Driver": "cdi", "DeviceIDs": [CDI_ALL]}]}
        case GpuAccess.RUNTIME:
            return {"runtime": RUNTIME, "environment": {"NVIDIA_VISIBLE_DEVICES": "all"}}
        case GpuAccess.GPUS:
            return {"device_requests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}
    return {}


_FAILURES = (
    ('could not select device driver "cdi"', "the engine does not do CDI: it is too old, or its feature `cdi` is off"),
    ("could not select device driver", "the engine has no NVIDIA Container Toolkit behind `--gpus all`"),
    ("unknown or invalid runtime name", "the engine has no runtime called nvidia"),
    ("unresolvable CDI devices", "the engine knows no CDI device nvidia.com/gpu=all"),
    ("nvidia-container-cli", "the NVIDIA runtime could not prepare the container"),
    ("nvidia-container-runtime", "the NVIDIA runtime could not prepare the container"),
    ("unsatisfied condition", "the host's NVIDIA driver is older than the image needs"),
)


def find_gpu_failure(text: str) -> str | None:
    """What a container's failed start says about GPUs, or None if it is about something else."""
    return next((meaning for sign, meaning in _FAILURES if sign in text), None)
