"""Wheels that are built for another CUDA or cuDNN than the stack's: by what they link to, or by their names.

Where a package opens CUDA's libraries while it runs, only its name tells: `cupy-cuda12x`, `faiss-gpu-cu12`,
`nvidia-dali-cuda120`, or a local version, `0.7.1+cu121`. Minor versions of one CUDA are compatible (CUDA Compatibility,
NVIDIA), so that majors are compared. A wheel with variants for several CUDAs (bitsandbytes) needs one that fits.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder.lock.cuda_sonames import cuda_majors, cudnn_major
from envbuilder.lock.wheel_libraries import LinkAnswer, LinkedLibraries
from envbuilder.model import Layer, Lock, Stack, Wheel

NAME_TAG = re.compile(r"-(cu|cuda)(1[0-9])([0-9]?)(x?)(?=-|$)")
_LOCAL_TAG = re.compile(r"cu(1[0-9])[0-9]?(?![0-9])")
_OF_DALI = re.compile(r"nvidia-dali-.*")
_RUNTIME = "libcudart."
_MOST_NAMED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaClash:
    """A locked wheel for another CUDA."""

    wheel: Wheel
    majors: tuple[int, ...]  # those that it is built for; () if it is about cuDNN
    text: str  # `xformers 0.0.35 is built for CUDA 12 (libcudart.so.12)`


def cuda_clashes(lock: Lock, answer: LinkAnswer) -> list[CudaClash]:
    """The wheels that the user's packages bring and that have nothing for the stack's CUDA."""
    clashes = {}
    for wheel, linked in answer.linked:
        # A library that was not read may be the one that fits.
        if not linked.whole:
            continue
        clash = _by_links(wheel, linked, lock)
        if clash:
            clashes[wheel.name] = clash
    for wheel in _wheels_of_user(lock):
        clash = _by_name(wheel, lock)
        if clash:
            clashes.setdefault(wheel.name, clash)
    return list(clashes.values())


def unread_wheels(answer: LinkAnswer) -> list[str]:
    """The wheels of which some library could not be read, and which need CUDA."""
    names = []
    for wheel, linked in answer.linked:
        if linked.whole or not linked.cuda:
            continue
        names.append(wheel.name)
    return names


def of_extras(lock: Lock) -> set[str]:
    """The names of the user's own packages."""
    names: set[str] = set()
    extras = lock.stack.extras
    for line in extras:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        names.add(name)
    return names


def _wheels_of_user(lock: Lock) -> Iterator[Wheel]:
    """Wheels whose names are looked at: not those of torch, nor CUDA's own, which somebody may want as well."""
    if not lock.stack.extras:
        return
    for wheel in lock.wheels:
        if wheel.layer is Layer.TORCH:
            continue
        if wheel.layer is Layer.NVIDIA and not _OF_DALI.fullmatch(wheel.name):
            continue
        yield wheel


# --- by what it links to -------------------------------------------------------------------------------------------


def _by_links(wheel: Wheel, linked: LinkedLibraries, lock: Lock) -> CudaClash | None:
    majors = built_for(linked.cuda)
    if majors and not _fits(majors, lock):
        sonames = _of_majors(linked.cuda, majors)
        text = _text(wheel, majors, sonames)
        return CudaClash(
            wheel=wheel,
            majors=majors,
            text=text,
        )
    number = _other_cudnn(linked, lock.stack)
    if number is None:
        return None
    name = f"{wheel.name} {wheel.version}"
    text = f"{name} is built for cuDNN {number}"
    return CudaClash(
        wheel=wheel,
        majors=(),
        text=text,
    )


def _other_cudnn(linked: LinkedLibraries, stack: Stack) -> int | None:
    """The cuDNN that a wheel links to, if it is not the stack's."""
    numbers = set()
    for soname in linked.cuda:
        number = cudnn_major(soname)
        if number is not None:
            numbers.add(number)
    if not numbers or stack.cudnn is None:
        return None
    if stack.cudnn.major in numbers:
        return None
    return max(numbers)


def built_for(sonames: Iterable[str]) -> tuple[int, ...]:
    """The CUDA majors that libraries are of, as far as their names tell."""
    certain: set[int] = set()
    possible: set[int] = set()
    for soname in sonames:
        majors = cuda_majors(soname)
        possible.update(majors)
        if len(majors) == 1:
            certain.update(majors)
    numbers = certain or possible
    return tuple(sorted(numbers))


def _fits(majors: Sequence[int], lock: Lock) -> bool:
    """Whether the image has one of these CUDAs: the stack's, or one that the packages bring for themselves."""
    cuda = lock.stack.cuda
    if cuda is None:
        # Variants for several CUDAs are for those who have one of them.
        return len(majors) > 1
    if cuda.major in majors:
        return True
    return any(_has_runtime(major, lock) for major in majors)


def _has_runtime(major: int, lock: Lock) -> bool:
    """Whether the wheels of a CUDA are locked."""
    for wheel in lock.wheels:
        if wheel.name == f"nvidia-cuda-runtime-cu{major}":
            return True
        if wheel.name == "nvidia-cuda-runtime" and wheel.version.major == major:
            return True
    return False


def _of_majors(sonames: Sequence[str], majors: Sequence[int]) -> list[str]:
    """The names that tell the CUDA; that of the runtime first."""
    runtime = []
    others = []
    for soname in sonames:
        found = cuda_majors(soname)
        if not found or not set(found) <= set(majors):
            continue
        if soname.startswith(_RUNTIME):
            runtime.append(soname)
        else:
            others.append(soname)
    return runtime + others


def _text(wheel: Wheel, majors: Sequence[int], sonames: Sequence[str]) -> str:
    numbers = " or ".join(str(major) for major in majors)
    libraries = ", ".join(sonames[:_MOST_NAMED])
    return f"{wheel.name} {wheel.version} is built for CUDA {numbers} (it links to {libraries})"


# --- by its name ---------------------------------------------------------------------------------------------------


def _by_name(wheel: Wheel, lock: Lock) -> CudaClash | None:
    major = major_in_name(wheel)
    if major is None:
        return None
    majors = (major,)
    if _fits(majors, lock):
        return None
    name = f"{wheel.name} {wheel.version}"
    text = f"{name} is built for CUDA {major}, by its name"
    return CudaClash(
        wheel=wheel,
        majors=majors,
        text=text,
    )


def major_in_name(wheel: Wheel) -> int | None:
    """The CUDA major that a wheel's name or its local version tells."""
    local = wheel.version.local or ""
    tag = _LOCAL_TAG.search(local)
    if tag:
        return int(tag[1])
    name = NAME_TAG.search(wheel.name)
    if name:
        return int(name[2])
    return None


def stack_text(stack: Stack, clashes: Sequence[CudaClash]) -> str:
    """`the stack has CUDA 12.8`."""
    of_cuda = False
    for clash in clashes:
        of_cuda = of_cuda or bool(clash.majors)
    if not of_cuda and stack.cudnn:
        return f"the stack has cuDNN {stack.cudnn.major}"
    if stack.cuda is None:
        return "the stack has no CUDA"
    return f"the stack has CUDA {stack.cuda_line}"
