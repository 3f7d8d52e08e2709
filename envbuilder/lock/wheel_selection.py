"""pylock document → wheels: the one file per package that an installer picks, and the image layer it belongs to."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import cast

from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.errors import LockError
from envbuilder.grammar import JsonObject
from envbuilder.lock.target_platform import markers, wheel_tags
from envbuilder.lock.torch_index import FAMILY
from envbuilder.model import PYPI, Layer, Stack, Wheel

TORCH_FAMILY = frozenset({"torch", "torchvision", "torchaudio", "triton"})
_NVIDIA_PREFIXES = ("nvidia-", "cuda-")
NONE_BUILT: Mapping[str, Wheel | None] = MappingProxyType({})


SizeOf = Callable[[str], int]
"""Address of a file → its size; 0 if it is not known."""


def select_wheels(
    document: JsonObject,
    stack: Stack,
    size_of: SizeOf | None = None,
    *,
    built: Mapping[str, Wheel | None] = NONE_BUILT,
) -> tuple[Wheel, ...]:
    """The one wheel per package that an installer picks on the stack's platform, sorted by layer and name.

    `size_of` is asked where PyTorch's own index gives no size. `built`: the wheels that are not an index's, by package;
    None for one that there is not yet.
    """
    extras = {canonicalize_name(Requirement(line).name) for line in stack.extras}
    moving = {*stack.moving, *extras}
    pylock = Pylock.from_dict(document)
    tags = list(wheel_tags(stack))
    chosen = pylock.select(environment=markers(stack), tags=tags)
    wheels = []
    try:
        # `select` is lazy: what it cannot select is raised in the loop.
        for package, file in chosen:
            name = canonicalize_name(str(package.name))
            if name in built:
                ours = built[name]
                if ours:
                    wheels.append(ours)
                continue
            index = stack.index if name in FAMILY else PYPI
            locked = _checked(name, package.version, file, index)
            size = locked.size or 0
            if not size and size_of and locked.url:
                size = size_of(locked.url)
            layer = _layer(name, moving)
            version = cast("Version", package.version)
            wheel = Wheel(
                name=name,
                version=version,
                file=locked.filename,
                size=size,
                sha256=locked.hashes["sha256"],
                layer=layer,
                index=index,
            )
            wheels.append(wheel)
    except PylockSelectError as error:
        raise LockError(
            f"a locked package has no wheel for {stack.platform}: {error}"
        ) from error
    return tuple(sorted(wheels, key=_by_layer_and_name))


def _by_layer_and_name(wheel: Wheel) -> tuple[int, str]:
    return list(Layer).index(wheel.layer), wheel.name


def _checked(name: str, version: object, file: object, index: str) -> PackageWheel:
    """The wheel that was picked, if everything is known of it that a lock needs."""
    if not isinstance(file, PackageWheel) or version is None:
        raise LockError(
            f"{name} has no wheel",
            hint="only wheels can be locked; choose another version",
        )
    # PyTorch's own index gives no sizes; uv computes the hashes that it does not give.
    has_size = file.size is not None or index != PYPI
    if has_size and "sha256" in file.hashes:
        return file
    raise LockError(
        f"the index gives no size or no sha256 for {file.filename}",
        hint="use an index that follows PEP 503 and PEP 691, or a mirror of one (`--index-url URL`)",
    )


def _layer(name: str, moving: Collection[str]) -> Layer:
    if name.startswith(_NVIDIA_PREFIXES):
        return Layer.NVIDIA
    if name in TORCH_FAMILY:
        return Layer.TORCH
    return Layer.STACK if name in moving else Layer.LIBRARIES
