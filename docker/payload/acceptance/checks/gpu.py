"""What can only be checked on a GPU. Where there is none, nothing here is run, and that is said."""

import glob
import os
import subprocess
import sys
import tempfile
import warnings

from acceptance.checks.identity import arch_list
from acceptance.checks.inspection import Failure, NotRun
from acceptance.checks.numerics import distance, operator_distances, tensors

_START = "start it with `--gpus all`; `envbuilder doctor` says what is missing"
_NOT_APPLICABLE = "not applicable: this image is made for CPUs"
CAUSES = (  # what CUDA says → what it means → what to do (CUDA's own numbers: cudaError_t)
    ("error 803", "the driver and the CUDA compatibility library in here do not fit (error 803)",
     "take cuda-compat out of LD_LIBRARY_PATH, or update the host's driver"),
    ("error 804", "a CUDA compatibility library is in front, which works on data-centre GPUs only (error 804)",
     "take cuda-compat out of the image, or update the host's driver"),
    ("error 802", "the GPUs' fabric is not up yet (error 802)", "start nvidia-fabricmanager on the host"),
    ("error 35", "the host's driver is older than this CUDA (error 35)",
     "update the host's driver, or build for an older CUDA: `envbuilder resolve --driver VERSION`"),
    ("driver version is insufficient", "the host's driver is older than this CUDA (error 35)",
     "update the host's driver, or build for an older CUDA: `envbuilder resolve --driver VERSION`"),
    ("driver on your system is too old", "the host's driver is older than this CUDA (error 35)",
     "update the host's driver, or build for an older CUDA: `envbuilder resolve --driver VERSION`"),
    ("no kernel image", "torch has no code for this GPU", "build for it: `envbuilder build --gpu NAME`"),
    ("error 100", "the driver sees no GPU (error 100)", _START),
    ("no nvidia driver", "no driver is in here", _START),
    ("error 999", "the driver is in a bad state (error 999)", "load nvidia_uvm on the host, or restart it"),
)  # fmt: skip


def find_cause(text):
    """(meaning, remedy) of what CUDA said."""
    low = text.lower()
    found = next(((meaning, remedy) for sign, meaning, remedy in CAUSES if sign in low), None)
    return found or (text.strip().split("\n")[0][:300], _START)


def need_gpu(inspection):
    """torch, if it sees a GPU."""
    import torch

    if inspection.flavour == "cpu":
        raise NotRun(_NOT_APPLICABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_visible has told what they say
        if not torch.cuda.is_available():
            raise NotRun("no GPU is visible in here")
    return torch


def check_visible(inspection):
    """torch sees the GPU; one that is here and cannot be used is never passed over for the CPU."""
    import torch

    if inspection.flavour == "cpu" and not inspection.require_gpu:
        raise NotRun(_NOT_APPLICABLE)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    nodes = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dxg")
    if usable:
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        inspection.facts["gpus"] = names
        return {"value": len(names), "bound": {"min": 1}, "findings": names}
    if not nodes and not inspection.require_gpu:
        raise NotRun("no GPU is visible in here")
    words = [str(one.message) for one in said]
    try:
        torch.cuda.init()
    except Exception as error:
        words.append(str(error))
    meaning, remedy = find_cause("\n".join(words) or "no GPU is visible in here")
    where = "%s is here, and torch cannot use it: " % nodes[0] if nodes else "no GPU is visible in here: "
    raise Failure(value=0, bound={"min": 1}, detail=where + meaning, remedy=remedy)


def check_capability(inspection):
    """torch has code for every GPU: a binary of its major version, or PTX that the driver can compile."""
    torch = need_gpu(inspection)
    arches, wrong = arch_list(torch) or [], []
    for number in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(number)
        inspection.facts["capability"] = "%d.%d" % capability
        if not runs_on(arches, capability):
            name = torch.cuda.get_device_name(number)
            wrong.append("%s has compute capability %d.%d; torch has %s" % ((name, *capability, " ".join(arches))))
    remedy = "build for this GPU: `envbuilder build --gpu %s`" % inspection.facts.get("capability", "NAME")
    return inspection.judge("gpu.capability", len(wrong), "; ".join(wrong), remedy)


def runs_on(arches, capability):
    """Whether code for `arches` (sm_86, compute_90) runs on a GPU (8, 6): CUDA C++ programming guide, compatibility."""
    for arch in arches:
        kind, _, digits = arch.rstrip("af").partition("_")
        have = (int(digits[:-1]), int(digits[-1]))
        if (kind == "compute" and have <= capability) or (have[0] == capability[0] and have <= capability):
            return True
    return False


def check_kernel(inspection):
    """A kernel really runs and agrees with the CPU."""
    torch = need_gpu(inspection)
    numbers = torch.arange(4096.0).reshape(64, 64) / 4096
    try:
        seen = (numbers.cuda() @ numbers.cuda()).cpu()
    except RuntimeError as error:  # "no kernel image is available": is_available() is true all the same
        meaning, remedy = find_cause(str(error))
        raise Failure(value="no kernel", bound="runs", detail=meaning, remedy=remedy) from error
    largest = (seen - numbers @ numbers).abs().max().item()
    return inspection.judge("gpu.kernel", largest, "the GPU's result is not the CPU's", "try another driver")


TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2, "tf32": 3e-3}  # of the largest value


def check_precision(inspection):
    """The guide's formulas on the GPU in every precision, and a product in TF32; the value is shares of a tolerance."""
    torch = need_gpu(inspection)
    shares = {}
    for name in ("float32", "float16", "bfloat16"):
        if name != "bfloat16" or torch.cuda.is_bf16_supported():
            worst = max(operator_distances(getattr(torch, name), "cuda").values())
            shares[name] = worst / TOLERANCES[name]
    a, b = tensors((256, 256), (256, 256), dtype=torch.float32, device="cuda")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        shares["tf32"] = distance(a @ b, a.double() @ b.double()) / TOLERANCES["tf32"]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    worst = max(shares, key=shares.get)
    detail = "%s is off by %.2g of what is tolerated" % (worst, shares[worst])
    return inspection.judge("gpu.precision", round(shares[worst], 3), detail, "this GPU or its driver computes wrongly")


def check_memory(inspection):
    """What is freed is free again."""
    torch = need_gpu(inspection)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    block = torch.empty(64 << 20, device="cuda")  # 256 MB
    del block
    torch.cuda.empty_cache()
    left = torch.cuda.memory_allocated() - before
    return inspection.judge("gpu.memory", left, "%d bytes stay taken" % left, "is another job on this GPU?", unit="B")


_WORKER = """
import sys, torch, torch.distributed as dist
rank, world = int(sys.argv[1]), int(sys.argv[3])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", init_method="file://" + sys.argv[2], rank=rank, world_size=world)
mine = torch.arange(1000, dtype=torch.float64, device="cuda") * (rank + 1)
dist.all_reduce(mine)
expected = torch.arange(1000, dtype=torch.float64, device="cuda") * (world * (world + 1) // 2)
assert torch.equal(mine, expected), "all_reduce is not exact"
dist.destroy_process_group()
"""


def check_nccl(inspection):
    """NCCL sums exactly over as many GPUs as there are, up to two."""
    torch = need_gpu(inspection)
    world = min(2, torch.cuda.device_count())
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", _WORKER]
        meeting = os.path.join(folder, "meeting")
        all_of_them = [
            subprocess.Popen([*words, str(rank), meeting, str(world)], stderr=subprocess.PIPE, universal_newlines=True)
            for rank in range(world)
        ]
        try:
            said = [process.communicate()[1] for process in all_of_them]
        finally:
            for process in all_of_them:
                process.kill()
                process.wait()
    broken = [text for process, text in zip(all_of_them, said) if process.returncode != 0]
    detail = ((broken or [""])[0].strip().splitlines() or [""])[-1][:300]
    return inspection.judge("gpu.nccl", len(broken), detail, "set NCCL_DEBUG=INFO and see why")
