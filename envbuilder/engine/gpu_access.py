"""How a container gets GPUs, by what the engine supports. Pure: `Engine.offers` is what `plan_gpu` chooses from."""

from dataclasses import dataclass
from enum import StrEnum

from envbuilder.grammar import JsonObject

CDI_ALL = "nvidia.com/gpu=all"
RUNTIME = "nvidia"


class GpuAccess(StrEnum):
    """The ways a container can get GPUs; `auto` takes the first that the engine supports."""

    AUTO = "auto"
    CDI = "cdi"  # --device nvidia.com/gpu=all
    RUNTIME = "runtime"  # --runtime nvidia
    GPUS = "gpus"  # --gpus all
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSupport:
    """The ways to GPUs that the engine and its host have."""

    runtimes: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    device_nodes: bool = False  # /dev/nvidia* on this host, if the engine runs on it


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """The chosen way, and why; `run_options` makes the SDK's options of it."""

    access: GpuAccess
    reason: str


def plan_gpu(support: GpuSupport, wanted: GpuAccess = GpuAccess.AUTO) -> GpuPlan:
    """CDI before the runtime before `--gpus all`: CDI names its devices, `--gpus all` relies on a hook being there."""
    if wanted is GpuAccess.NONE:
        return GpuPlan(access=wanted, reason="no GPU, as requested: running on the CPU")
    if wanted is not GpuAccess.AUTO:
        return GpuPlan(
            access=wanted, reason=f"GPUs with {_FLAGS[wanted]}, as requested"
        )
    if CDI_ALL in support.cdi_devices:
        return _plan(
            GpuAccess.CDI, "the engine has a CDI specification for NVIDIA GPUs"
        )
    if RUNTIME in support.runtimes:
        return _plan(GpuAccess.RUNTIME, "the engine has the NVIDIA runtime")
    if support.device_nodes:
        return _plan(GpuAccess.GPUS, "this host has NVIDIA devices")
    return GpuPlan(
        access=GpuAccess.NONE,
        reason="no GPU: the engine has no NVIDIA runtime and no CDI specification; running on the CPU",
    )


_FLAGS = {
    GpuAccess.CDI: f"`--device {CDI_ALL}`",
    GpuAccess.RUNTIME: "`--runtime nvidia`",
    GpuAccess.GPUS: "`--gpus all`",
}


def _plan(access: GpuAccess, why: str) -> GpuPlan:
    return GpuPlan(access=access, reason=f"GPUs with {_FLAGS[access]}: {why}")


def run_options(plan: GpuPlan) -> JsonObject:
    """The plan as keyword arguments of the SDK's `containers.create`; device requests as plain dicts of the API."""
    match plan.access:
        case GpuAccess.CDI:
            return {"device_requests": [{"Driver": "cdi", "DeviceIDs": [CDI_ALL]}]}
        case GpuAccess.RUNTIME:
            return {
                "runtime": RUNTIME,
                "environment": {"NVIDIA_VISIBLE_DEVICES": "all"},
            }
        case GpuAccess.GPUS:
            return {
                "device_requests": [
                    {"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}
                ]
            }
    return {}


_FAILURES = (
    (
        'could not select device driver "cdi"',
        "the engine does not support CDI: it is too old, or CDI is turned off",
    ),
    (
        "could not select device driver",
        "the engine has no NVIDIA Container Toolkit for `--gpus all`",
    ),
    ("unknown or invalid runtime name", "the engine has no runtime called nvidia"),
    ("unresolvable CDI devices", "the engine knows no CDI device nvidia.com/gpu=all"),
    ("nvidia-container-cli", "the NVIDIA runtime could not prepare the container"),
    ("nvidia-container-runtime", "the NVIDIA runtime could not prepare the container"),
    ("unsatisfied condition", "the host's NVIDIA driver is older than the image needs"),
)


def find_gpu_failure(text: str) -> str | None:
    """Why a container got no GPU, by the error of its start; None if that has another cause."""
    for sign, meaning in _FAILURES:
        if sign in text:
            return meaning
    return None
