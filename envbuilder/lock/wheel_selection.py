"""pylock document → wheels: the one file per package that an installer picks, and the image layer it belongs to."""

from collections.abc import Collection
from typing import Any

from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder.errors import LockError
from envbuilder.grammar import JsonObject
from envbuilder.lock.target_platform import markers, wheel_tags
from envbuilder.model import Layer, Stack, Wheel

TORCH_FAMILY = frozenset({"torch", "torchvision", "torchaudio", "triton"})
_NVIDIA_PREFIXES = ("nvidia-", "cuda-")


def select_wheels(document: JsonObject, stack: Stack) -> tuple[Wheel, ...]:
    """The one wheel per package that an installer picks on the stack's platform, sorted by layer and name."""
    extras = {canonicalize_name(Requirement(line).name) for line in stack.extras}
    moving = {*stack.moving, *extras}
    pylock = Pylock.from_dict(document)
    tags = list(wheel_tags(stack))
    chosen = pylock.select(environment=markers(stack), tags=tags)
    wheels = []
    try:
        # `select` is lazy: what it cannot select is raised in the loop.
        for package, file in chosen:
            name = str(package.name)
            wheels.append(_wheel(name, package.version, file, moving))
    except PylockSelectError as error:
        raise LockError(
            f"a locked package has no wheel for {stack.platform}: {error}"
        ) from error
    return tuple(sorted(wheels, key=_by_layer_and_name))


def _by_layer_and_name(wheel: Wheel) -> tuple[int, str]:
    return list(Layer).index(wheel.layer), wheel.name


def _wheel(name: str, version: Any, file: object, moving: Collection[str]) -> Wheel:
    if not isinstance(file, PackageWheel) or version is None:
        raise LockError(
            f"{name} has no wheel",
            hint="only wheels can be locked; choose another version",
        )
    if file.size is None or "sha256" not in file.hashes:
        raise LockError(
            f"the index gives no size or no sha256 for {file.filename}",
            hint="use an index that follows PEP 503 and PEP 691, or a mirror of one (`--index-url URL`)",
        )
    normalized = canonicalize_name(name)
    return Wheel(
        name=normalized,
        version=version,
        file=file.filename,
        size=file.size,
        sha256=file.hashes["sha256"],
        layer=_layer(normalized, moving),
    )


def _layer(name: str, moving: Collection[str]) -> Layer:
    if name.startswith(_NVIDIA_PREFIXES):
        return Layer.NVIDIA
    if name in TORCH_FAMILY:
        return Layer.TORCH
    return Layer.STACK if name in moving else Layer.LIBRARIES
