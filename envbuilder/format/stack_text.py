"""A stack, and what is known about it, as text for a person and as the document of `resolve --json`."""

from collections.abc import Iterator
from typing import Any

from envbuilder import serialize
from envbuilder.catalog.rows import Advisory
from envbuilder.console import size_text, table
from envbuilder.model import Lock, Stack
from envbuilder.resolve.explain import Explanation

_CONTRACT = (
    "python",
    "torch",
    "torchvision",
    "torchaudio",
    "cuda",
    "cudnn",
    "nccl",
    "index",
    "arch_list",
    "driver_floor",
)
_REST = ("triton", "platform", "excluded", "features", "notes", "evidence")
_FAMILY = ("torch==", "torchvision==", "torchaudio==")
_MOST_BASES = 2  # bases that are named; `--json` names all


def download_text(lock: Lock) -> str:
    """`4.42 GB to download`; where an index gives no sizes, what is known."""
    if lock.download_size:
        size = size_text(lock.download_size)
        return f"{size} to download"
    known = 0
    unknown = []
    for wheel in lock.wheels:
        known += wheel.size
        if wheel.size == 0:
            unknown.append(wheel.name)
    size = size_text(known)
    names = ", ".join(unknown)
    return f"more than {size} to download (the index gives no size of {names})"


def stack_document(stack: Stack) -> dict[str, Any]:
    """`resolve --json`'s stack: the contract's keys first, then everything else that is known."""
    plain = serialize.plain(stack)
    document: dict[str, Any] = {"name": stack.name}
    for key in _CONTRACT:
        document[key] = plain[key]
    document["base"] = stack.base.reference
    document["os"] = stack.base.os
    document["as_of"] = plain["as_of"]
    document["packages"] = [*plain["requirements"], *plain["extras"]]
    document["companions"] = serialize.plain(stack.companions)
    document["apt"] = list(stack.apt)
    document["base_source"] = plain["base"]["source"]
    document["flavour"] = stack.flavour.value
    for key in _REST:
        document[key] = plain[key]
    document["index_url"] = stack.index_url
    # Of the versions and of the requested GPU: what is expected on it.
    features = stack.features_on_gpu
    document["features"] = serialize.plain(features)
    return document


def stack_text(stack: Stack) -> str:
    """A stack in two columns, with its notes below."""
    pairs = _version_pairs(stack)
    for feature in stack.features_on_gpu:
        pairs[feature.name] = feature.text
    pairs["evidence"] = stack.evidence
    lines = [stack.name, table(pairs)]
    lines += [f"note: {note}" for note in stack.notes]
    return "\n".join(lines)


def _version_pairs(stack: Stack) -> dict[str, str]:
    if stack.cuda:
        pairs = {
            "CUDA": str(stack.cuda),
            "cuDNN": str(stack.cudnn),
            "NCCL": stack.nccl_text,
            "GPU code": " ".join(stack.arch_list),
            "driver": f"{stack.driver_floor} or newer",
        }
    else:
        pairs = {"CUDA": "none: it trains on the CPU"}
    pairs["Python"] = str(stack.python)
    pairs["torch"] = str(stack.torch)
    pairs["torchvision"] = str(stack.torchvision)
    pairs["torchaudio"] = str(stack.torchaudio or "none for this torch")
    pairs["base"] = f"{stack.base.reference} ({stack.base.os}, {stack.base.source})"
    if stack.companions:
        pins = [companion.requirement for companion in stack.companions]
        pairs["companions"] = ", ".join(pins)
    pairs["packages"] = f"as of {stack.as_of}: {', '.join(_other_packages(stack))}"
    if stack.apt:
        pairs["system packages"] = ", ".join(stack.apt)
    return pairs


def _other_packages(stack: Stack) -> list[str]:
    """The packages other than the torch family, which has its own lines."""
    return [
        line
        for line in (*stack.requirements, *stack.extras)
        if not line.startswith(_FAMILY)
    ]


def advisory_text(advisory: Advisory, stack: Stack) -> str:
    """A known vulnerability or bug of a stack's torch, and what to do about it."""
    return f"advice: torch {stack.torch} has {advisory.id}: {advisory.says}; {advisory.advice} ({advisory.source})"


def explanation_text(explanation: Explanation) -> str:
    """The winner, why it won, and every other combination with the reasons against it."""
    return "\n".join(_explanation_lines(explanation))


def _explanation_lines(explanation: Explanation) -> Iterator[str]:
    if explanation.winner:
        yield f"winner: {explanation.winner}"
        yield f"because: {explanation.because}"
    for other in explanation.alternatives:
        verdict = "behind" if other.fits else "rejected"
        pythons = ", ".join(str(python) for python in other.pythons)
        bases = f"{len(other.bases)} bases"
        if len(other.bases) <= _MOST_BASES:
            bases = ", ".join(other.bases)
        yield f"{verdict}: {other.build} on Python {pythons} ({bases})"
        for reason in other.reasons:
            yield f"  {reason}"
