"""A base of the user's own against the catalog: can it be one, which Python does it get, and what people should know.

From its name alone (`base_name`): no image is looked at. What a name cannot say, docker/system/base.sh checks while an
image is built.
"""

import difflib
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog import load_images, own_folder
from envbuilder.catalog.lookup import find_system, is_python_with_wheels
from envbuilder.catalog.observations import CudaImage, ImageState
from envbuilder.catalog.rows import Catalog, System
from envbuilder.errors import NoStackError
from envbuilder.model import (
    BASE_AUTO,
    BASE_BOOTSTRAP,
    Flavour,
    PythonSource,
    Request,
    Stack,
)
from envbuilder.resolve.base_name import BaseKind, BaseName, read_base_name
from envbuilder.versions import listed, matches_prefix, minor_line

_MOST_TAGS = 3


def base_name_of(request: Request) -> BaseName | None:
    """What the name of the request's base says; None if envbuilder chooses the base."""
    if request.base in (BASE_AUTO, BASE_BOOTSTRAP):
        return None
    return read_base_name(request.base)


def system_of(base: BaseName, catalog: Catalog) -> System | None:
    """The row of the system that the name tells, if the catalog has it."""
    return find_system(base.system, catalog)


def implied_python(base: BaseName, catalog: Catalog) -> Version | None:
    """The Python that an image on this base has without a word: its own, or that of its system if torch runs on it."""
    if base.python:
        return base.python
    if not base.python_from_system:
        return None
    system = system_of(base, catalog)
    if system is None:
        return None
    line = minor_line(system.python)
    python = Version(line)
    if not is_python_with_wheels(python, catalog):
        return None
    return python


def implied_cuda(base: BaseName, catalog: Catalog) -> Version | None:
    """The CUDA of an image with CUDA; where no torch is built for it, the next older one of the same major.

    That runs on every driver that runs the image's.
    """
    if base.cuda is None:
        return None
    line = base.cuda.release[:2]
    older = []
    for build in catalog.torch:
        built = build.cuda.release[:2]
        if built[0] == line[0] and built <= line:
            older.append(built)
    if not older:
        return None
    major, minor = max(older)
    return Version(f"{major}.{minor}")


def python_source_of(base: BaseName, python: Version, catalog: Catalog) -> PythonSource:
    """Where an image on this base has a Python from."""
    if not base.python_from_system:
        return PythonSource.IMAGE
    system = system_of(base, catalog)
    if system is None or matches_prefix(python, system.python):
        return PythonSource.SYSTEM
    return PythonSource.MANAGED


# --- can it be a base ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)  # asked once for every group of candidates
def refusal_of(base: BaseName, catalog: Catalog) -> str:
    """Why no image can be built on it, as far as its name tells; "" if nothing is against it."""
    if base.refusal:
        return base.refusal
    if base.kind is BaseKind.CUDA:
        return _tag_problem(base, catalog)
    if base.kind is BaseKind.SYSTEM and not base.system:
        return (
            f"{base.reference} is another release every few years: name one, "
            "such as debian:12 or ubuntu:22.04"
        )
    return ""


def python_problem(base: BaseName, python: Version, catalog: Catalog) -> str:
    """Why an image on this base cannot have a Python; "" if it can."""
    if base.python and base.python != python:
        return f"{base.reference} has Python {base.python}"
    source = python_source_of(base, python, catalog)
    if source is not PythonSource.MANAGED:
        return ""
    if managed_build(python, catalog):
        return ""
    system = system_of(base, catalog)
    own = "none"
    if system:
        own = minor_line(system.python)
    return f"{base.reference} has Python {own} in its packages, and uv has no build of {python}"


def managed_build(python: Version, catalog: Catalog) -> str:
    """The full version of the Python that uv downloads for X.Y; "" if it has none."""
    managed = catalog.policy.managed
    if managed is None:
        return ""
    line = minor_line(python)
    return managed.builds.get(line, "")


# --- tags of nvidia/cuda -------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _images(catalog: Catalog) -> tuple[CudaImage, ...]:
    return load_images(own=own_folder(catalog))


def _tag_problem(base: BaseName, catalog: Catalog) -> str:
    """Why a tag of nvidia/cuda cannot be pulled; "" for one that exists, or that is newer than the catalog."""
    has_digest = "@" in base.reference
    if has_digest and not base.tag:
        return ""
    if base.tag in ("", "latest"):
        example = _newest_tag(catalog)
        return f"nvidia/cuda has no tag latest: name one, such as {example}"
    if base.cuda is None or _image_of(base, catalog):
        return ""
    known = {image.cuda for image in _images(catalog)}
    newest = max(known)
    if base.cuda > newest:
        return ""
    if base.cuda in known:
        similar = similar_tags(base, catalog)
        return f"nvidia/cuda has no tag {base.tag}; similar: {listed(similar)}"
    releases = _of_same_line(base.cuda, known)
    return f"nvidia/cuda has no CUDA {base.cuda}: its tags have {listed(releases)}"


def _of_same_line(cuda: Version, known: Collection[Version]) -> list[Version]:
    """The releases of the same line, or all that are known."""
    line = cuda.release[:2]
    releases = []
    for version in known:
        if version.release[:2] == line:
            releases.append(version)
    return sorted(releases or known)


def similar_tags(base: BaseName, catalog: Catalog) -> list[str]:
    """The tags of the same CUDA on Ubuntu, the newest system of the most similar flavour first."""
    by_flavour: dict[str, list[str]] = {}
    for image in _images(catalog):
        if image.cuda != base.cuda:
            continue
        if not image.os.startswith("ubuntu"):
            continue
        for flavour in image.flavours:
            tags = by_flavour.setdefault(flavour, [])
            tags.append(f"{image.cuda}-{flavour}-{image.os}")
    _, *words = base.tag.split("-")
    wanted = "-".join(words[:-1])
    flavours = difflib.get_close_matches(
        wanted,
        by_flavour,
        n=_MOST_TAGS,
        cutoff=0.0,
    )
    similar: list[str] = []
    for flavour in flavours:
        similar += sorted(by_flavour[flavour], reverse=True)
    return similar[:_MOST_TAGS]


def _newest_tag(catalog: Catalog) -> str:
    newest: CudaImage | None = None
    for image in _images(catalog):
        if image.os != "ubuntu22.04":
            continue
        if image.state is not ImageState.SUPPORTED:
            continue
        if newest is None or image.cuda > newest.cuda:
            newest = image
    return newest.tags[0] if newest else "X.Y.Z-base-ubuntu22.04"


@lru_cache(maxsize=4)
def _images_by_tag(catalog: Catalog) -> dict[str, CudaImage]:
    """Every tag → its image. A request asks for one many times, and there are two thousand."""
    images: dict[str, CudaImage] = {}
    for image in _images(catalog):
        for tag in image.tags:
            images.setdefault(tag, image)
    return images


def _image_of(base: BaseName, catalog: Catalog) -> CudaImage | None:
    return _images_by_tag(catalog).get(base.tag)


# --- what people should know ---------------------------------------------------------------------------------------


def base_notes(
    base: BaseName, python: Version, cuda: str, catalog: Catalog
) -> Iterator[str]:
    """What is not obvious of an image on this base; `cuda` is the stack's line, "" without CUDA."""
    yield from _kind_notes(base)
    yield from _unused_cuda_notes(base, cuda)
    if base.kind is BaseKind.CUDA:
        yield from _tag_notes(base, catalog)
    source = python_source_of(base, python, catalog)
    if source is PythonSource.SYSTEM:
        yield (
            f"{base.reference} has no Python: "
            f"Python {python} comes from its system's packages"
        )
    elif source is PythonSource.MANAGED:
        yield (
            f"{base.reference} has no Python {python} in its packages: "
            "uv downloads a build of it (python-build-standalone) "
            "and checks its hash"
        )


def _kind_notes(base: BaseName) -> Iterator[str]:
    if base.kind is BaseKind.TORCH:
        yield (
            f"the torch that {base.reference} has is not used: "
            "the stack's own goes into /opt/venv; "
            "an official Python image is several GB smaller"
        )
    if base.kind is BaseKind.CONDA:
        yield (f"conda's packages in {base.reference} are not used, only its Python")


def _unused_cuda_notes(base: BaseName, cuda: str) -> Iterator[str]:
    if base.cuda is None:
        return
    line = minor_line(base.cuda)
    if not cuda:
        yield f"the stack has no CUDA: the one in {base.reference} is not used"
    elif line != cuda:
        yield (
            f"torch's wheels bring CUDA {cuda}: "
            f"the CUDA {line} in {base.reference} is not used"
        )
    elif not base.has_nvcc:
        yield (
            f"torch's wheels bring CUDA {cuda} and cuDNN of their own: "
            f"those of {base.reference} only add to its size"
        )


def _tag_notes(base: BaseName, catalog: Catalog) -> Iterator[str]:
    image = _image_of(base, catalog)
    name = f"nvidia/cuda:{base.tag}"
    if image is None:
        yield (
            f"{name} is not in the catalog: whether it exists shows when it is pulled"
        )
    elif image.state is ImageState.DROPPED:
        yield (f"{name} is no longer on NVIDIA's lists: it may have been deleted")
    elif image.state is ImageState.END_OF_LIFE:
        yield (
            f"{name} is at the end of its life: NVIDIA deletes such tags without notice"
        )


# --- against the rest of a request ---------------------------------------------------------------------------------


def check_base_options(request: Request, catalog: Catalog) -> None:
    """Raise `NoStackError` for a base that cannot have the requested Python or system."""
    base = base_name_of(request)
    if base is None or refusal_of(base, catalog):
        return
    _check_python(base, request.python, catalog)
    if request.os:
        _check_system(base, request.os, catalog)


def _check_python(base: BaseName, python: Version | None, catalog: Catalog) -> None:
    if python is None:
        return
    problem = python_problem(base, python, catalog)
    if not problem:
        return
    if base.python:
        problem += f", not {python}"
    raise NoStackError(
        problem,
        conflict=[
            ("base", base.reference),
            ("python", str(python)),
        ],
        advice="leave out `--python`, or use another base",
    )


def _check_system(base: BaseName, os: str, catalog: Catalog) -> None:
    system = system_of(base, catalog)
    if system is None:
        return
    if os in (system.os, system.release):
        return
    raise NoStackError(
        f"{base.reference} is {system.os}, not {os}",
        conflict=[
            ("base", base.reference),
            ("os", os),
        ],
        advice="leave out `--os`: the name of the image says it",
    )


def check_compiler(request: Request, stack: Stack) -> None:
    """Raise `NoStackError` for flavour devel on a base whose nvcc is missing, or is of another CUDA."""
    base = base_name_of(request)
    if base is None:
        return
    problem = _compiler_problem(base, stack)
    if problem:
        raise NoStackError(
            problem,
            conflict=[("base", request.base), ("flavour", str(stack.flavour))],
            advice="use a devel tag of nvidia/cuda for the same CUDA, or leave out `--flavor devel`",
        )


def _compiler_problem(base: BaseName, stack: Stack) -> str:
    """Why the nvcc of a base does not do for flavour devel; "" if it may, or if a wheel brings nvcc."""
    if stack.flavour is not Flavour.DEVEL:
        return ""
    if _has_nvcc_wheel(stack):
        return ""
    wanted = f"CUDA {stack.cuda_line}"
    if base.has_nvcc is False:
        return (
            f"{base.reference} has no nvcc, "
            f"and no PyPI package provides it for {wanted}"
        )
    if base.cuda is None or stack.cuda is None:
        return ""
    if base.cuda.major == stack.cuda.major:
        return ""
    line = minor_line(base.cuda)
    return (
        f"the nvcc of {base.reference} is for CUDA {line}, "
        f"and torch is built for {wanted}"
    )


def _has_nvcc_wheel(stack: Stack) -> bool:
    return any(line.startswith("nvidia-cuda-nvcc") for line in stack.requirements)


def alternatives_to(base: BaseName, catalog: Catalog) -> Sequence[str]:
    """Bases to try instead, the likeliest first."""
    instead = []
    if base.kind is BaseKind.CUDA and base.tag:
        tags = similar_tags(base, catalog)
        end = f":{base.tag}"
        repository, _, _ = base.reference.partition(end)
        instead += [f"{repository}:{tag}" for tag in tags[:1]]
    instead.append(BASE_AUTO)
    return instead
