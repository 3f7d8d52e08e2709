"""The checks, cheapest first: each is a small function of what can be observed in this image.

A check returns its `Answer` when it passes, raises `Failure` when it does not, and `Skipped` when there is nothing to
check. Numbers that decide are in bounds.json. A title says what is true of an image that passes.
"""

from __future__ import annotations

from acceptance.checks import (
    contract,
    features,
    gpu,
    gpu_features,
    identity,
    imports,
    linkage,
    lm,
    needs,
    numerics,
    nvcc,
    trainers,
    training,
)
from acceptance.checks.inspection import (
    LIBRARIES,
    Answer,
    Check,
    Failure,
    Inspection,
    Skipped,
)

__all__ = ["CHECKS", "LIBRARIES", "Answer", "Check", "Failure", "Inspection", "Skipped"]

FINE_TUNE = "training.accuracy"  # the check that runs the fine-tune
COPYING = "lm.accuracy"  # the check that trains the causal model
LORA = "lm.lora"  # the check that trains the adapter on it

CHECKS = (
    Check("contract.user", "runs as a non-root user", contract.check_user),
    Check(
        "contract.places",
        "home, temporary and cache directories are writable",
        contract.check_places,
    ),
    Check("contract.space", "there is room for temporary files", contract.check_space),
    Check("contract.locale", "Python uses UTF-8", contract.check_locale),
    Check(
        "contract.certificates",
        "CA certificates can be read",
        contract.check_certificates,
    ),
    Check("contract.nvcc", "a runtime image has no CUDA compiler", contract.check_nvcc),
    Check("contract.secrets", "the image contains no secrets", contract.check_secrets),
    Check("identity.python", "Python version matches the lock", identity.check_python),
    Check("identity.os", "operating system matches the lock", identity.check_os),
    Check(
        "identity.packages",
        "installed packages match the lock",
        identity.check_packages,
    ),
    Check(
        "identity.requirements",
        "the requirements of all packages are met",
        identity.check_requirements,
    ),
    Check(
        "identity.files",
        "files of torch, transformers and CUDA are unchanged",
        identity.check_files,
    ),
    Check(
        "linkage.variables",
        "NVIDIA's environment variables are right",
        linkage.check_variables,
    ),
    Check(
        "linkage.loader_path",
        "no library comes before the image's own",
        linkage.check_loader_path,
    ),
    Check("linkage.whole", "no library is damaged", linkage.check_whole),
    Check(
        "linkage.single", "there is one copy of each CUDA library", linkage.check_single
    ),
    Check("linkage.loads", "every CUDA library loads", linkage.check_loads),
    Check(
        "linkage.needs",
        "the libraries that packages link to are in the image",
        needs.check_needs,
    ),
    Check("imports.failed", "every package imports", imports.check_imports),
    Check(
        "contract.python_path",
        "nothing shadows the installed packages",
        contract.check_python_path,
    ),
    Check(
        "identity.torch",
        "torch version matches the lock",
        identity.check_version("torch"),
    ),
    Check(
        "identity.torchvision",
        "torchvision version matches the lock",
        identity.check_version("torchvision"),
    ),
    Check(
        "identity.torchaudio",
        "torchaudio version matches the lock",
        identity.check_version("torchaudio"),
    ),
    Check(
        "identity.family",
        "torch, torchvision and torchaudio are compatible",
        identity.check_family,
    ),
    Check("identity.cuda", "CUDA version matches the lock", identity.check_cuda),
    Check("identity.cudnn", "cuDNN version matches the lock", identity.check_cudnn),
    Check("identity.nccl", "NCCL version matches the lock", identity.check_nccl),
    Check(
        "identity.arch_list",
        "torch has kernels for the locked GPU architectures",
        identity.check_arch_list,
    ),
    Check("linkage.maps", "torch loads CUDA from its own wheels", linkage.check_maps),
    Check(
        "numerics.float32",
        "attention, feed-forward and layer norm are correct in float32",
        numerics.check_operators("float32"),
    ),
    Check(
        "numerics.bfloat16",
        "attention, feed-forward and layer norm are correct in bfloat16",
        numerics.check_operators("bfloat16"),
    ),
    Check("numerics.matmul", "matrix multiplication is correct", numerics.check_matmul),
    Check(
        "numerics.gradients",
        "gradients match finite differences",
        numerics.check_gradients,
    ),
    Check(
        "features.quantization",
        "dynamic quantization works",
        features.check_quantization,
    ),
    Check(
        "features.transforms",
        "vmap, grad and jacrev are correct",
        features.check_transforms,
    ),
    Check(
        "features.checkpointing",
        "gradient checkpointing saves memory",
        features.check_gradient_checkpointing,
    ),
    Check(
        "features.shared_memory",
        "data loader workers can share memory",
        features.check_data_loader,
    ),
    Check(
        "features.distributed",
        "two processes train like one",
        features.check_distributed,
    ),
    Check(
        "features.extension",
        "a C extension compiles and loads",
        features.check_extension,
    ),
    Check(
        "features.nvcc",
        "CUDA programs and torch extensions compile and run",
        nvcc.check_nvcc,
    ),
    Check(
        "features.compile",
        "torch.compile works as the stack promises",
        features.check_compile,
    ),
    Check(
        "training.padding",
        "padding does not change predictions",
        training.check_padding,
    ),
    Check(
        "training.repeatable",
        "the same seed gives the same losses",
        training.check_repeatable,
    ),
    Check(
        "training.reference",
        "losses match a reference implementation",
        training.check_reference,
    ),
    Check(
        "training.checkpoint",
        "a saved model loads unchanged",
        training.check_checkpoint,
    ),
    Check(
        "training.resume",
        "a resumed run matches an uninterrupted one",
        training.check_resume,
    ),
    Check(
        "training.trainer",
        "a step of transformers' Trainer is that of a plain loop",
        trainers.check_trainer,
    ),
    Check(
        "training.accelerate",
        "a step with accelerate is that of a plain loop",
        trainers.check_accelerate,
    ),
    Check(
        "training.accuracy",
        "BERT learns to classify held-out reviews",
        training.check_accuracy,
    ),
    Check(
        "training.negated", "BERT learns negation", training.check_negated, FINE_TUNE
    ),
    Check("training.loss", "the training loss falls", training.check_loss, FINE_TUNE),
    Check(
        "training.seconds",
        "training takes no longer than expected",
        training.check_seconds,
        FINE_TUNE,
    ),
    Check(
        "training.throughput",
        "training is as fast as this machine allows",
        training.check_throughput,
        FINE_TUNE,
    ),
    Check(
        "lm.tokenizer",
        "a tokenizer trained here reads back its words",
        lm.check_tokenizer,
    ),
    Check(
        "lm.causal",
        "a causal model does not see later tokens",
        lm.check_causal,
    ),
    Check(
        "lm.padding",
        "padding on the left does not change logits",
        lm.check_padding,
    ),
    Check(
        "lm.next_token",
        "the loss of a causal model is that of the next token",
        lm.check_loss,
    ),
    Check(
        "lm.cache",
        "the KV cache does not change logits",
        lm.check_cache,
    ),
    Check(
        COPYING,
        "a small causal model learns to copy held-out sentences",
        lm.check_accuracy,
    ),
    Check(
        "lm.loss",
        "its loss is below what is possible without attention",
        lm.check_held_out_loss,
        COPYING,
    ),
    Check(
        "lm.generation",
        "greedy generation is the same twice, alone and in a batch",
        lm.check_generation,
        COPYING,
    ),
    Check(LORA, "LoRA teaches it to translate", lm.check_lora, COPYING),
    Check(
        "lm.adapter",
        "an adapter that is off changes nothing",
        lm.check_adapter,
        LORA,
    ),
    Check(
        "lm.merged",
        "a merged adapter gives the same logits",
        lm.check_merged,
        LORA,
    ),
    Check(
        "lm.seconds",
        "the causal model takes no longer than expected",
        lm.check_seconds,
        COPYING,
    ),
    Check("gpu.visible", "the GPU can be used", gpu.check_visible),
    Check("gpu.capability", "torch has kernels for the GPU", gpu.check_capability),
    Check("gpu.kernel", "GPU and CPU give the same result", gpu.check_kernel),
    Check(
        "gpu.precision", "the GPU is correct in every precision", gpu.check_precision
    ),
    Check(
        "gpu.features",
        "the GPU can do what its compute capability says",
        gpu_features.check_gpu_features,
    ),
    Check("gpu.memory", "GPU memory is released", gpu.check_memory),
    Check("gpu.nccl", "NCCL sums exactly", gpu.check_nccl),
)
