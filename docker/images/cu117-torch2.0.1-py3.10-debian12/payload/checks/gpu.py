"""What can only be checked on a GPU."""

from checks.identity import arch_list
from checks.inspection import Failure, NotRun


def check_gpu(inspection):
    """A kernel really runs and agrees with the CPU."""
    import torch

    if not torch.cuda.is_available():
        if inspection.require_gpu:
            remedy = "start it with `--gpus all`; `envbuilder doctor` says what is missing"
            raise Failure(value="none", bound="a GPU", detail="no GPU is visible in here", remedy=remedy)
        raise NotRun("no GPU is visible in here")
    name, capability = torch.cuda.get_device_name(), "%d.%d" % torch.cuda.get_device_capability()
    inspection.facts.update(gpu=name, capability=capability)
    numbers = torch.arange(4096.0).reshape(64, 64) / 4096
    try:
        seen = (numbers.cuda() @ numbers.cuda()).cpu()
    except RuntimeError as error:  # "no kernel image is available": is_available() is true all the same
        detail = "%s (compute capability %s) runs no kernel: %s" % (name, capability, str(error).split("\n")[0])
        kernels = " ".join(arch_list(torch) or ())
        remedy = "build for this GPU: `envbuilder build --gpu %s`; torch has %s" % (capability, kernels)
        raise Failure(value="no kernel", bound="runs", detail=detail, remedy=remedy) from error
    largest = (seen - numbers @ numbers).abs().max().item()
    return inspection.judge("gpu.kernel", largest, "the GPU's result is not the CPU's", "try another driver")
