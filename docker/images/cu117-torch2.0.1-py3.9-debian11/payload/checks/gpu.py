"""What can only be checked on a GPU."""

from checks.inspection import Failure, NotRun


def check_gpu(inspection):
    """A kernel really runs and agrees with the CPU."""
    import torch

    if not torch.cuda.is_available():
        if inspection.require_gpu:
            remedy = "start it with `--gpus all`; `envbuilder doctor` says what is missing"
            raise Failure(value="none", bound="a GPU", detail="no GPU is visible in here", remedy=remedy)
        raise NotRun("no GPU is visible in here")
    numbers = torch.arange(4096.0).reshape(64, 64) / 4096
    seen = (numbers.cuda() @ numbers.cuda()).cpu()
    largest = (seen - numbers @ numbers).abs().max().item()
    inspection.facts["gpu"] = torch.cuda.get_device_name()
    inspection.facts["capability"] = "%d.%d" % torch.cuda.get_device_capability()
    return inspection.judge("gpu.kernel", largest, "the GPU's result is not the CPU's", "try another driver")
