"""The checks, cheapest first: each is a small function of what can be observed in here.

A check returns its fields (value, bound, findings …) when it passes, raises `Failure` with them when it does not, and
`NotRun` when there is nothing to check. Numbers that decide stand in bounds.json.
"""

from checks import features, gpu, identity, imports, training
from checks.inspection import Check, Failure, Inspection, NotRun

__all__ = ["CHECKS", "Check", "Failure", "Inspection", "NotRun"]

CHECKS = (
    Check("identity.python", "Python is the locked one", identity.check_python),
    Check("identity.os", "the operating system is the locked one", identity.check_os),
    Check("identity.packages", "installed packages are the locked ones", identity.check_packages),
    Check("identity.torch", "torch is the locked one", identity.check_version("torch")),
    Check("identity.torchvision", "torchvision is the locked one", identity.check_version("torchvision")),
    Check("identity.torchaudio", "torchaudio is the locked one", identity.check_version("torchaudio")),
    Check("identity.cuda", "CUDA is the locked one", identity.check_cuda),
    Check("identity.cudnn", "cuDNN is the locked one", identity.check_cudnn),
    Check("identity.nccl", "NCCL is the locked one", identity.check_nccl),
    Check("identity.arch_list", "torch has kernels for the GPUs it should", identity.check_arch_list),
    Check("imports.failed", "every package imports", imports.check_imports),
    Check("features.compile", "torch.compile does what the stack says", features.check_compile),
    Check("training.accuracy", "BERT learns the held-out reviews", training.check_accuracy),
    Check("training.negated", "BERT learns the negated reviews", training.check_negated),
    Check("training.loss", "the training loss falls", training.check_loss),
    Check("training.seconds", "training takes no longer than it should", training.check_seconds),
    Check("gpu.kernel", "a GPU kernel agrees with the CPU", gpu.check_gpu),
)
