"""Candidate → Stack: every version, requirement, feature and note, with the weakest evidence among its facts."""

from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from envbuilder.catalog.gpu_names import is_capability
from envbuilder.catalog.gpus import is_jetson
from envbuilder.catalog.host_compilers import host_compiler
from envbuilder.catalog.lookup import matching_runtimes
from envbuilder.catalog.rows import Evidence, GpuFeature, PackageIndex
from envbuilder.grammar import ARM64
from envbuilder.model import (
    CUSTOM_OS,
    PYPI,
    Base,
    Feature,
    Flavour,
    PythonSource,
    Stack,
)
from envbuilder.resolve.base_check import base_notes, managed_build, python_source_of
from envbuilder.resolve.base_name import BaseKind
from envbuilder.resolve.candidates import (
    Candidate,
    has_cpu_wheel,
)
from envbuilder.resolve.pin_days import pin_day
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.system_packages import system_package_notes
from envbuilder.versions import driver_text, matches_prefix

_WITHOUT_DISTUTILS = (3, 10)
"""Of an older Python, uv asks distutils where things go, which Debian and Ubuntu have in a package of its own."""


def make_stack(rows: RequestRows, candidate: Candidate) -> Stack:
    """The stack that a candidate is for a request that it answers."""
    stack = _common_stack(rows, candidate)
    if not candidate.cpu:
        build = candidate.build
        stack = replace(
            stack,
            cuda=build.cuda,
            cudnn=build.cudnn,
            nccl=build.nccl,
            triton=build.triton,
            arch_list=candidate.gpu_targets,
            driver_floor=build.driver_floor,
            unknown=build.unknown,
            gpu_features=_gpu_features(rows, candidate),
        )
    return stack


def _gpu_features(rows: RequestRows, candidate: Candidate) -> tuple[Feature, ...]:
    gpu = rows.gpu
    torch = candidate.build.torch
    features: list[Feature] = []
    if gpu is None:
        return ()
    for row in rows.catalog.gpu_features:
        feature = gpu_feature(row, gpu.capability, torch)
        features.append(feature)
    return tuple(features)


def first_torch(row: GpuFeature, capability: Version) -> Version | None:
    """The first torch that has a feature on a GPU; None if all have it."""
    return row.torch_for.get(str(capability), row.torch)


def gpu_feature(row: GpuFeature, capability: Version, torch: Version | None) -> Feature:
    """Whether GPUs of a compute capability can do it, with a torch or with any."""
    reason = ""
    first = first_torch(row, capability)
    if capability < row.capability:
        reason = f"{row.says}; this GPU has {capability}"
    elif torch and first and torch < first:
        reason = f"torch {torch} does not have it for this GPU: {first} is the first"
    return Feature(
        name=row.feature,
        available=not reason,
        reason=reason,
        source=row.source,
    )


def _common_stack(rows: RequestRows, candidate: Candidate) -> Stack:
    """What a stack has with and without CUDA."""
    request = rows.request
    build = candidate.build
    packages = rows.catalog.policy.packages
    base = _base(rows, candidate)
    pins = pin_day(rows, candidate)
    return Stack(
        python=candidate.python,
        torch=build.torch,
        torchvision=build.torchvision,
        torchaudio=build.torchaudio,
        cuda=None,
        cudnn=None,
        nccl=None,
        triton=None,
        index=candidate.package_index,
        index_url=_index(rows, candidate).url,
        arch_list=(),
        driver_floor="",
        base=base,
        as_of=pins.day,
        platform=request.platform,
        requirements=tuple(_requirements(rows, candidate)),
        extras=tuple(sorted(request.packages)),
        constraints=tuple(sorted(request.constraints)),
        moving=packages.moving,
        excluded=packages.excluded,
        features=candidate.features,
        notes=(*_notes(rows, candidate, base), *pins.notes),
        evidence=_weakest(_evidence(rows, candidate)),
        flavour=request.flavour,
        apt=request.apt,
        package_days=tuple(pins.package_days(request.packages)),
        toolkit=_toolkit(rows, candidate),
        host_compiler=_host_compiler(rows, candidate),
    )


def _toolkit(rows: RequestRows, candidate: Candidate) -> str | None:
    """The image that nvcc is taken from: of flavour devel, where no wheel brings it and the base is not the user's."""
    if rows.request.flavour is not Flavour.DEVEL or candidate.custom:
        return None
    return candidate.toolkit.reference if candidate.toolkit else None


def _host_compiler(rows: RequestRows, candidate: Candidate) -> str | None:
    devel = rows.catalog.policy.devel
    image = candidate.toolkit
    if devel is None or image is None:
        return None
    if _toolkit(rows, candidate) is None:
        return None
    return host_compiler(image, candidate.base.os, devel)


def _base(rows: RequestRows, candidate: Candidate) -> Base:
    """The candidate's base; one that the user names gets its name, and what `--os` says of it."""
    if not candidate.custom:
        return candidate.base
    base = replace(candidate.base, reference=rows.request.base)
    system = rows.system_of_base
    if system is not None:
        base = replace(
            base,
            os=system.os,
            glibc=system.glibc or base.glibc,
            end_of_life=system.last_day,
        )
    return _with_python(rows, candidate, base)


def _with_python(rows: RequestRows, candidate: Candidate, base: Base) -> Base:
    """A custom base with what its Python needs."""
    if rows.base is None:
        return base
    python = candidate.python
    source = python_source_of(rows.base, python, rows.catalog)
    if source is PythonSource.IMAGE:
        return base
    if source is PythonSource.MANAGED:
        return replace(
            base,
            python_source=source,
            python_build=managed_build(python, rows.catalog),
        )
    bootstrap = rows.catalog.policy.bootstrap
    packages = {*base.system_packages, *bootstrap.system_packages}
    if python.release < _WITHOUT_DISTUTILS:
        packages.add("python3-distutils")
    return replace(
        base,
        python_source=source,
        system_packages=tuple(sorted(packages)),
    )


# --- packages ------------------------------------------------------------------------------------------------------


def _requirements(rows: RequestRows, candidate: Candidate) -> Iterator[str]:
    build = candidate.build
    local = candidate.local_version
    yield f"torch=={build.torch}{local}"
    if candidate.platform == ARM64:
        # Of PyTorch's wheels for arm64, those of torchvision may have no local version; the pin takes both.
        local = ""
    yield f"torchvision=={build.torchvision}{local}"
    if build.torchaudio:
        yield f"torchaudio=={build.torchaudio}{local}"
    bounds = {"transformers": _transformers_bounds(rows, candidate)}
    if not build.numpy2:
        bounds["numpy"] = "<2"
    packages = rows.catalog.policy.packages
    for name in packages.requirements:
        yield name + bounds.get(name, "")
    if rows.request.flavour is Flavour.DEVEL:
        yield from _compiler_requirements(rows, candidate)
    # The index of the stack's day has no setuptools that is too new; a package of the user's may ask for a broken one.
    if build.setuptools and rows.request.packages:
        yield f"setuptools{build.setuptools}"


def _compiler_requirements(rows: RequestRows, candidate: Candidate) -> Iterator[str]:
    """What flavour devel adds: build tools, and nvcc where wheels bring it."""
    devel = rows.catalog.policy.devel
    if devel is None:
        return
    yield from devel.packages
    if candidate.nvcc:
        yield from candidate.nvcc.requirements


def _transformers_bounds(rows: RequestRows, candidate: Candidate) -> str:
    """`==4.30.*,<=4.49.0`."""
    version = rows.request.transformers
    run = candidate.transformers_run
    if version is None:
        return f"<={run.newest}" if run else ""
    if len(version.release) > 2:
        bounds = [f"=={version}"]
    else:
        bounds = [f"=={version}.*"]
        if run:
            bounds.append(f"<={run.newest}")
    if run:
        for broken in run.broken:
            if matches_prefix(version, broken):
                bounds.append(f"!={broken}")
    return ",".join(bounds)


# --- notes ---------------------------------------------------------------------------------------------------------


def _notes(rows: RequestRows, candidate: Candidate, base: Base) -> Iterator[str]:
    for feature in candidate.features:
        if not feature.available:
            yield f"{feature.name} is not available: {feature.reason}"
    if not candidate.cpu:
        yield from _gpu_notes(rows, candidate)
        yield from _cuda_notes(rows, candidate)
        yield from _driver_notes(rows, candidate)
    if candidate.package_index != PYPI:
        yield _index_note(rows, candidate)
    yield from system_package_notes(rows.request.apt)
    toolkit = _toolkit(rows, candidate)
    if toolkit:
        yield f"nvcc of CUDA {candidate.cuda_line} is taken from {toolkit}: no wheel brings it"
    elif rows.request.flavour is Flavour.DEVEL and not candidate.nvcc:
        yield f"nvcc of CUDA {candidate.cuda_line} must be in {base.reference}, in /usr/local/cuda: no wheel brings it"
    if base.end_of_life and base.end_of_life <= rows.catalog.date:
        yield f"{base.os.title()} is past its end of life ({base.end_of_life}): it gets no security updates"
    if rows.base is not None:
        cuda = "" if candidate.cpu else candidate.cuda_line
        yield from base_notes(rows.base, candidate.python, cuda, rows.catalog)
    if rows.base is not None and rows.base.kind is BaseKind.UNKNOWN:
        glibc = base.glibc if base.os == CUSTOM_OS else candidate.build.glibc
        yield (
            f"nothing is known about {base.reference}: it must be Debian-like, with Python {candidate.python} "
            f"and glibc {glibc} or newer"
        )


def _index(rows: RequestRows, candidate: Candidate) -> PackageIndex:
    """The index of the torch family."""
    name = candidate.package_index
    return rows.catalog.policy.indexes.get(name) or PackageIndex(title=name)


def _index_note(rows: RequestRows, candidate: Candidate) -> str:
    index = _index(rows, candidate)
    if index.url:
        return f"the torch family is from {index.title} ({index.url}), everything else from PyPI"
    return (
        f"the torch family is from {index.title} ({candidate.package_index}), whose address is not known: "
        "`envbuilder lock` needs `--torch-index URL`"
    )


def _gpu_notes(rows: RequestRows, candidate: Candidate) -> Iterator[str]:
    """What a GPU asks of a driver that was not given, beyond what CUDA asks."""
    if rows.arm64:
        yield f"{rows.gpu_name} comes with an arm64 processor: this is for {rows.request.platform}"
    branches = rows.driver_branches
    if branches is None or rows.request.driver is not None:
        return
    first = branches.first
    last = branches.last
    floor = Version(candidate.build.driver_floor)
    if first and branches.oldest > floor.major:
        yield f"the GPU needs a driver of branch {branches.oldest} or newer ({first.source})"
    if last:
        yield f"{last.says} ({last.source})"


def _cuda_notes(rows: RequestRows, candidate: Candidate) -> Iterator[str]:
    """How the requested patch release relates to the number of the runtime."""
    cuda = rows.request.cuda
    built = candidate.build.cuda
    if cuda is None or matches_prefix(cuda, built):
        return
    runtimes = []
    releases = []
    for row in rows.catalog.runtimes:
        if built in (row.runtime, row.release):
            runtimes.append(row)
            releases.append(str(row.release))
    if not runtimes:
        return
    toolkits = " and ".join(releases)
    if any(cuda in (row.release, row.runtime) for row in runtimes):
        yield f"{built} is the number of CUDA's runtime in toolkit {toolkits} ({runtimes[0].source})"
    else:
        yield f"no torch is built with CUDA {cuda}; it is with {toolkits}, which runs what is made for {cuda}"


def _driver_notes(rows: RequestRows, candidate: Candidate) -> Iterator[str]:
    """Of a branch, which of its drivers are new enough; those of Jetsons are numbered apart."""
    driver = rows.request.driver
    floor = candidate.build.driver_floor
    if driver is None:
        return
    if rows.gpu and is_jetson(rows.gpu):
        return
    if driver < Version(floor):
        yield f"driver {driver_text(driver)} has to be {floor} or newer"


# --- evidence ------------------------------------------------------------------------------------------------------


def _evidence(rows: RequestRows, candidate: Candidate) -> Iterator[Evidence]:
    """The status of every fact that the stack rests on."""
    yield _wheels_evidence(rows, candidate)
    if candidate.transformers_run:
        yield candidate.transformers_run.status
    else:
        yield Evidence.INFERRED
    for system in rows.catalog.systems:
        if system.os == candidate.base.os:
            yield system.status
    if rows.base is not None:
        known = rows.base.kind is not BaseKind.UNKNOWN
        yield Evidence.DOCUMENTED if known else Evidence.INFERRED
    devel = rows.request.flavour is Flavour.DEVEL
    if devel and candidate.nvcc:
        yield candidate.nvcc.status
    if _toolkit(rows, candidate) and candidate.toolkit:
        yield candidate.toolkit.status
    if rows.gpu and not is_capability(rows.request.gpu or ""):
        yield rows.gpu.status
    if not candidate.cpu:
        yield from _driver_evidence(rows)
        yield from _cuda_evidence(rows, candidate)


def _wheels_evidence(rows: RequestRows, candidate: Candidate) -> Evidence:
    build = candidate.build
    cpu = rows.catalog.policy.cpu
    if cpu is None or not candidate.cpu:
        return build.status
    if has_cpu_wheel(build, candidate.platform):
        return build.status
    return cpu.status


def _driver_evidence(rows: RequestRows) -> Iterator[Evidence]:
    """Of a GPU and a driver: that they go together."""
    branches = rows.driver_branches
    driver = rows.request.driver
    if branches is None or driver is None:
        return
    for row in (branches.first, branches.last):
        if row:
            yield row.status


def _cuda_evidence(rows: RequestRows, candidate: Candidate) -> Iterator[Evidence]:
    """Of a patch release: that the build's CUDA is the one that it means."""
    cuda = rows.request.cuda
    if cuda is None or matches_prefix(cuda, candidate.build.cuda):
        return
    runtimes = matching_runtimes(cuda, rows.catalog)
    if runtimes:
        yield runtimes[0].status
    else:
        yield Evidence.INFERRED


def _weakest(statuses: Iterator[Evidence]) -> str:
    order = list(Evidence)  # strongest first
    return max(statuses, key=order.index).value
