"""What a request asks of a candidate: each rule gives its reason against the candidate, or None.

A rule judges one option of the request by one side of the candidate, the rule's key. The candidate index asks it once
for each value and side, and not for every candidate. So the key must cover all that decides the verdict; the wording
may read more.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from packaging.version import Version

from envbuilder.catalog.gpus import (
    driver_range_starts,
    has_kernels,
    is_jetson,
    kernels_text,
    runs_server_wheels,
    server_wheels,
)
from envbuilder.catalog.host_compilers import is_taken
from envbuilder.catalog.lookup import (
    find_system,
    has_apt,
    newest_transformers,
    oldest_transformers,
)
from envbuilder.catalog.rows import (
    Catalog,
    System,
    ToolkitImage,
    TransformersRelease,
)
from envbuilder.grammar import ARM64
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, BaseSource, Flavour
from envbuilder.resolve.base_check import python_problem, refusal_of
from envbuilder.resolve.candidates import Candidate, bootstrapped, pythons_of
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.versions import (
    driver_reaches,
    driver_text,
    listed,
    matches_any,
    matches_prefix,
    minor_line,
)

USE_CUSTOM_BASE = "`--base IMAGE --python X.Y`"


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence for a person, and where its facts come from: for `--explain` and `--json`."""

    text: str
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def with_sources(self) -> str:
        """`torch 2.0.1 is built for CUDA 11.7.99 (PyPI: …)`."""
        sources = "; ".join(dict.fromkeys(self.sources))
        return f"{self.text} ({sources})" if sources else self.text


Objection = Reason | None
"""None: the rule accepts the candidate."""
Rule = Callable[[RequestRows, Candidate], Objection]
CandidateKey = Callable[[Candidate], Hashable]


# --- keys: what of a candidate a rule looks at ---------------------------------------------------------------------


def build_key(candidate: Candidate) -> Hashable:
    return id(candidate.build), candidate.cpu, candidate.platform


def flavour_key(candidate: Candidate) -> Hashable:
    # The system decides which g++ there is for an nvcc that no wheel brings.
    return (
        id(candidate.build),
        candidate.cpu,
        candidate.platform,
        candidate.custom,
        candidate.base.os if candidate.toolkit else "",
    )


def python_key(candidate: Candidate) -> Hashable:
    return candidate.python.release


def wheels_key(candidate: Candidate) -> Hashable:
    return (
        id(candidate.build),
        candidate.cpu,
        candidate.platform,
        candidate.python.release,
    )


def glibc_key(candidate: Candidate) -> Hashable:
    # The base is one object for each base and Python.
    return candidate.build.glibc.release, id(candidate.base)


# --- the torch build -----------------------------------------------------------------------------------------------


def cuda_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    if rows.request.cuda is None:
        return None
    if candidate.cpu:
        return Reason(f"flavour {Flavour.CPU} has no CUDA")
    build = candidate.build
    if build.cuda in rows.cuda:
        return None
    return Reason(
        f"torch {build.torch} is built for CUDA {build.cuda}",
        (build.source,),
    )


def cudnn_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    cudnn = rows.request.cudnn
    if cudnn is None:
        return None
    if candidate.cpu:
        return Reason(f"flavour {Flavour.CPU} has no cuDNN")
    build = candidate.build
    if matches_prefix(cudnn, build.cudnn):
        return None
    return Reason(
        f"{candidate.name} is built for cuDNN {build.cudnn}",
        (build.source,),
    )


def torch_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    torch = rows.request.torch
    build = candidate.build
    if torch is None:
        return None
    if matches_prefix(torch, build.torch):
        return None
    return Reason(
        f"CUDA {build.cuda} comes with torch {build.torch}",
        (build.source,),
    )


def torchvision_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    torchvision = rows.request.torchvision
    build = candidate.build
    if torchvision is None:
        return None
    if matches_prefix(torchvision, build.torchvision):
        return None
    return Reason(
        f"torch {build.torch} comes with torchvision {build.torchvision}",
        (build.source,),
    )


def as_of_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    day = rows.request.as_of
    build = candidate.build
    if day is None:
        return None
    if build.released <= day:
        return None
    return Reason(
        f"torch {build.torch} was released on {build.released}, after {day}",
        (build.source,),
    )


def platform_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    platform = rows.request.platform
    build = candidate.build
    if candidate.platform == platform:
        return None
    if has_wheels_for(candidate, platform):
        return Reason(
            f"this is its wheel for {candidate.platform}; there is another one for {platform}",
            (build.source,),
        )
    return Reason(
        f"torch {build.torch} has CUDA wheels only for {listed(build.platforms)}",
        (build.source,),
    )


def has_wheels_for(candidate: Candidate, platform: str) -> bool:
    """Whether the same torch, for the same CUDA or none, has wheels for a platform."""
    return candidate.cpu or platform in candidate.build.platforms


def flavour_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    flavour = rows.request.flavour
    without_cuda = flavour is Flavour.CPU
    if without_cuda and not candidate.cpu:
        return Reason(f"flavour {flavour} is torch without CUDA")
    if candidate.cpu and not without_cuda:
        return Reason(f"{candidate.name} is for flavour {Flavour.CPU}, not {flavour}")
    if flavour is not Flavour.DEVEL:
        return None
    if candidate.custom or candidate.nvcc:
        return None
    if candidate.toolkit:
        return _host_compiler_objection(rows, candidate, candidate.toolkit)
    return _no_compiler(rows, candidate)


def _host_compiler_objection(
    rows: RequestRows, candidate: Candidate, image: ToolkitImage
) -> Objection:
    devel = rows.catalog.policy.devel
    system = candidate.base.os
    if devel is None or is_taken(image, system, devel):
        return None
    majors = devel.host_compilers[system]
    return Reason(
        f"nvcc of CUDA {candidate.cuda_line} takes g++ up to {image.newest_gxx}; "
        f"{system} has {listed(majors)}",
        (image.source,),
    )


def _no_compiler(rows: RequestRows, candidate: Candidate) -> Reason:
    text = f"no PyPI package provides nvcc for CUDA {candidate.cuda_line}"
    advice = f"use a base image that has it: {USE_CUSTOM_BASE}"
    devel = rows.catalog.policy.devel
    major = str(candidate.build.cuda.major)
    row = devel.without.get(major) if devel else None
    if row is None:
        return Reason(f"{text}; {advice}")
    return Reason(
        f"{text} ({row.says}); {advice}",
        (row.source,),
    )


# --- GPU and driver ------------------------------------------------------------------------------------------------


def gpu_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    if rows.request.gpu is None:
        return None
    if candidate.cpu:
        return Reason(f"flavour {Flavour.CPU} uses no GPU")
    gpu = rows.gpu
    build = candidate.build
    if gpu is None:
        return Reason(f"GPU {rows.request.gpu} is unknown")
    other_processor = processor_objection(rows, candidate.platform)
    if other_processor:
        return other_processor
    if has_kernels(candidate.gpu_targets, gpu.capability):
        return None
    kernels = kernels_text(candidate.gpu_targets, gpu.capability)
    needed = f"sm_{gpu.capability.major}{gpu.capability.minor}"
    return Reason(
        f"{candidate.name} has {kernels}; {rows.gpu_name} needs {needed}",
        (build.source, gpu.source),
    )


def processor_objection(rows: RequestRows, platform: str) -> Objection:
    """Why a GPU that comes with an arm64 processor runs nothing that is built for this platform's servers."""
    gpu = rows.gpu
    if gpu is None or not rows.arm64:
        return None
    name = rows.gpu_name
    if not runs_server_wheels(gpu, rows.catalog):
        since = server_wheels(rows.catalog)
        sources = [row.source for row in (gpu, since) if row]
        return Reason(
            f"{name}, a Jetson of architecture {gpu.architecture}, runs no wheel for servers; "
            "use NVIDIA's own wheels and images for Jetson",
            tuple(sources),
        )
    if platform != ARM64:
        what = "is a Jetson with" if is_jetson(gpu) else "comes with"
        return Reason(
            f"{name} {what} an arm64 processor: use `--platform {ARM64}`",
            (gpu.source,),
        )
    return None


def driver_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    driver = rows.request.driver
    build = candidate.build
    if driver is None or candidate.cpu:
        return None
    if driver_reaches(driver, build.driver_floor):
        return None
    return Reason(
        f"CUDA {build.cuda} needs driver {build.driver_floor} or newer",
        (build.source,),
    )


def driver_and_gpu_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    """The one rule about two options; the index has ranges of drivers instead (`ranges_of_gpu`)."""
    return None if candidate.cpu else driver_gpu_mismatch(rows)


def driver_gpu_mismatch(rows: RequestRows) -> Objection:
    """Why no driver of the requested branch supports the requested GPU, whatever runs on them."""
    gpu = rows.gpu
    branches = rows.driver_branches
    driver = rows.request.driver
    if gpu is None or branches is None or driver is None:
        return None
    if branches.include(driver.major):
        return None
    name = f"{rows.gpu_name} ({gpu.architecture})"
    if branches.first and driver.major < branches.oldest:
        first = branches.first
        return Reason(
            f"{name} needs driver {first.driver} or newer, which came with CUDA {gpu.first_cuda}, "
            f"the first to support it; driver {driver_text(driver)} is older",
            (gpu.source, first.source),
        )
    if branches.last:
        return Reason(
            f"{name} needs driver branch {branches.newest} or older: {branches.last.says}",
            (gpu.source, branches.last.source),
        )
    return None


def ranges_of_gpu(rows: RequestRows) -> Sequence[int]:
    """The numbers of the driver ranges (`driver_range_starts`) that support the requested GPU."""
    starts = driver_range_starts(rows.catalog)
    every_range = range(len(starts))
    branches = rows.driver_branches
    if branches is None:
        return every_range
    return [number for number in every_range if branches.include(starts[number])]


def ranges_of_driver(rows: RequestRows) -> Sequence[int]:
    """The number of the driver range that the requested driver is in."""
    starts = driver_range_starts(rows.catalog)
    driver = rows.request.driver
    if driver is None:
        return range(len(starts))
    # The first range starts at 0, so that every driver is in one.
    after = bisect_right(starts, driver.major)
    return [after - 1]


# --- transformers --------------------------------------------------------------------------------------------------


def transformers_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    version = rows.request.transformers
    row = candidate.transformers_run
    if version is None:
        return None
    # 4.30 is the whole line, and yet an equal version to 4.30.0: only a full number can be one that failed.
    is_release = len(version.release) > 2
    if row is None:
        newest = newest_transformers(rows.catalog)
    elif is_release and version in row.broken:
        return Reason(
            f"transformers {version} fails on torch {row.torch}",
            (row.source,),
        )
    else:
        newest = row.newest
    parts = len(version.release)
    if version.release <= newest.release[:parts]:
        return _tokenizers_objection(rows, candidate, newest)
    if row is None:
        return Reason(
            f"transformers {version} is newer than any that was tested, {newest}"
        )
    return Reason(
        f"the newest transformers known to work on torch {row.torch} with Python {row.python} is {newest}",
        (row.source,),
    )


def _tokenizers_objection(
    rows: RequestRows, candidate: Candidate, newest: Version
) -> Objection:
    """Why no transformers that the request can mean has wheels for the candidate's Python."""
    latest: TransformersRelease | None = None
    for row in rows.transformers:
        if row.transformers > newest:
            continue
        if candidate.python in row.pythons.get(candidate.platform, ()):
            return None
        if latest is None or row.transformers > latest.transformers:
            latest = row
    if latest is None:
        oldest = oldest_transformers(rows.catalog)
        return Reason(
            f"transformers {rows.request.transformers} is older than any in the catalog, {oldest}"
        )
    pythons = listed(latest.pythons.get(candidate.platform, ()))
    return Reason(
        f"transformers {latest.transformers} needs tokenizers {latest.tokenizers}, "
        f"which has wheels for Python {pythons}",
        (latest.source,),
    )


# --- Python and base -----------------------------------------------------------------------------------------------


def python_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    python = rows.request.python
    build = candidate.build
    base = candidate.base
    if python is None:
        return None
    if matches_prefix(python, candidate.python):
        return None
    if base.source is BaseSource.BOOTSTRAP:
        return Reason(
            f"{base.os} has Python {candidate.python}",
            _system_sources(base.os, rows.catalog),
        )
    pythons = pythons_of(build, candidate.platform)
    if not matches_any(python, pythons):
        return Reason(
            f"torch {build.torch} and its family have wheels for Python {listed(pythons)}",
            (build.source,),
        )
    registry = rows.catalog.policy.registry
    return Reason(
        f"official Python images exist for {listed(registry.pythons)}",
        (registry.source,),
    )


def base_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    base = rows.request.base
    if candidate.custom:
        return _named_base_objection(rows, candidate)
    if base == BASE_AUTO:
        return None
    if base == candidate.base.reference:
        return Reason(f"its base is {base} by default, and not as a custom base")
    if base != BASE_BOOTSTRAP:
        return Reason(f"its base is {candidate.base.reference}, not {base}")
    if candidate.base.source is BaseSource.BOOTSTRAP:
        return None
    return _not_bootstrapped(rows, candidate)


def _named_base_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    """What the name of the user's base says against a candidate."""
    base = rows.base
    if base is None:
        return Reason("the request names no image to build on")
    refusal = refusal_of(base, rows.catalog)
    refusal = refusal or python_problem(base, candidate.python, rows.catalog)
    if refusal:
        return Reason(refusal)
    system = find_system(base.system, rows.catalog)
    if system is None or system.glibc is None:
        return None
    if system.glibc >= candidate.build.glibc:
        return None
    return _old_glibc(candidate, system.os, system.glibc)


def _not_bootstrapped(rows: RequestRows, candidate: Candidate) -> Reason:
    pythons = []
    sources = []
    for system in bootstrapped(rows.catalog):
        pythons.append(f"{minor_line(system.python)} ({system.os})")
        sources.append(system.source)
    return Reason(
        f"a bootstrapped base has the Python of its system, {listed(pythons)}, and not {candidate.python}",
        tuple(sources),
    )


def os_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    os = rows.request.os
    base = candidate.base
    if os is None:
        return None
    if candidate.custom:
        return _custom_base_objection(rows, candidate)
    if os in (base.os, base.release):
        return None
    return Reason(
        f"{base.reference} is {base.os}",
        _system_sources(base.os, rows.catalog),
    )


def _custom_base_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    """What the system that the user says a custom base has lacks."""
    system = rows.system
    if system is None:
        return Reason(f"operating system {rows.request.os} is unknown")
    if not has_apt(system):
        return no_apt(system)
    if system.glibc is None:
        return None  # not known
    if system.glibc >= candidate.build.glibc:
        return None
    return _old_glibc(candidate, system.os, system.glibc)


def no_apt(system: System) -> Reason:
    return Reason(
        f"{system.os} is not supported: the generated Dockerfile needs apt",
        (system.source,),
    )


def _system_sources(os: str, catalog: Catalog) -> tuple[str, ...]:
    return tuple(row.source for row in catalog.systems if row.os == os)


def glibc_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    """Whatever the options: what needs a newer glibc than its base has does not run."""
    base = candidate.base
    build = candidate.build
    if base.glibc < build.glibc:
        return _old_glibc(candidate, base.os, base.glibc)
    return None


def _old_glibc(candidate: Candidate, os: str, glibc: Version) -> Reason:
    build = candidate.build
    needs = f"torch {build.torch} needs glibc {build.glibc}"
    return Reason(
        f"{needs}; {os} has {glibc}",
        (build.source,),
    )
