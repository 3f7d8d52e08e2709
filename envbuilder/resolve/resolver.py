"""Request → Stack: the candidate that policy prefers among those that every rule lets pass, in full.

Pure: no clock, no network, no environment.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from packaging.version import Version

from envbuilder.catalog.gpus import branches, driver_text, find_gpu, find_gpus, is_capability, runs_on
from envbuilder.catalog.rows import PYPI, Advisory, Catalog, Evidence, TorchBuild, TransformersCeiling
from envbuilder.model import Base, Flavour, Request, Stack
from envbuilder.resolve.candidate_index import choice
from envbuilder.resolve.candidates import CUSTOM_OS, PREFERENCES, Candidate, covers, features, has_cpu_wheel, index_of
from envbuilder.resolve.conflict import beside, command, given, refusal
from envbuilder.resolve.rules import ceiling_of, compiler_of, find_system, objections_to, releases_meant

__all__ = [
    "CUSTOM_OS",
    "PREFERENCES",
    "advisories",
    "beside",
    "command",
    "covers",
    "find_gpu",
    "given",
    "objections",
    "resolve",
    "runs_on",
    "winner",
]


def resolve(request: Request, catalog: Catalog) -> Stack:
    """The best stack for a request. Raises `NoStackError` with a minimal conflict."""
    return _stack(request, winner(request, catalog), catalog)


def winner(request: Request, catalog: Catalog) -> Candidate:
    """The candidate that becomes the stack. Raises `NoStackError` with a minimal conflict."""
    best = choice(catalog).best(request)
    if best is None:
        raise refusal(request, choice(catalog))
    return best


def advisories(stack: Stack, catalog: Catalog) -> list[Advisory]:
    """The vulnerabilities that are known of a stack's torch."""
    return [row for row in catalog.advisories if row.package == "torch" and stack.torch < row.fixed]


def objections(request: Request, stack: Stack, catalog: Catalog) -> list[str]:
    """Why a stack that was locked before does not answer a request; empty if it does."""
    found = []
    if stack.platform != request.platform:
        found.append(f"it is for {stack.platform}, not {request.platform}")
    if stack.flavour != request.flavour:
        found.append(f"its flavour is {stack.flavour}, not {request.flavour}")
    if stack.extras != tuple(sorted(request.packages)):
        found.append(
            f"its packages are {', '.join(stack.extras) or 'none'}, not {', '.join(request.packages) or 'none'}"
        )
    if request.as_of not in (None, stack.as_of):
        found.append(f"its packages are as of {stack.as_of}, not {request.as_of}")
    candidates = choice(catalog).candidates
    candidate = next((c for c in candidates if _is_of(stack, request, c)), None)
    if candidate is None:
        return [
            *found,
            f"the catalog has no torch {stack.torch} for CUDA {stack.cuda} on {stack.base.reference} for it",
        ]
    return found + objections_to(request, candidate, catalog)


def _is_of(stack: Stack, request: Request, candidate: Candidate) -> bool:
    build = candidate.build
    reference = request.base if candidate.custom else candidate.base.reference
    cuda = None if candidate.cpu else build.cuda
    return (build.torch, cuda, candidate.python, reference, candidate.platform) == (
        stack.torch, stack.cuda, stack.python, stack.base.reference, stack.platform,
    )  # fmt: skip


# --- what a candidate is, in full ----------------------------------------------------------------------------------


def _stack(request: Request, candidate: Candidate, catalog: Catalog) -> Stack:
    build, cpu = candidate.build, candidate.cpu
    ceiling = ceiling_of(candidate, catalog)
    base = _base(request, candidate, catalog)
    return Stack(
        python=candidate.python,
        torch=build.torch,
        torchvision=build.torchvision,
        torchaudio=build.torchaudio,
        cuda=None if cpu else build.cuda,
        cudnn=None if cpu else build.cudnn,
        nccl=None if cpu else build.nccl,
        triton=None if cpu else build.triton,
        index=index_of(candidate, catalog),
        arch_list=() if cpu else (*candidate.archs, *build.ptx),
        driver_floor="" if cpu else build.driver_floor,
        base=base,
        as_of=request.as_of or _as_of(request, candidate, ceiling, catalog),
        platform=request.platform,
        requirements=_requirements(request, candidate, ceiling, catalog),
        extras=tuple(sorted(request.packages)),
        moving=catalog.policy.packages.moving,
        excluded=catalog.policy.packages.excluded,
        features=features(candidate),
        notes=tuple(_notes(request, candidate, base, catalog)),
        evidence=_weakest(_evidence(request, candidate, ceiling, catalog)),
        flavour=request.flavour,
        unknown=() if cpu else build.unknown,
    )


def _as_of(request: Request, candidate: Candidate, ceiling: TransformersCeiling | None, catalog: Catalog) -> date:
    """The day before the first transformers that may not work, if the index of that day has settled."""
    day = catalog.date - timedelta(days=catalog.policy.as_of.settle_days)
    if ceiling and ceiling.next_released:
        second = date.min + timedelta(days=1)  # a row of a catalog can have any day, and the first has none before it
        day = min(day, max(ceiling.next_released, second) - timedelta(days=1))
    # What the stack pins must have been on the index by then.
    day = max(day, candidate.build.released)
    if request.transformers and len(request.transformers.release) > 1:
        for row in releases_meant(request.transformers, catalog):
            day = max(day, row.released)
    return day


def _base(request: Request, candidate: Candidate, catalog: Catalog) -> Base:
    """The candidate's base; one that the user names gets its name, and what `--os` says of it."""
    base = candidate.base
    if not candidate.custom:
        return base
    row, base = find_system(request.os, catalog), replace(base, reference=request.base)
    return replace(base, os=row.os, glibc=row.glibc or base.glibc, end_of_life=row.last_day) if row else base


def _evidence(
    request: Request, candidate: Candidate, ceiling: TransformersCeiling | None, catalog: Catalog
) -> Iterator[Evidence]:
    """The status of every fact that the stack rests on."""
    cpu = catalog.policy.cpu
    elsewhere = candidate.cpu and not has_cpu_wheel(candidate.build, candidate.platform)
    yield cpu.status if cpu and elsewhere else candidate.build.status
    yield ceiling.status if ceiling else Evidence.INFERRED
    yield from (row.status for row in catalog.systems if row.os == candidate.base.os)
    compiler = compiler_of(candidate, catalog) if request.flavour is Flavour.DEVEL else None
    if compiler:
        yield compiler.status
    gpu = find_gpu(request.gpu, catalog) if request.gpu and not is_capability(request.gpu) else None
    if gpu:
        yield gpu.status
    if request.gpu and request.driver and not candidate.cpu:
        known = branches(catalog)[find_gpus(request.gpu, catalog)[0].capability]
        yield from (row.status for row in (known.first, known.last) if row)
    if request.cuda and not candidate.cpu and not covers(request.cuda, candidate.build.cuda):
        rows = [row for row in catalog.runtimes if covers(request.cuda, row.release) or row.runtime == request.cuda]
        yield rows[0].status if rows else Evidence.INFERRED


def _weakest(statuses: Iterator[Evidence]) -> str:
    order = list(Evidence)
    return max(statuses, key=order.index).value


def _requirements(
    request: Request, candidate: Candidate, ceiling: TransformersCeiling | None, catalog: Catalog
) -> tuple[str, ...]:
    build = candidate.build
    local = "" if index_of(candidate, catalog) == PYPI else f"+{_tag(candidate)}"
    family = [f"torch=={build.torch}{local}", f"torchvision=={build.torchvision}{local}"]
    if build.torchaudio:
        family.append(f"torchaudio=={build.torchaudio}{local}")
    bounds = {} if build.numpy2 else {"numpy": "<2"}
    bounds["transformers"] = ",".join(_transformers(request, ceiling))
    # The index of the stack's day has no setuptools that is too new; a package of the user's may ask for a broken one.
    held = [f"setuptools{build.setuptools}"] if build.setuptools and request.packages else []
    packages = (name + bounds.get(name, "") for name in catalog.policy.packages.requirements)
    return (*family, *packages, *_to_compile_with(request, candidate, catalog), *held)


def _to_compile_with(request: Request, candidate: Candidate, catalog: Catalog) -> tuple[str, ...]:
    """What flavour devel adds: build tools, and nvcc where wheels bring it."""
    devel, compiler = catalog.policy.devel, compiler_of(candidate, catalog)
    if request.flavour is not Flavour.DEVEL or devel is None:
        return ()
    return (*devel.packages, *(compiler.requirements if compiler else ()))


def _transformers(request: Request, ceiling: TransformersCeiling | None) -> Iterator[str]:
    wanted = request.transformers
    if wanted is not None:
        yield f"=={wanted}" if len(wanted.release) > 2 else f"=={wanted}.*"
    if ceiling and (wanted is None or len(wanted.release) <= 2):
        yield f"<={ceiling.newest}"
    if ceiling and wanted is not None:
        yield from (f"!={version}" for version in ceiling.broken if covers(wanted, version))


def _tag(candidate: Candidate) -> str:
    return "cpu" if candidate.cpu else f"cu{candidate.build.cuda.major}{candidate.build.cuda.minor}"


def _notes(request: Request, candidate: Candidate, base: Base, catalog: Catalog) -> Iterator[str]:
    build = candidate.build
    for feature in features(candidate):
        if not feature.available:
            yield f"{feature.name} is not available: {feature.reason}"
    if not candidate.cpu:
        yield from _driver_notes(request, build, catalog)
    if request.cuda and not candidate.cpu and not covers(request.cuda, build.cuda):
        yield from _cuda_note(request, candidate, catalog)
    if request.driver and not candidate.cpu and request.driver < Version(build.driver_floor):
        yield f"driver {driver_text(request.driver)} has to be {build.driver_floor} or newer"
    if index_of(candidate, catalog) != PYPI:
        yield (
            f"its wheels are on the index {index_of(candidate, catalog)}, not on PyPI: "
            "`envbuilder lock` needs an index that has them, `--index-url URL`"
        )
    if request.flavour is Flavour.DEVEL and not compiler_of(candidate, catalog):
        line = f"{build.cuda.major}.{build.cuda.minor}"
        yield f"nvcc of CUDA {line} must be in {base.reference}, in /usr/local/cuda: no wheel brings it"
    if base.end_of_life and base.end_of_life <= catalog.date:
        yield f"{base.os.title()} is past its end of life ({base.end_of_life}): it gets no security updates"
    if candidate.custom:
        yield (
            f"nothing is known about {base.reference}: it must be Debian-like, with Python {candidate.python} "
            f"and glibc {build.glibc if base.os != CUSTOM_OS else base.glibc} or newer"
        )


def _driver_notes(request: Request, build: TorchBuild, catalog: Catalog) -> Iterator[str]:
    """What a GPU asks of its driver beyond what CUDA asks."""
    gpu = find_gpu(request.gpu, catalog) if request.gpu else None
    if gpu is None or request.driver is not None:
        return
    known = branches(catalog)[gpu.capability]
    if known.first and known.oldest > Version(build.driver_floor).major:
        yield f"the GPU needs a driver of branch {known.oldest} or newer ({known.first.source})"
    if known.last:
        yield f"{known.last.says} ({known.last.source})"


def _cuda_note(request: Request, candidate: Candidate, catalog: Catalog) -> Iterator[str]:
    """How a patch release that was asked for and the number of the runtime hang together."""
    wanted, made = request.cuda, candidate.build.cuda
    rows = [row for row in catalog.runtimes if made in (row.runtime, row.release)]
    releases = " and ".join(str(row.release) for row in rows)
    if wanted is None or not rows:
        return
    if any(wanted in (row.release, row.runtime) for row in rows):
        yield f"{made} is the number of CUDA's runtime in toolkit {releases} ({rows[0].source})"
    else:
        yield f"no torch is built with CUDA {wanted}; it is with {releases}, which runs what is made for {wanted}"
