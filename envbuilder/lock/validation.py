"""What is wrong with a lock in itself: with its wheels, its CUDA, and what the stack requires."""

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)

from envbuilder import grammar
from envbuilder.lock.target_platform import accepted_tags, markers
from envbuilder.lock.torch_index import FAMILY
from envbuilder.model import (
    PYPI,
    SCHEMA,
    Layer,
    Lock,
    PythonSource,
    Source,
    SourceKind,
    Stack,
    Wheel,
)

_LOCAL_INDEXES = (
    "pytorch-"  # PyTorch's own indexes put the CUDA into the version: 2.5.1+cu118
)
_ORIGINS = {
    SourceKind.GIT: grammar.GitUrl,
    SourceKind.LOCAL: grammar.LocalPath,
    SourceKind.URL: grammar.FileUrl,
    SourceKind.SDIST: grammar.ArchiveFile,
}
_CUDA_WHEELS = (
    "nvidia-cuda-runtime",
    "nvidia-cudnn",
)  # what every torch with CUDA requires, where wheels bring CUDA


# The locks of a repository have most of their files in common.
_parts_of = lru_cache(maxsize=4096)(parse_wheel_filename)


def find_problems(lock: Lock) -> Iterator[str]:
    """What is wrong with a lock in itself; a good one yields nothing."""
    if lock.schema != SCHEMA:
        yield f"it has schema {lock.schema}; this envbuilder reads {SCHEMA}"
    if len({wheel.name for wheel in lock.wheels}) != len(lock.wheels):
        yield "a package is locked twice"
    for wheel in lock.wheels:
        yield from _wheel_problems(wheel, lock.stack)
        yield from _index_problems(wheel, lock.stack)
    yield from _cuda_problems(lock)
    yield from _source_problems(lock)
    yield from _python_problems(lock.stack)
    for line in [*lock.stack.requirements, *lock.stack.extras]:
        yield from _requirement_problems(line, lock)


def _wheel_problems(wheel: Wheel, stack: Stack) -> Iterator[str]:
    if not grammar.matches(grammar.Sha256, wheel.sha256):
        yield f"{wheel.name}: {wheel.sha256!r} is not a sha256"
    try:
        parts = _parts_of(wheel.file)
    except InvalidWheelFilename:
        yield f"{wheel.name}: {wheel.file!r} is not a wheel's file name"
        return
    name, version, _, tags_of_file = parts
    if (name, version) != (wheel.name, wheel.version):
        yield f"{wheel.name} {wheel.version}: {wheel.file} is the file of another package or version"
    if tags_of_file.isdisjoint(accepted_tags(stack)):
        yield f"{wheel.file} does not install on Python {stack.python} for {stack.platform}"


def _index_problems(wheel: Wheel, stack: Stack) -> Iterator[str]:
    """The torch family is of the stack's own index, everything else of PyPI."""
    expected = PYPI
    if wheel.name in FAMILY:
        expected = stack.index
    if wheel.index != expected:
        name = f"{wheel.name} {wheel.version}"
        yield f"{name} is locked from the index {wheel.index}; it has to be from {expected}"


def _cuda_problems(lock: Lock) -> Iterator[str]:
    """Wheels of another CUDA than the stack's."""
    stack = lock.stack
    torch = _wheel_named("torch", lock)
    has_local_version = stack.index.startswith(_LOCAL_INDEXES)
    if torch and has_local_version and torch.version.local != stack.cuda_tag:
        expected = f"{torch.version.public}+{stack.cuda_tag}"
        yield f"torch {torch.version} is locked; on the index {stack.index} it is {expected}"
    cuda_wheels = []
    for wheel in lock.wheels:
        if wheel.name.startswith(_CUDA_WHEELS):
            cuda_wheels.append(wheel.name)
    if stack.cuda is None and cuda_wheels:
        names = " and ".join(sorted(cuda_wheels))
        yield f"{names} is locked; the stack has no CUDA"


def _python_problems(stack: Stack) -> Iterator[str]:
    """A Python from elsewhere than the base, which only a custom base has, and without its full version."""
    base = stack.base
    if base.python_source is not PythonSource.IMAGE and not base.own:
        yield f"its base {base.reference} has Python, and the lock brings another one"
    if base.python_source is not PythonSource.MANAGED:
        return
    if not base.python_build.startswith(f"{stack.python}."):
        yield f"its Python is {stack.python}, and {base.python_build!r} is to be installed"


def _requirement_problems(line: str, lock: Lock) -> Iterator[str]:
    """A requirement of the stack that is malformed, or that no wheel of the lock satisfies."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        yield f"{line!r} is not a package with an optional version"
        return
    marker = requirement.marker
    if marker and not marker.evaluate(cast("dict[str, str]", markers(lock.stack))):
        return  # it is for another Python or platform
    name = canonicalize_name(requirement.name)
    found = _wheel_named(name, lock) or _compiled_named(name, lock)
    if found is None:
        yield f"{requirement.name} is required but missing from the lock"
    elif not requirement.specifier.contains(found.version, prereleases=True):
        yield f"{requirement.name} {found.version} is locked; the stack requires {requirement.specifier}"


def _source_problems(lock: Lock) -> Iterator[str]:
    """Sources without their wheels, or with what does not go together."""
    names = set()
    for source in lock.sources:
        if source.name in names:
            yield f"{source.name} has two sources"
        names.add(source.name)
        if source.compiled:
            yield from _compiled_problems(source, lock)
            continue
        wheel = _wheel_named(source.name, lock)
        if wheel is None or wheel.version != source.version:
            yield f"{source.name} {source.version} has a source and no wheel"
        else:
            yield from _built_problems(source, wheel)
        yield from _origin_problems(source)


def _compiled_problems(source: Source, lock: Lock) -> Iterator[str]:
    """What does not go together in a package that is compiled while the image is built."""
    if _wheel_named(source.name, lock):
        yield f"{source.name} is compiled in the image and has a wheel"
    if lock.toolchain is None:
        yield f"{source.name} is compiled in the image, and the lock has nothing to compile it with"
    if not source.is_built:
        yield f"{source.name} is compiled in the image and has no build backend"
    yield from _origin_problems(source)


def _built_problems(source: Source, wheel: Wheel) -> Iterator[str]:
    """A wheel that cannot be what its source is built to."""
    if wheel.layer is not Layer.STACK:
        yield f"{source.name} has a source and is in the layer {wheel.layer}"
    if source.is_built:
        is_pure = wheel.file.endswith("-none-any.whl")
        if not is_pure:
            yield f"{wheel.file} has a source and is not pure Python"
        return
    if wheel.sha256 != source.sha256:
        yield f"{wheel.file} is not the archive of its source"


def _origin_problems(source: Source) -> Iterator[str]:
    kind = _ORIGINS[source.kind]
    if not grammar.matches(kind, source.origin):
        expected = grammar.words(kind)
        yield f"{source.name}: {source.origin!r} is not {expected}"
    name = source.name
    is_repository = source.kind is SourceKind.GIT
    has_commit = source.commit != ""
    if is_repository != has_commit:
        yield f"{name}: a commit is that of a repository"
    is_wheel = source.archive.endswith(".whl")
    if source.is_built == is_wheel:
        yield f"{name}: {source.archive} and its build do not go together"


def _wheel_named(name: str, lock: Lock) -> Wheel | None:
    for wheel in lock.wheels:
        if wheel.name == name:
            return wheel
    return None


def _compiled_named(name: str, lock: Lock) -> Source | None:
    for source in lock.compiled:
        if source.name == name:
            return source
    return None
