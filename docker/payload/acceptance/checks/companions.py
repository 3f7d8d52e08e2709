"""Do packages that are bound to torch compute right where that can be seen without a GPU?

Each check is of one package, and is not run in an image without it.
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Sequence

from acceptance.checks.identity import installed
from acceptance.checks.inspection import Failure, Skipped
from acceptance.text import describe

if TYPE_CHECKING:
    from acceptance.checks.inspection import Answer, Inspection

# The levels of NF4, from QLoRA (arXiv 2305.14314, appendix E).
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
BLOCK = 64  # weights that share a scale
ROWS = 32


def check_four_bit(inspection: Inspection) -> Answer:
    """Weights that bitsandbytes packs into 4 bits (NF4) come back as the nearest of its 16 levels."""
    versions = installed()
    if "bitsandbytes" not in versions:
        raise Skipped("bitsandbytes is not in this image")
    # Its operators for CPUs came with 0.46.
    if importlib.util.find_spec("bitsandbytes.backends") is None:
        version = versions["bitsandbytes"]
        raise Skipped(f"needs a GPU: bitsandbytes {version} has nothing for CPUs")
    try:
        weights, unpacked = round_trip()
    except Exception as error:
        raise Failure(
            f"bitsandbytes broke: {describe(error)}",
            remedy="lock a version of bitsandbytes that is made for this torch",
        ) from error
    difference = largest_difference(nearest_levels(weights), unpacked)
    return inspection.require(
        "companions.four_bit",
        difference,
        detail="weights that were packed into 4 bits come back as others",
        remedy="lock another version of bitsandbytes",
    )


def round_trip() -> tuple[list[float], list[float]]:
    """Random weights, and what is left of them after packing and unpacking."""
    import torch
    from bitsandbytes import functional

    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(ROWS, BLOCK, generator=generator)
    packed, state = functional.quantize_4bit(
        weights,
        blocksize=BLOCK,
        quant_type="nf4",
    )
    unpacked = functional.dequantize_4bit(packed, state)
    before = weights.flatten()
    after = unpacked.flatten()
    return before.tolist(), after.tolist()


def nearest_levels(weights: Sequence[float]) -> list[float]:
    """Each weight as the nearest level, scaled by the largest weight of its block."""
    nearest = []
    for start in range(0, len(weights), BLOCK):
        block = weights[start : start + BLOCK]
        scale = max(map(abs, block))
        for weight in block:
            ratio = weight / scale
            level = min(NF4, key=lambda level: abs(level - ratio))
            nearest.append(level * scale)
    return nearest


def largest_difference(expected: Sequence[float], found: Sequence[float]) -> float:
    """The largest difference of two rows of numbers; infinite if one is longer or a number is none."""
    if len(expected) != len(found):
        return math.inf
    largest = 0.0
    pairs = zip(expected, found)
    for one, other in pairs:
        difference = abs(one - other)
        if math.isnan(difference):
            return math.inf
        largest = max(largest, difference)
    return largest
