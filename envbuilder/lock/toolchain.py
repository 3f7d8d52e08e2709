"""What compiles the packages of a lock that have no wheel: nvcc, a g++ that it takes, and pinned build tools.

It depends on torch, CUDA, Python and the packages that are compiled, and on nothing else of a lock: another release of
transformers compiles nothing again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.catalog.host_compilers import host_compiler, is_taken
from envbuilder.catalog.rows import Devel
from envbuilder.errors import LockError
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.target_platform import markers, wheel_tags
from envbuilder.lock.torch_index import FAMILY
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import BuildTool, Layer, Lock, Stack, Toolchain

# What `--no-build-isolation` leaves to the environment, and setup files of CUDA packages take for granted.
_USUAL_TOOLS = ("ninja", "numpy", "packaging", "setuptools", "wheel")
_INSTALLED = (Layer.NVIDIA, Layer.TORCH)
"""The layers that the toolchain has from the lock itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """Where nvcc comes from: wheels, an image, or (neither) the base of the stack."""

    requirements: tuple[str, ...] = ()
    image: str | None = None
    host_compiler: str | None = None


def find_nvcc(stack: Stack, devel: Devel | None) -> Nvcc:
    """The compiler for a stack's CUDA. Raises `LockError` if there is none."""
    line = stack.cuda_line
    if devel and line in devel.compilers:
        wheels = devel.compilers[line]
        return Nvcc(requirements=wheels.requirements)
    if stack.base.own:
        return Nvcc()
    if devel is None or line not in devel.images:
        raise LockError(
            f"nothing here brings nvcc for CUDA {line}",
            hint="use a base image that has it: `--base IMAGE --python X.Y`",
        )
    image = devel.images[line]
    system = stack.base.os
    if not is_taken(image, system, devel):
        raise LockError(
            f"the nvcc of {image.reference} takes g++ up to {image.newest_gxx}, and {system} has none of these",
            hint="choose an older system: `--os`",
        )
    return Nvcc(
        image=image.reference,
        host_compiler=host_compiler(image, system, devel),
    )


def pin_toolchain(
    lock: Lock,
    requires: Sequence[str],
    uv: Uv,
    devel: Devel | None,
    capability: Version | None,
) -> Toolchain:
    """The toolchain of a lock that has packages to compile.

    `requires`: what their builds ask for; `capability`: of the requested GPU, else those of torch's kernels.
    """
    stack = lock.stack
    nvcc = find_nvcc(stack, devel)
    lines = [*_USUAL_TOOLS, *nvcc.requirements, *_pins(lock)]
    for line in requires:
        # torch is pinned already; a build that asks for another one could not be used with this one.
        if canonicalize_name(Requirement(line).name) not in FAMILY:
            lines.append(line)
    answer = ask_index(uv, stack, lines)
    if answer.document is None:
        raise LockError(
            f"the tools to compile {_names(lock)} cannot be resolved",
            problems=answer.causes[:4],
        )
    return Toolchain(
        capabilities=capabilities_of(stack, capability),
        tools=tuple(_tools_in(answer.document, lock)),
        toolkit=nvcc.image,
        host_compiler=nvcc.host_compiler,
    )


def _names(lock: Lock) -> str:
    return ", ".join(source.name for source in lock.compiled)


def _pins(lock: Lock) -> Iterator[str]:
    for wheel in lock.wheels:
        if wheel.layer in _INSTALLED:
            yield f"{wheel.name}=={wheel.version}"


def _tools_in(document: JsonObject, lock: Lock) -> list[BuildTool]:
    """The wheels next to those of the lock's own layers, by name."""
    stack = lock.stack
    installed = {wheel.name for wheel in lock.wheels if wheel.layer in _INSTALLED}
    tools = []
    pylock = Pylock.from_dict(document)
    try:
        chosen = pylock.select(environment=markers(stack), tags=list(wheel_tags(stack)))
        for package, file in chosen:
            name = canonicalize_name(package.name)
            if name in installed:
                continue
            if not isinstance(file, PackageWheel) or package.version is None:
                raise LockError(f"{name} has no wheel, and is needed to compile")
            tool = BuildTool(
                name=name,
                version=package.version,
                sha256=file.hashes["sha256"],
            )
            tools.append(tool)
    except PylockSelectError as error:
        raise LockError(f"a tool to compile has no wheel: {error}") from error
    return sorted(tools, key=lambda tool: tool.name)


def capabilities_of(stack: Stack, capability: Version | None) -> tuple[str, ...]:
    """The compute capabilities to compile for: the requested one, or all that this torch has kernels for."""
    if capability is not None:
        return (str(capability),)
    found: dict[str, None] = {}
    for arch in stack.arch_list:
        _, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        major = digits[:-1]
        minor = digits[-1]
        found[f"{major}.{minor}"] = None
    return tuple(found)


def with_toolchain(
    lock: Lock,
    requires: Sequence[str],
    uv: Uv,
    devel: Devel | None,
    capability: Version | None,
) -> Lock:
    """The lock with its toolchain; the same lock if nothing is compiled."""
    if not lock.compiled:
        return lock
    return replace(lock, toolchain=pin_toolchain(lock, requires, uv, devel, capability))
