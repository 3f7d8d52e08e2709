"""The processes of a run, joined in the way that --parallel names."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from train.errors import JobError
from train.options import Settings
from train.parallel import DDP, FSDP, Autocast, SingleProcess
from train.stages import pipeline_class

TORCHRUN = (
    "start it with torchrun, e.g. `torchrun --nproc-per-node 2 --no-python train …`"
)


def make_team(settings: Settings, device: str, autocast: Autocast) -> SingleProcess:
    """The team of this process. Raises `JobError` for what this torch, or this way of starting it, cannot do.

    `autocast` makes the context in which the model computes: see loop.py.
    """
    under_torchrun = dist.is_available() and dist.is_torchelastic_launched()
    kind = settings.parallel
    if kind is None:
        kind = "ddp" if under_torchrun else "none"
    team = team_class(kind)
    if team.needs_torchrun and not under_torchrun:
        raise JobError(f"--parallel {kind} needs several processes", TORCHRUN)
    if under_torchrun and not team.needs_torchrun and int(os.environ["WORLD_SIZE"]) > 1:
        hint = f"run `train --parallel {kind}` without torchrun: it uses every GPU, or --stages on a CPU"
        raise JobError(
            f"torch {torch.__version__} has pipelines only within one process", hint
        )
    if settings.precision == "fp16" and not team.supports_fp16:
        raise JobError(
            f"--parallel {kind} cannot be combined with --precision fp16",
            "use bf16 on a GPU that has it",
        )
    return team(settings, device, autocast)


def team_class(kind: str) -> type[SingleProcess]:
    if kind == "none":
        return SingleProcess
    if kind == "ddp":
        return DDP
    if kind == "fsdp":
        if not has_fully_shard():
            message = f"--parallel fsdp needs torch ≥ 2.6 (this is {torch.__version__})"
            raise JobError(
                message,
                "use --parallel ddp",
            )
        return FSDP
    return pipeline_class()


def has_fully_shard() -> bool:
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError:
        return False
    return True
