"""Request → Stack: every candidate passes every rule, or its rejection is the explanation.

A candidate is a torch build on a Python on a base. Each rule is a small function that returns its reason against the
candidate or None; the loop over them is the algorithm. Pure: no clock, no network, no environment.
"""

import difflib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta

from packaging.version import Version

from envbuilder.catalog.rows import PYPI, Catalog, Distribution, Evidence, Gpu, TorchBuild, TransformersCeiling
from envbuilder.errors import NoStackError
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Base, BaseSource, Feature, Request, Stack

CUSTOM_OS = "custom"
_CUSTOM_GLIBC = Version("2.28")  # what we assume of a base we know nothing about: manylinux_2_28
_NOT_CONSTRAINTS = {"packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One complete combination, before anybody asked whether it fits."""

    build: TorchBuild
    python: Version
    base: Base


Rule = Callable[[Request, Candidate, Catalog], str | None]


def covers(wanted: Version, version: Version) -> bool:
    """`wanted` is a prefix of `version`: 11.7 covers 11.7.99; 11.70 and 11.7.1 do not."""
    return version.release[: len(wanted.release)] == wanted.release and wanted.pre == version.pre


def cuda_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.cuda is None or covers(request.cuda, build.cuda):
        return None
    return f"torch {build.torch} is built for CUDA {build.cuda} ({build.source})"


def cudnn_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.cudnn is None or covers(request.cudnn, build.cudnn):
        return None
    return f"torch {build.torch} is built for cuDNN {build.cudnn} ({build.source})"


def torch_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.torch is None or covers(request.torch, candidate.build.torch):
        return None
    return f"CUDA {candidate.build.cuda} comes with torch {candidate.build.torch} ({candidate.build.source})"


def python_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.python is None or covers(request.python, candidate.python):
        return None
    if candidate.base.source is BaseSource.BOOTSTRAP:
        return f"{candidate.base.os} has Python {candidate.python}"
    pythons = ", ".join(map(str, candidate.build.pythons))
    return f"torch {candidate.build.torch} has wheels for Python {pythons} ({candidate.build.source})"


def base_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.base == BASE_BOOTSTRAP and candidate.base.source is not BaseSource.BOOTSTRAP:
        pythons = ", ".join(f"{row.python.major}.{row.python.minor} ({row.os})" for row in catalog.distributions)
        return f"Python {candidate.python} is not among those a bootstrapped base can have: {pythons}"
    return None


def platform_has_wheels(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.platform in build.platforms:
        return None
    return f"torch {build.torch} has CUDA wheels for {', '.join(build.platforms)} ({build.source})"


def glibc_is_new_enough(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if candidate.base.glibc >= candidate.build.glibc:
        return None
    build, base = candidate.build, candidate.base
    return f"torch {build.torch} needs glibc {build.glibc}; {base.os} has {base.glibc}"


def gpu_has_kernels(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.gpu is None:
        return None
    gpu = find_gpu(request.gpu, catalog)
    if gpu is None or any(runs_on(arch, gpu.capability) for arch in candidate.build.arch_list):
        return None
    archs = " ".join(candidate.build.arch_list)
    return (
        f"torch {candidate.build.torch} for CUDA {candidate.build.cuda} has kernels for {archs}; "
        f"{request.gpu} has compute capability {gpu.capability} ({candidate.build.source})"
    )


def driver_is_new_enough(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.driver is None or request.driver >= Version(candidate.build.driver_floor):
        return None
    return f"CUDA {candidate.build.cuda} needs driver {candidate.build.driver_floor} or newer"


RULES: tuple[Rule, ...] = (
    cuda_matches,
    cudnn_matches,
    torch_matches,
    python_matches,
    base_matches,
    platform_has_wheels,
    glibc_is_new_enough,
    gpu_has_kernels,
    driver_is_new_enough,
)


def resolve(request: Request, catalog: Catalog) -> Stack:
    """The best stack for a request. Raises `NoStackError` with a minimal conflict."""
    best = _best(request, catalog)
    if best is None:
        raise _refusal(request, catalog)
    return _stack(request, best, catalog)


def _best(request: Request, catalog: Catalog) -> Candidate | None:
    fitting = [c for c in _candidates(request, catalog) if not any(rule(request, c, catalog) for rule in RULES)]
    order = catalog.policy.preference
    return max(fitting, key=lambda c: tuple(PREFERENCES[word](c) for word in order), default=None)


def objections(request: Request, stack: Stack, catalog: Catalog) -> list[str]:
    """Why a stack that was locked before does not answer a request; empty if it does."""
    found = []
    if stack.platform != request.platform:
        found.append(f"it is for {stack.platform}, not {request.platform}")
    if stack.extras != tuple(sorted(request.packages)):
        found.append(
            f"its packages are {', '.join(stack.extras) or 'none'}, not {', '.join(request.packages) or 'none'}"
        )
    candidate = next((c for c in _candidates(request, catalog) if _is_of(stack, c)), None)
    if candidate is None:
        return [
            *found,
            f"the catalog has no torch {stack.torch} for CUDA {stack.cuda} on {stack.base.reference} for it",
        ]
    return found + [reason for rule in RULES if (reason := rule(request, candidate, catalog))]


def _is_of(stack: Stack, candidate: Candidate) -> bool:
    build = candidate.build
    return (build.torch, build.cuda, candidate.python, candidate.base.reference) == (
        stack.torch, stack.cuda, stack.python, stack.base.reference,
    )  # fmt: skip


PREFERENCES: dict[str, Callable[[Candidate], object]] = {
    "index": lambda c: c.build.index == PYPI,
    "features": lambda c: sum(feature.available for feature in features(c)),
    "torch": lambda c: c.build.torch,
    "cuda": lambda c: c.build.cuda,
    "registry": lambda c: c.base.source is BaseSource.REGISTRY,
    "python": lambda c: c.python,
}
"""What `preference` in policy.toml can name; more is better."""


def _candidates(request: Request, catalog: Catalog) -> Iterator[Candidate]:
    pythons = {python for build in catalog.torch for python in build.pythons}
    bases = {python: tuple(_bases(request, python, catalog)) for python in pythons}
    for build in catalog.torch:
        for python in build.pythons:
            for base in bases[python]:
                yield Candidate(build=build, python=python, base=base)


def _bases(request: Request, python: Version, catalog: Catalog) -> Iterator[Base]:
    """The bases that can have this Python; one that the user names is taken at its word."""
    registry, bootstrap = catalog.policy.registry, catalog.policy.bootstrap
    if request.base not in (BASE_AUTO, BASE_BOOTSTRAP):
        yield Base(
            reference=request.base,
            source=BaseSource.REGISTRY,
            os=CUSTOM_OS,
            release="",
            glibc=_CUSTOM_GLIBC,
            system_packages=registry.system_packages,
        )
        return
    for row in catalog.distributions:
        if row.release == registry.release and python in registry.pythons:
            reference = registry.reference.format(python=python, release=row.release)
            yield _base(row, BaseSource.REGISTRY, reference, registry.system_packages, catalog)
        if covers(python, row.python):
            reference = bootstrap.reference.format(number=row.os.split()[1])
            packages = sorted({*bootstrap.system_packages, *bootstrap.more_packages.get(row.os, ())})
            yield _base(row, BaseSource.BOOTSTRAP, reference, packages, catalog)


def _base(row: Distribution, source: BaseSource, reference: str, packages: Sequence[str], catalog: Catalog) -> Base:
    end = catalog.policy.end_of_life.get(row.os)
    return Base(
        reference=reference,
        source=source,
        os=row.os,
        release=row.release,
        glibc=row.glibc,
        end_of_life=end.date if end else None,
        system_packages=tuple(packages),
    )


# --- what a candidate is, in full ----------------------------------------------------------------------------------


def features(candidate: Candidate) -> tuple[Feature, ...]:
    """What the candidate can and cannot do; acceptance expects exactly this."""
    build, name = candidate.build, "torch.compile"
    if not build.compile:
        reason = f"torch {build.torch} has no torch.compile"
    elif build.compile_until is not None and candidate.python >= build.compile_until:
        reason = f"torch {build.torch} raises on Python {build.compile_until} and later"
    else:
        return (Feature(name=name, available=True, source=build.compile_source),)
    return (Feature(name=name, available=False, reason=reason, source=build.compile_source),)


def _stack(request: Request, candidate: Candidate, catalog: Catalog) -> Stack:
    build = candidate.build
    ceiling = _ceiling(candidate, catalog)
    as_of = catalog.date
    if ceiling and ceiling.next_released:
        as_of = ceiling.next_released - timedelta(days=1)
    return Stack(
        python=candidate.python,
        torch=build.torch,
        torchvision=build.torchvision,
        torchaudio=build.torchaudio,
        cuda=build.cuda,
        cudnn=build.cudnn,
        nccl=build.nccl,
        triton=build.triton,
        index=build.index,
        arch_list=build.arch_list,
        driver_floor=build.driver_floor,
        base=candidate.base,
        as_of=as_of,
        platform=request.platform,
        requirements=_requirements(build, ceiling, catalog),
        extras=tuple(sorted(request.packages)),
        moving=catalog.policy.packages.moving,
        excluded=catalog.policy.packages.excluded,
        features=features(candidate),
        notes=tuple(_notes(candidate, catalog)),
        evidence=_weakest([build.status, *([ceiling.status] if ceiling else [Evidence.INFERRED])]),
    )


def _weakest(statuses: Sequence[Evidence]) -> str:
    order = list(Evidence)
    return max(statuses, key=order.index).value


def _ceiling(candidate: Candidate, catalog: Catalog) -> TransformersCeiling | None:
    """What was measured on this torch line, on this Python if possible, else on the nearest one."""
    line = candidate.build.torch.release[:2]
    rows = [row for row in catalog.transformers if row.torch.release[:2] == line]
    return min(rows, key=lambda row: (abs(row.python.minor - candidate.python.minor), row.newest), default=None)


def _requirements(build: TorchBuild, ceiling: TransformersCeiling | None, catalog: Catalog) -> tuple[str, ...]:
    family = [f"torch=={build.torch}", f"torchvision=={build.torchvision}"]
    if build.torchaudio:
        family.append(f"torchaudio=={build.torchaudio}")
    bounds = {} if build.numpy2 else {"numpy": "<2"}
    if ceiling:
        bounds["transformers"] = f"<={ceiling.newest}"
    return (*family, *(name + bounds.get(name, "") for name in catalog.policy.packages.requirements))


def _notes(candidate: Candidate, catalog: Catalog) -> Iterator[str]:
    base = candidate.base
    for feature in features(candidate):
        if not feature.available:
            yield f"{feature.name} is not available: {feature.reason}"
    if base.end_of_life and base.end_of_life <= catalog.date:
        yield f"{base.os.title()} is past its end of life ({base.end_of_life}): it gets no security updates"
    if base.os == CUSTOM_OS:
        yield (
            f"nothing is known about {base.reference}: it must be Debian-like, with Python {candidate.python} "
            f"and glibc {base.glibc} or newer"
        )


# --- why nothing fits ----------------------------------------------------------------------------------------------


def given(request: Request) -> tuple[tuple[str, str], ...]:
    """The options that narrow the choice, as (name, value)."""
    defaults = Request()
    values = ((field.name, getattr(request, field.name)) for field in fields(request))
    return tuple(
        (name, str(value))
        for name, value in values
        if name not in _NOT_CONSTRAINTS and value != getattr(defaults, name)
    )


def command(request: Request, verb: str = "resolve") -> str:
    """The request as a command that can be pasted."""
    words = [f"--{name} {shlex.quote(value)}" for name, value in given(request)]
    words += [f"--package {shlex.quote(line)}" for line in request.packages]
    return " ".join(["envbuilder", verb, *words])


def _without(request: Request, name: str) -> Request:
    return replace(request, **{name: getattr(Request(), name)})


def _only(request: Request, names: set[str]) -> Request:
    for name, _ in given(request):
        if name not in names:
            request = _without(request, name)
    return request


def _refusal(request: Request, catalog: Catalog) -> NoStackError:
    core = request
    for name, _ in given(request):
        if _best(_without(core, name), catalog) is None:
            core = _without(core, name)
    conflict = given(core)
    return NoStackError(
        f"no stack has {' and '.join(f'{name} {value}' for name, value in conflict)}",
        conflict=conflict,
        reasons=[*_unknown(core, catalog), *_reasons(core, catalog)],
        suggestions=_suggestions(request, conflict, catalog),
    )


def _versions(name: str, catalog: Catalog) -> list[Version]:
    """Every version of `name` that the catalog knows, oldest first."""
    if name == "python":
        return sorted({python for build in catalog.torch for python in build.pythons})
    return sorted({getattr(build, name) for build in catalog.torch})


def _unknown(core: Request, catalog: Catalog) -> Iterator[str]:
    """A value may just be newer than the catalog: unknown is not incompatible."""
    for name in ("cuda", "cudnn", "torch", "python"):
        wanted = getattr(core, name)
        known = _versions(name, catalog)
        if wanted is not None and not any(covers(wanted, version) for version in known):
            listed = ", ".join(dict.fromkeys(_short(name, version) for version in known))
            yield f"{name} {wanted} is unknown to the catalog of {catalog.date}; it knows {listed}"


def _short(name: str, version: Version) -> str:
    return f"{version.major}.{version.minor}" if name == "cuda" else str(version)


def _reasons(core: Request, catalog: Catalog) -> list[str]:
    """For each clashing option, what speaks against the best stack that the others allow."""
    told: dict[str, None] = {}
    for name, _ in given(core):
        best = _best(_without(core, name), catalog)
        if best is not None and not (len(given(core)) == 1 and any(True for _ in _unknown(core, catalog))):
            told |= dict.fromkeys(reason for rule in RULES if (reason := rule(core, best, catalog)))
    return list(told)


def _suggestions(request: Request, conflict: Sequence[tuple[str, str]], catalog: Catalog) -> list[str]:
    """Each a request one step away that resolves, with the clashing option set to what it resolves to."""
    found: dict[str, None] = {}
    for name, _ in conflict:
        loosened = _without(request, name)
        while _best(loosened, catalog) is None and given(loosened):  # another conflict stands beside this one
            loosened = _without(loosened, given(loosened)[0][0])
        found[command(_pinned(loosened, name, getattr(request, name), catalog))] = None
    return list(found)


def _pinned(request: Request, name: str, said: object, catalog: Catalog) -> Request:
    """`request` with the dropped option set again: to what looks most like what was said, or to what it resolves to."""
    best = _best(request, catalog)
    if best is None or name not in ("cuda", "torch", "python"):
        return request
    for near in difflib.get_close_matches(str(said), [_short(name, version) for version in _versions(name, catalog)]):
        nearest = replace(request, **{name: Version(near)})  # type: ignore[arg-type]
        if _best(nearest, catalog) is not None:
            return nearest
    value = {"cuda": best.build.cuda, "torch": best.build.torch, "python": best.python}[name]
    return replace(request, **{name: Version(_short(name, value))})  # type: ignore[arg-type]


# --- GPUs ----------------------------------------------------------------------------------------------------------


def find_gpu(said: str, catalog: Catalog) -> Gpu | None:
    """The row of a GPU's name or of a compute capability such as `8.6`."""
    wanted = _words(said)
    for row in catalog.gpus:
        if said == str(row.capability) or any(_words(name) == wanted for name in row.names):
            return row
    return None


def _words(name: str) -> frozenset[str]:
    """A GPU's name without its maker and family: `NVIDIA GeForce RTX 3090` → 3090."""
    return frozenset(name.lower().split()) - {"nvidia", "geforce", "tesla", "quadro", "rtx", "gtx"}


def runs_on(arch: str, capability: Version) -> bool:
    """A binary for sm_XY runs on X.Z with Z ≥ Y (CUDA C++ Programming Guide, binary compatibility)."""
    number = arch.removeprefix("sm_")
    major, minor = int(number[:-1]), int(number[-1])
    return major == capability.major and minor <= capability.minor
