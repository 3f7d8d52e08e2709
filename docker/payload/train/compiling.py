"""`--compile`: the training steps through torch.compile, with the numbers of the uncompiled model."""

from __future__ import annotations

import importlib
import os
import shutil
import types
from typing import Any

import torch

from train.errors import JobError
from train.options import Settings

# torch 2.0 compiles each length separately; without --pad-to-max-length it sees at most so many.
MAX_LENGTHS = 4


def compile_model(model: Any, settings: Settings, device: str) -> Any:
    """The model as the training loop calls it. It shares `model`'s weights; the names in a checkpoint are `model`'s.

    Evaluate `model`, not this: without gradients torch 2.0 compiles a copy of the linear layers' weights into the graph
    on a CPU, and later answers come from the weights of the first evaluation (docs/decisions/0009).
    """
    if not settings.compile:
        return model
    check_can_compile(settings, device)
    try:
        # One graph for all lengths and for the last, smaller batch; torch 2.0 has no backward for such a graph.
        compiled = torch.compile(model, dynamic=not is_torch_2_0())
    except RuntimeError as error:
        raise JobError(
            f"torch {torch.__version__} cannot compile here: {error}",
            "leave out --compile",
        ) from error
    # With torch's own generator dropout draws as it does uncompiled, and the losses are the same.
    inductor: Any = importlib.import_module("torch._inductor.config")
    inductor.fallback_random = True
    add_missing_is_compiling()
    # The first loss would set it, and what was compiled for that step would be compiled again for the second.
    getattr(model, "module", model).config.problem_type = "single_label_classification"
    return compiled


def add_missing_is_compiling() -> None:
    """transformers calls torch.compiler.is_compiling; torch 2.0 has no such module."""
    if hasattr(getattr(torch, "compiler", None), "is_compiling"):
        return
    if not hasattr(torch, "compiler"):
        torch.compiler = types.ModuleType("torch.compiler")
    dynamo = importlib.import_module("torch._dynamo.external_utils")
    torch.compiler.is_compiling = dynamo.is_compiling


def check_can_compile(settings: Settings, device: str) -> None:
    """Raise `JobError` for what this torch, or this image, cannot compile."""
    version = torch.__version__
    if not hasattr(torch, "compile"):
        raise JobError(
            f"--compile needs torch ≥ 2.0 (this is {version})",
            "leave out --compile",
        )
    if settings.gradient_checkpointing and is_torch_2_0():
        message = f"torch {version} cannot compile a model with gradient checkpointing"
        raise JobError(
            message,
            "leave out --compile or --gradient-checkpointing",
        )
    if settings.parallel in ("model", "pipeline"):
        raise JobError(
            f"--compile cannot be combined with --parallel {settings.parallel}",
            "leave out one of them",
        )
    check_compiler(device)


def check_compiler(device: str) -> None:
    """What torch calls: Inductor a C++ compiler for the code of a CPU, Triton a C compiler for that of a GPU."""
    if device == "cpu":
        language, package, commands = (
            "C++",
            "g++",
            [os.environ.get("CXX", "g++")],
        )
    else:
        language, package, commands = (
            "C",
            "gcc",
            [os.environ.get("CC", "gcc"), "gcc", "clang"],
        )
    if not any(shutil.which(command) for command in commands):
        message = f"--compile needs a {language} compiler, and this image has none"
        raise JobError(
            message,
            f"leave out --compile, or install {package}",
        )


def is_torch_2_0() -> bool:
    return str(torch.__version__).startswith("2.0.")


def padding_multiple(settings: Settings) -> int | None:
    """What lengths are rounded up to without --pad-to-max-length; None: they are not rounded.

    torch 2.0 compiles each length for itself: it is given few of them, none above --max-length.
    """
    if not settings.compile or not is_torch_2_0():
        return None
    longest = settings.max_length
    for multiple in range(1, longest):
        lengths = longest / multiple
        if lengths.is_integer() and lengths <= MAX_LENGTHS:
            return multiple
    return longest


def failed_to_compile(error: BaseException) -> bool:
    """Whether an error is the compiler's: it is raised by the first step, not by `compile_model`."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
