"""The checks, cheapest first: each is a small function of what can be observed in here.

A check returns its fields (value, bound, findings …) when it passes, raises `Failure` with them when it does not, and
`NotRun` when there is nothing to check. Numbers that decide stand in bounds.json.
"""

from acceptance.checks import contract, features, gpu, identity, imports, linkage, numerics, nvcc, training
from acceptance.checks.inspection import LIBRARIES, Check, Failure, Inspection, NotRun

__all__ = ["CHECKS", "LIBRARIES", "Check", "Failure", "Inspection", "NotRun"]

_TRAINED = "training.accuracy"  # the check that runs the fine-tune

CHECKS = (
    Check("contract.user", "it does not run as root", contract.check_user),
    Check("contract.places", "home, temporary folder and cache can be written", contract.check_places),
    Check("contract.space", "there is room for temporary files", contract.check_space),
    Check("contract.locale", "Python speaks UTF-8", contract.check_locale),
    Check("contract.certificates", "the CAs can be read", contract.check_certificates),
    Check("contract.nvcc", "there is no CUDA compiler in a runtime image", contract.check_nvcc),
    Check("contract.secrets", "there is no secret in the image", contract.check_secrets),
    Check("identity.python", "Python is the locked one", identity.check_python),
    Check("identity.os", "the operating system is the locked one", identity.check_os),
    Check("identity.packages", "installed packages are the locked ones", identity.check_packages),
    Check("identity.requirements", "every package's requirements are met", identity.check_requirements),
    Check("identity.files", "no file of torch, transformers or CUDA has changed", identity.check_files),
    Check("linkage.variables", "NVIDIA's variables are right", linkage.check_variables),
    Check("linkage.loader_path", "nothing comes before the image's own libraries", linkage.check_loader_path),
    Check("linkage.whole", "every library is whole", linkage.check_whole),
    Check("linkage.single", "there is one of each CUDA library", linkage.check_single),
    Check("linkage.loads", "every CUDA library loads", linkage.check_loads),
    Check("contract.python_path", "nothing shadows the environment's modules", contract.check_python_path),
    Check("imports.failed", "every package imports", imports.check_imports),
    Check("identity.torch", "torch is the locked one", identity.check_version("torch")),
    Check("identity.torchvision", "torchvision is the locked one", identity.check_version("torchvision")),
    Check("identity.torchaudio", "torchaudio is the locked one", identity.check_version("torchaudio")),
    Check("identity.family", "torch, torchvision and torchaudio work together", identity.check_family),
    Check("identity.cuda", "CUDA is the locked one", identity.check_cuda),
    Check("identity.cudnn", "cuDNN is the locked one", identity.check_cudnn),
    Check("identity.nccl", "NCCL is the locked one", identity.check_nccl),
    Check("identity.arch_list", "torch has kernels for the GPUs it should", identity.check_arch_list),
    Check("linkage.maps", "torch loads the CUDA of its own wheels", linkage.check_maps),
    Check(
        "numerics.float32", "attention, feed-forward and norm are right in float32", numerics.check_operators("float32")
    ),
    Check("numerics.bfloat16", "the same in bfloat16", numerics.check_operators("bfloat16")),
    Check("numerics.matmul", "a matrix product is right", numerics.check_matmul),
    Check("numerics.gradients", "gradients are slopes", numerics.check_gradients),
    Check("features.quantization", "dynamic quantization shrinks and keeps answers", features.check_quantization),
    Check("features.transforms", "vmap, grad and jacrev are right", features.check_transforms),
    Check("features.checkpointing", "gradient checkpointing saves memory", features.check_gradient_checkpointing),
    Check("features.shared_memory", "workers hand data over in shared memory", features.check_data_loader),
    Check("features.distributed", "two processes train as one", features.check_distributed),
    Check("features.extension", "a C extension compiles and loads", features.check_extension),
    Check("features.nvcc", "CUDA programs and torch extensions compile, link and load", nvcc.check_nvcc),
    Check("features.compile", "torch.compile does what the stack says", features.check_compile),
    Check("training.padding", "padding does not change an answer", training.check_padding),
    Check("training.repeatable", "the same seed gives the same losses", training.check_repeatable),
    Check("training.reference", "the losses are those of a reference", training.check_reference),
    Check("training.checkpoint", "a checkpoint is the model", training.check_checkpoint),
    Check("training.resume", "a run that was cut off goes on as it would have", training.check_resume),
    Check("training.accuracy", "BERT learns the held-out reviews", training.check_accuracy),
    Check("training.negated", "BERT learns the negated reviews", training.check_negated, _TRAINED),
    Check("training.loss", "the training loss falls", training.check_loss, _TRAINED),
    Check("training.seconds", "training takes no longer than it should", training.check_seconds, _TRAINED),
    Check("training.throughput", "training is as fast as this machine allows", training.check_throughput, _TRAINED),
    Check("gpu.visible", "a GPU that is here can be used", gpu.check_visible),
    Check("gpu.capability", "torch has code for the GPU", gpu.check_capability),
    Check("gpu.kernel", "a GPU kernel agrees with the CPU", gpu.check_kernel),
    Check("gpu.precision", "the GPU is right in every precision", gpu.check_precision),
    Check("gpu.memory", "the GPU's memory comes back", gpu.check_memory),
    Check("gpu.nccl", "NCCL sums exactly", gpu.check_nccl),
)
