"""`--compile`: the training steps through torch.compile, with the numbers of the uncompiled model."""

import importlib
import os
import shutil
import types

import torch

from train.errors import JobError

LENGTHS = 4  # to which --padding longest pads, where each length is compiled for itself


def compile_model(model, settings, device):
    """The model as the training loop calls it. It has `model`'s own weights; the names in a checkpoint are `model`'s.

    Evaluate `model`, not this: without gradients torch 2.0 compiles a copy of the linear layers' weights into the graph
    on a CPU, and later answers come from the weights of the first evaluation (docs/decisions/0009).
    """
    if not settings.compile:
        return model
    refuse(settings, device)
    try:
        # One graph for all lengths and for the last, smaller batch; torch 2.0 has no backward for such a graph.
        compiled = torch.compile(model, dynamic=not is_2_0())
    except RuntimeError as error:
        message = "torch %s cannot compile here: %s" % (torch.__version__, error)
        raise JobError(message, "leave out --compile") from error
    inductor = importlib.import_module("torch._inductor.config")
    inductor.fallback_random = True  # dropout draws what it draws uncompiled, and the losses are the same
    if not hasattr(getattr(torch, "compiler", None), "is_compiling"):  # transformers asks; torch 2.0 has no such module
        torch.compiler = getattr(torch, "compiler", types.ModuleType("torch.compiler"))
        torch.compiler.is_compiling = importlib.import_module("torch._dynamo.external_utils").is_compiling
    # The first loss would set it, and what was compiled for that step would be compiled again for the second.
    getattr(model, "module", model).config.problem_type = "single_label_classification"
    return compiled


def refuse(settings, device):
    """Raises `JobError` for what this torch, or this image, cannot compile."""
    if not hasattr(torch, "compile"):
        raise JobError(
            "torch %s has no torch.compile" % torch.__version__, "it came with torch 2.0: leave out --compile"
        )
    if settings.gradient_checkpointing and is_2_0():
        message = "torch %s cannot compile a model with gradient checkpointing" % torch.__version__
        raise JobError(message, "leave out one of --compile and --gradient-checkpointing")
    if settings.parallel in ("model", "pipeline"):
        raise JobError("--compile and --parallel %s do not go together" % settings.parallel, "leave out one of them")
    # What torch calls: Inductor a C++ compiler for the code of a CPU, Triton a C compiler for that of a GPU.
    names = [os.environ.get("CXX", "g++")] if device == "cpu" else [os.environ.get("CC"), "gcc", "clang"]
    if not any(name and shutil.which(name) for name in names):
        message = "--compile needs a %s compiler, and there is none in here" % ("C++" if device == "cpu" else "C")
        raise JobError(message, "leave out --compile, or install %s" % ("g++" if device == "cpu" else "gcc"))


def is_2_0():
    return torch.__version__.startswith("2.0.")


def padding_step(settings):
    """What lengths are rounded up to with --padding longest; None: to nothing.

    torch 2.0 compiles each length for itself: it is given few of them, none above --max-length.
    """
    if not settings.compile or not is_2_0():
        return None
    longest = settings.max_length
    return min(step for step in range(1, longest + 1) if longest % step == 0 and longest // step <= LENGTHS)


def failed_to_compile(error):
    """Whether an error is the compiler's: it is raised by the first step, not by `compile_model`."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
