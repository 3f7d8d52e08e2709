"""What can only be checked on a GPU. Where there is none, nothing here is run, and the result says so."""

from __future__ import annotations

import glob
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence, Tuple

from acceptance.checks.identity import arch_list
from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.checks.numerics import (
    operator_differences,
    random_tensors,
    relative_difference,
)
from acceptance.processes import run_ranks
from acceptance.text import first_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

Capability = Tuple[int, int]

NOT_VISIBLE = "no GPU is visible in this container"
FOR_CPUS = "not applicable: this image is for CPUs"


# --- is there a GPU, and can it be used? ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cause:
    """Why CUDA does not start. `sign`: in what CUDA says, in lower case."""

    sign: str
    meaning: str
    remedy: str


START_WITH_GPUS = "start it with `--gpus all`; `envbuilder doctor` says what is missing"
DRIVER_TOO_OLD = "the host's driver is older than this CUDA (error 35)"
NEWER_DRIVER = "update the host's driver, or build for an older CUDA: `envbuilder resolve --driver VERSION`"
# The numbers are CUDA's own (cudaError_t).
CAUSES = (
    Cause(
        "error 803",
        "the driver and the image's CUDA compatibility library do not match (error 803)",
        "remove cuda-compat from LD_LIBRARY_PATH, or update the host's driver",
    ),
    Cause(
        "error 804",
        "the image's CUDA compatibility library works on data-center GPUs only (error 804)",
        "remove cuda-compat from the image, or update the host's driver",
    ),
    Cause(
        "error 802",
        "the GPUs' fabric is not up yet (error 802)",
        "start nvidia-fabricmanager on the host",
    ),
    Cause("error 35", DRIVER_TOO_OLD, NEWER_DRIVER),
    Cause("driver version is insufficient", DRIVER_TOO_OLD, NEWER_DRIVER),
    Cause("driver on your system is too old", DRIVER_TOO_OLD, NEWER_DRIVER),
    Cause(
        "no kernel image",
        "torch has no kernels for this GPU",
        "build for it: `envbuilder build --gpu NAME`",
    ),
    Cause("error 100", "the driver sees no GPU (error 100)", START_WITH_GPUS),
    Cause("no nvidia driver", "the container has no NVIDIA driver", START_WITH_GPUS),
    Cause(
        "error 999",
        "the driver is in a bad state (error 999)",
        "load nvidia_uvm on the host, or restart it",
    ),
)


def find_cause(text: str) -> Cause:
    """The cause that CUDA's message is a sign of; the message itself if it is not known."""
    lowered = text.lower()
    for cause in CAUSES:
        if cause.sign in lowered:
            return cause
    return Cause("", first_line(text), START_WITH_GPUS)


def check_visible(inspection: Inspection) -> Answer:
    """torch sees the GPU; one that exists and cannot be used is never passed over for the CPU."""
    import torch

    if inspection.flavour == "cpu" and not inspection.require_gpu:
        raise Skipped(FOR_CPUS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        names = [
            torch.cuda.get_device_name(number)
            for number in range(torch.cuda.device_count())
        ]
        inspection.facts["gpus"] = names
        return Answer(value=len(names), bound={"min": 1}, findings=names)
    devices = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dxg")
    if not devices and not inspection.require_gpu:
        raise Skipped(NOT_VISIBLE)
    messages = [str(warning.message) for warning in caught]
    cause = find_cause("\n".join(messages + startup_error(torch)) or NOT_VISIBLE)
    problem = (
        f"{devices[0]} exists, but torch cannot use it" if devices else NOT_VISIBLE
    )
    raise Failure(
        f"{problem}: {cause.meaning}",
        value=0,
        bound={"min": 1},
        remedy=cause.remedy,
    )


def startup_error(torch: Any) -> list[str]:
    """What CUDA says when it is started."""
    try:
        torch.cuda.init()
    except Exception as error:
        return [str(error)]
    return []


def torch_with_gpu(inspection: Inspection) -> Any:
    """torch, if it sees a GPU; without one the check is skipped."""
    import torch

    if inspection.flavour == "cpu":
        raise Skipped(FOR_CPUS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_visible has reported what they say
        if not torch.cuda.is_available():
            raise Skipped(NOT_VISIBLE)
    return torch


# --- kernels -------------------------------------------------------------------------------------------------------

ARCHITECTURE = re.compile(r"(sm|compute)_([0-9]+)([0-9])([af]?)")


def check_capability(inspection: Inspection) -> Answer:
    """torch has code for every GPU: a binary that runs on it, or PTX that the driver can compile."""
    torch = torch_with_gpu(inspection)
    architectures = arch_list(torch) or []
    problems = []
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        inspection.facts["capability"] = f"{major}.{minor}"
        if not runs_on(architectures, (major, minor)):
            name = torch.cuda.get_device_name(number)
            problems.append(
                f"{name} has compute capability {major}.{minor}, torch has kernels for {' '.join(architectures)}"
            )
    return inspection.require(
        "gpu.capability",
        len(problems),
        detail="; ".join(problems),
        remedy=f"build for this GPU: `envbuilder build --gpu {inspection.facts.get('capability', 'NAME')}`",
    )


def runs_on(architectures: Sequence[str], capability: Capability) -> bool:
    """Whether code for some of the architectures (sm_86, compute_90, sm_100f) runs on a GPU (8, 6)."""
    return any(code_runs_on(architecture, capability) for architecture in architectures)


def code_runs_on(architecture: str, capability: Capability) -> bool:
    """The rules of the CUDA C++ Programming Guide, "Compute Capabilities" and "Binary Compatibility".

    sm_XY, a binary, runs on X.Y and later minor versions; compute_XY, which the driver compiles, on everything from X.Y
    on. With an `a` (architecture-specific) both run on X.Y alone, with an `f` (family-specific) on X.Y and later minor
    versions.
    """
    match = ARCHITECTURE.fullmatch(architecture)
    if match is None:
        return False
    kind, major, minor, suffix = match.groups()
    built_for = (int(major), int(minor))
    if suffix == "a":
        return capability == built_for
    if capability < built_for:
        return False
    same_family = capability[0] == built_for[0]
    return same_family or (kind == "compute" and not suffix)


def check_kernel(inspection: Inspection) -> Answer:
    """A kernel really runs and agrees with the CPU."""
    torch = torch_with_gpu(inspection)
    numbers = torch.arange(4096.0).reshape(64, 64) / 4096
    try:
        seen = (numbers.cuda() @ numbers.cuda()).cpu()
    except (
        RuntimeError
    ) as error:  # "no kernel image is available": is_available() is true all the same
        cause = find_cause(str(error))
        raise Failure(
            cause.meaning,
            value="no kernel",
            bound="runs",
            remedy=cause.remedy,
        ) from error
    return inspection.require(
        "gpu.kernel",
        (seen - numbers @ numbers).abs().max().item(),
        detail="GPU and CPU give different results",
        remedy="try another driver",
    )


# --- precision and memory ------------------------------------------------------------------------------------------

# Relative to the largest value.
TOLERANCES = {
    "float32": 1e-5,
    "float16": 5e-3,
    "bfloat16": 3e-2,
    "tf32": 3e-3,
}


def check_precision(inspection: Inspection) -> Answer:
    """The guide's formulas on the GPU in every precision, and a product in TF32, relative to what is tolerated."""
    torch = torch_with_gpu(inspection)
    differences = {"tf32": tf32_difference(torch)}
    for name in ("float32", "float16", "bfloat16"):
        if name == "bfloat16" and not torch.cuda.is_bf16_supported():
            continue
        dtype = getattr(torch, name)
        differences[name] = max(operator_differences(dtype, "cuda").values())
    shares = {
        name: difference / TOLERANCES[name] for name, difference in differences.items()
    }
    worst = max(shares, key=lambda name: shares[name])
    return inspection.require(
        "gpu.precision",
        round(shares[worst], 3),
        detail=f"{worst} is off by {shares[worst]:.2g} times its tolerance",
        remedy="this GPU or its driver gives wrong results",
    )


def tf32_difference(torch: Any) -> float:
    shape = (256, 256)
    a, b = random_tensors(
        shape,
        shape,
        dtype=torch.float32,
        device="cuda",
    )
    settings = torch.backends.cuda.matmul
    before = settings.allow_tf32
    settings.allow_tf32 = True
    try:
        return relative_difference(a @ b, a.double() @ b.double())
    finally:
        settings.allow_tf32 = before


def check_memory(inspection: Inspection) -> Answer:
    """What is freed is free again."""
    torch = torch_with_gpu(inspection)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    block = torch.empty(64 << 20, device="cuda")  # 256 MB
    del block
    torch.cuda.empty_cache()
    kept = torch.cuda.memory_allocated() - before
    return inspection.require(
        "gpu.memory",
        kept,
        detail=f"{kept} bytes are not released",
        remedy="check whether another job uses this GPU",
        unit="B",
    )


# --- several GPUs --------------------------------------------------------------------------------------------------

RANK = """
import sys, torch, torch.distributed as dist
rank, meeting, world = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", init_method="file://" + meeting, rank=rank, world_size=world)
numbers = torch.arange(1000, dtype=torch.float64, device="cuda") * (rank + 1)
dist.all_reduce(numbers)
expected = torch.arange(1000, dtype=torch.float64, device="cuda") * (world * (world + 1) // 2)
assert torch.equal(numbers, expected), "all_reduce is not exact"
dist.destroy_process_group()
"""


def check_nccl(inspection: Inspection) -> Answer:
    """NCCL sums exactly over as many GPUs as there are, up to two."""
    torch = torch_with_gpu(inspection)
    ranks = run_ranks(RANK, min(2, torch.cuda.device_count()))
    errors = []
    for rank in ranks:
        if rank.exit_code != 0:
            errors.append(rank.last_line())
    return inspection.require(
        "gpu.nccl",
        len(errors),
        detail="; ".join(errors),
        remedy="set NCCL_DEBUG=INFO and run it again to see why",
    )
