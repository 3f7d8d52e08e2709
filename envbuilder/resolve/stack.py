"""Candidate → Stack: every version, requirement, feature and note, with the weakest evidence among its facts."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from packaging.version import Version

from envbuilder.catalog.gpus import is_capability
from envbuilder.catalog.lookup import matching_runtimes
from envbuilder.catalog.rows import PYPI, Evidence
from envbuilder.model import Base, Flavour, Stack
from envbuilder.resolve.candidates import CUSTOM_OS, Candidate, has_cpu_wheel
from envbuilder.resolve.resolved_request import ResolvedRequest
from envbuilder.versions import driver_text, matches_prefix


def make_stack(resolved: ResolvedRequest, candidate: Candidate) -> Stack:
    """The stack that a candidate is for a request that it answers."""
    stack = _without_cuda(resolved, candidate)
    if not candidate.cpu:
        build = candidate.build
        stack = replace(
            stack,
            cuda=build.cuda,
            cudnn=build.cudnn,
            nccl=build.nccl,
            triton=build.triton,
            arch_list=candidate.binaries,
            driver_floor=build.driver_floor,
            unknown=build.unknown,
        )
    return stack


def _without_cuda(resolved: ResolvedRequest, candidate: Candidate) -> Stack:
    request = resolved.request
    build = candidate.build
    packages = resolved.catalog.policy.packages
    base = _base(resolved, candidate)
    return Stack(
        python=candidate.python,
        torch=build.torch,
        torchvision=build.torchvision,
        torchaudio=build.torchaudio,
        cuda=None,
        cudnn=None,
        nccl=None,
        triton=None,
        index=candidate.index,
        arch_list=(),
        driver_floor="",
        base=base,
        as_of=request.as_of or _as_of(resolved, candidate),
        platform=request.platform,
        requirements=tuple(_requirements(resolved, candidate)),
        extras=tuple(sorted(request.packages)),
        moving=packages.moving,
        excluded=packages.excluded,
        features=candidate.features,
        notes=tuple(_notes(resolved, candidate, base)),
        evidence=_weakest(_evidence(resolved, candidate)),
        flavour=request.flavour,
    )


def _base(resolved: ResolvedRequest, candidate: Candidate) -> Base:
    """The candidate's base; one that the user names gets its name, and what `--os` says of it."""
    if not candidate.custom:
        return candidate.base
    base = replace(candidate.base, reference=resolved.request.base)
    system = resolved.system
    if system is None:
        return base
    return replace(
        base,
        os=system.os,
        glibc=system.glibc or base.glibc,
        end_of_life=system.last_day,
    )


def _as_of(resolved: ResolvedRequest, candidate: Candidate) -> date:
    """The day before the first transformers that may not work, if the index of that day has settled."""
    catalog = resolved.catalog
    working = candidate.transformers
    settle = timedelta(days=catalog.policy.as_of.settle_days)
    day = catalog.date - settle
    if working and working.next_released:
        day = min(day, _day_before(working.next_released))
    # What the stack pins must have been on the index by then.
    day = max(day, candidate.build.released)
    version = resolved.request.transformers
    if version and len(version.release) > 1:
        for row in resolved.transformers:
            day = max(day, row.released)
    return day


def _day_before(day: date) -> date:
    """The day before; a row of a catalog can have any day, and the first of all has none before it."""
    if day == date.min:
        return day
    return day - timedelta(days=1)


# --- packages ------------------------------------------------------------------------------------------------------


def _requirements(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[str]:
    build = candidate.build
    local = candidate.local_version
    yield f"torch=={build.torch}{local}"
    yield f"torchvision=={build.torchvision}{local}"
    if build.torchaudio:
        yield f"torchaudio=={build.torchaudio}{local}"
    bounds = {"transformers": _transformers_bounds(resolved, candidate)}
    if not build.numpy2:
        bounds["numpy"] = "<2"
    packages = resolved.catalog.policy.packages
    for name in packages.requirements:
        yield name + bounds.get(name, "")
    if resolved.request.flavour is Flavour.DEVEL:
        yield from _compiler_requirements(resolved, candidate)
    # The index of the stack's day has no setuptools that is too new; a package of the user's may ask for a broken one.
    if build.setuptools and resolved.request.packages:
        yield f"setuptools{build.setuptools}"


def _compiler_requirements(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[str]:
    """What flavour devel adds: build tools, and nvcc where wheels bring it."""
    devel = resolved.catalog.policy.devel
    if devel is None:
        return
    yield from devel.packages
    if candidate.compiler:
        yield from candidate.compiler.requirements


def _transformers_bounds(resolved: ResolvedRequest, candidate: Candidate) -> str:
    """`==4.30.*,<=4.49.0`."""
    version = resolved.request.transformers
    working = candidate.transformers
    if version is None:
        return f"<={working.newest}" if working else ""
    if len(version.release) > 2:
        bounds = [f"=={version}"]
    else:
        bounds = [f"=={version}.*"]
        if working:
            bounds.append(f"<={working.newest}")
    if working:
        for broken in working.broken:
            if matches_prefix(version, broken):
                bounds.append(f"!={broken}")
    return ",".join(bounds)


# --- notes ---------------------------------------------------------------------------------------------------------


def _notes(resolved: ResolvedRequest, candidate: Candidate, base: Base) -> Iterator[str]:
    for feature in candidate.features:
        if not feature.available:
            yield f"{feature.name} is not available: {feature.reason}"
    if not candidate.cpu:
        yield from _gpu_notes(resolved, candidate)
        yield from _cuda_notes(resolved, candidate)
        yield from _driver_notes(resolved, candidate)
    if candidate.index != PYPI:
        yield (
            f"its wheels are on the index {candidate.index}, not on PyPI: "
            "`envbuilder lock` needs an index that has them, `--index-url URL`"
        )
    if resolved.request.flavour is Flavour.DEVEL and not candidate.compiler:
        yield f"nvcc of CUDA {candidate.cuda_line} must be in {base.reference}, in /usr/local/cuda: no wheel brings it"
    if base.end_of_life and base.end_of_life <= resolved.catalog.date:
        yield f"{base.os.title()} is past its end of life ({base.end_of_life}): it gets no security updates"
    if candidate.custom:
        glibc = base.glibc if base.os == CUSTOM_OS else candidate.build.glibc
        yield (
            f"nothing is known about {base.reference}: it must be Debian-like, with Python {candidate.python} "
            f"and glibc {glibc} or newer"
        )


def _gpu_notes(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[str]:
    """What a GPU asks of a driver that was not given, beyond what CUDA asks."""
    branches = resolved.drivers
    if branches is None or resolved.request.driver is not None:
        return
    first = branches.first
    last = branches.last
    floor = Version(candidate.build.driver_floor)
    if first and branches.oldest > floor.major:
        yield f"the GPU needs a driver of branch {branches.oldest} or newer ({first.source})"
    if last:
        yield f"{last.says} ({last.source})"


def _cuda_notes(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[str]:
    """How the requested patch release relates to the number of the runtime."""
    cuda = resolved.request.cuda
    built = candidate.build.cuda
    if cuda is None or matches_prefix(cuda, built):
        return
    rows = []
    releases = []
    for row in resolved.catalog.runtimes:
        if built in (row.runtime, row.release):
            rows.append(row)
            releases.append(str(row.release))
    if not rows:
        return
    toolkits = " and ".join(releases)
    if any(cuda in (row.release, row.runtime) for row in rows):
        yield f"{built} is the number of CUDA's runtime in toolkit {toolkits} ({rows[0].source})"
    else:
        yield f"no torch is built with CUDA {cuda}; it is with {toolkits}, which runs what is made for {cuda}"


def _driver_notes(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[str]:
    """Of a branch, which of its drivers are new enough."""
    driver = resolved.request.driver
    floor = candidate.build.driver_floor
    if driver is None:
        return
    if driver < Version(floor):
        yield f"driver {driver_text(driver)} has to be {floor} or newer"


# --- evidence ------------------------------------------------------------------------------------------------------


def _evidence(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[Evidence]:
    """The status of every fact that the stack rests on."""
    yield _wheels_evidence(resolved, candidate)
    if candidate.transformers:
        yield candidate.transformers.status
    else:
        yield Evidence.INFERRED
    for system in resolved.catalog.systems:
        if system.os == candidate.base.os:
            yield system.status
    devel = resolved.request.flavour is Flavour.DEVEL
    if devel and candidate.compiler:
        yield candidate.compiler.status
    if resolved.gpu and not is_capability(resolved.request.gpu or ""):
        yield resolved.gpu.status
    if not candidate.cpu:
        yield from _driver_evidence(resolved)
        yield from _cuda_evidence(resolved, candidate)


def _wheels_evidence(resolved: ResolvedRequest, candidate: Candidate) -> Evidence:
    build = candidate.build
    cpu = resolved.catalog.policy.cpu
    if cpu is None or not candidate.cpu:
        return build.status
    if has_cpu_wheel(build, candidate.platform):
        return build.status
    return cpu.status


def _driver_evidence(resolved: ResolvedRequest) -> Iterator[Evidence]:
    """Of a GPU and a driver: that they go together."""
    branches = resolved.drivers
    driver = resolved.request.driver
    if branches is None or driver is None:
        return
    for row in (branches.first, branches.last):
        if row:
            yield row.status


def _cuda_evidence(resolved: ResolvedRequest, candidate: Candidate) -> Iterator[Evidence]:
    """Of a patch release: that the build's CUDA is the one that it means."""
    cuda = resolved.request.cuda
    if cuda is None or matches_prefix(cuda, candidate.build.cuda):
        return
    rows = matching_runtimes(cuda, resolved.catalog)
    if rows:
        yield rows[0].status
    else:
        yield Evidence.INFERRED


def _weakest(statuses: Iterator[Evidence]) -> str:
    order = list(Evidence)  # strongest first
    return max(statuses, key=order.index).value
