"""What a request asks of a candidate: each rule gives its reason against the candidate, or None.

A rule looks at one option of the request and at one side of the candidate (`Subject`), so that `choice` asks it once
for each value and side, and not for every candidate.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog.gpus import (
    branches,
    driver_reaches,
    driver_text,
    eras,
    find_gpu,
    has_kernels,
    is_jetson,
    runs_server_wheels,
    server_wheels,
)
from envbuilder.catalog.rows import Catalog, Compiler, Gpu, System, TransformersCeiling, TransformersRelease
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, BaseSource, Flavour, Request
from envbuilder.resolve.candidates import ARM64, Candidate, bootstrapped, covers, pythons_of

Rule = Callable[[Request, Candidate, Catalog], str | None]
Subject = Callable[[Candidate], Hashable]

_WITH_APT = ("debian", "ubuntu")  # the families that templates/debian is for


def _build(c: Candidate) -> Hashable:
    return id(c.build), c.cpu, c.platform


def _build_and_own_base(c: Candidate) -> Hashable:
    return id(c.build), c.cpu, c.platform, c.custom


def _base(c: Candidate) -> Hashable:
    return id(c.base)  # one object for each base and Python


def _python(c: Candidate) -> Hashable:
    return c.python.release


def _wheels(c: Candidate) -> Hashable:
    return id(c.build), c.cpu, c.platform, c.python.release


def _glibcs(c: Candidate) -> Hashable:
    return c.build.glibc.release, id(c.base)


def named(candidate: Candidate) -> str:
    """`torch 2.0.1 for CUDA 11.7.99`."""
    build = candidate.build
    return f"torch {build.torch} without CUDA" if candidate.cpu else f"torch {build.torch} for CUDA {build.cuda}"


# --- the torch build -----------------------------------------------------------------------------------------------


def cuda_meant(wanted: Version, catalog: Catalog) -> frozenset[Version]:
    """The CUDA versions of torch builds that answer `wanted`, as policy.toml says what a CUDA version means."""
    return _cuda_meant(str(wanted), catalog)


@lru_cache(maxsize=1024)
def _cuda_meant(said: str, catalog: Catalog) -> frozenset[Version]:
    wanted = Version(said)  # 12 and 12.0 are equal versions, and mean different lines
    made = {build.cuda for build in catalog.torch}
    exact = {version for version in made if covers(wanted, version)}
    rows = [row for row in catalog.runtimes if wanted == row.runtime or covers(wanted, row.release)]
    numbers = {number.release for row in rows for number in (row.release, row.runtime) if number}
    exact = exact or {version for version in made if version.release in numbers}  # 12.1 is a line, equal to 12.1.0
    if exact or not rows or len(wanted.release) < 3:
        return frozenset(exact)
    return frozenset(version for version in made if version.release[:2] == wanted.release[:2])


def cuda_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.cuda is None:
        return None
    if candidate.cpu:
        return f"flavour {Flavour.CPU} has no CUDA"
    build = candidate.build
    if build.cuda in cuda_meant(request.cuda, catalog):
        return None
    return f"torch {build.torch} is built for CUDA {build.cuda} ({build.source})"


def released_by_day(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.as_of is None or build.released <= request.as_of:
        return None
    return f"torch {build.torch} was released on {build.released}, after {request.as_of}"


def cudnn_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.cudnn is None:
        return None
    if candidate.cpu:
        return f"flavour {Flavour.CPU} has no cuDNN"
    build = candidate.build
    if covers(request.cudnn, build.cudnn):
        return None
    return f"{named(candidate)} is built for cuDNN {build.cudnn} ({build.source})"


def torch_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.torch is None or covers(request.torch, build.torch):
        return None
    return f"CUDA {build.cuda} comes with torch {build.torch} ({build.source})"


def torchvision_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.torchvision is None or covers(request.torchvision, build.torchvision):
        return None
    return f"torch {build.torch} comes with torchvision {build.torchvision} ({build.source})"


def platform_has_wheels(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if candidate.platform == request.platform:
        return None
    if candidate.cpu or request.platform in build.platforms:
        return f"its wheel for {request.platform} is another one than that for {candidate.platform} ({build.source})"
    return f"torch {build.torch} has CUDA wheels for {', '.join(build.platforms)} ({build.source})"


def flavour_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if candidate.cpu != (request.flavour is Flavour.CPU):
        return f"{named(candidate)} is not of flavour {request.flavour}"
    if request.flavour is not Flavour.DEVEL or candidate.custom or compiler_of(candidate, catalog):
        return None
    return _no_compiler(candidate, catalog)


def compiler_of(candidate: Candidate, catalog: Catalog) -> Compiler | None:
    """The wheels with nvcc for the candidate's line of CUDA."""
    devel, cuda = catalog.policy.devel, candidate.build.cuda
    return devel.compilers.get(f"{cuda.major}.{cuda.minor}") if devel else None


def _no_compiler(candidate: Candidate, catalog: Catalog) -> str:
    devel, cuda = catalog.policy.devel, candidate.build.cuda
    row = devel.without.get(str(cuda.major)) if devel else None
    why = f": {row.says} ({row.source})" if row else ""
    own = "a base of your own that has nvcc may do, by --base and --python"
    return f"nothing here brings nvcc for CUDA {cuda.major}.{cuda.minor}{why}; {own}"


def gpu_has_kernels(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.gpu is None:
        return None
    if candidate.cpu:
        return f"flavour {Flavour.CPU} uses no GPU"
    gpu, build = find_gpu(request.gpu, catalog), candidate.build
    if gpu is None:
        return f"gpu {request.gpu} is unknown"
    if jetson := jetson_objects(request.gpu, gpu, candidate.platform, catalog):
        return jetson
    if has_kernels((*candidate.archs, *build.ptx), gpu.capability):
        return None
    archs = " ".join((*candidate.archs, *build.ptx)) or "no GPU that is known"
    is_capability = request.gpu == str(gpu.capability)
    has = "" if is_capability else f"; {request.gpu} has compute capability {gpu.capability} ({gpu.source})"
    return f"{named(candidate)} has kernels for {archs} ({build.source}){has}"


def jetson_objects(said: str, gpu: Gpu, platform: str, catalog: Catalog) -> str | None:
    """Why a Jetson runs nothing that is built for this platform's servers."""
    since = server_wheels(catalog)
    named = f"{said} is a Jetson, {gpu.architecture} ({gpu.source})"
    if not runs_server_wheels(gpu, catalog):
        source = f" ({since.source})" if since else ""
        return f"{named}: no wheel here is built for it; NVIDIA has wheels and images of its own for it{source}"
    if is_jetson(gpu) and platform != ARM64:
        return f"{named}: its processor is arm64, so `--platform {ARM64}` is what runs on it"
    return None


def driver_is_new_enough(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    build = candidate.build
    if request.driver is None or candidate.cpu or driver_reaches(request.driver, build.driver_floor):
        return None
    return f"CUDA {build.cuda} needs driver {build.driver_floor} or newer ({build.source})"


def driver_knows_gpu(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    return None if candidate.cpu else strangers(request, catalog)


def strangers(request: Request, catalog: Catalog) -> str | None:
    """Why no driver of the wanted branch drives the wanted GPU, whatever runs on them."""
    gpu = find_gpu(request.gpu, catalog) if request.gpu else None
    if gpu is None or request.driver is None:
        return None
    known = branches(catalog)[gpu.capability]
    if known.has(request.driver.major):
        return None
    named = f"{request.gpu} is {gpu.architecture}, compute capability {gpu.capability} ({gpu.source})"
    if known.first is None or request.driver.major >= known.oldest:
        return f"{named}; {known.last.says} ({known.last.source})" if known.last else None
    first = known.first
    came = f"CUDA {gpu.first_cuda}, the first that knows it, came with driver {first.driver} ({first.source})"
    return f"{named}; {came}: driver {driver_text(request.driver)} is of an older branch"


def eras_left(option: str, value: object, catalog: Catalog) -> Sequence[int]:
    """The numbers of those eras of drivers (`hardware.eras`) that an option's value leaves."""
    starts = eras(catalog)
    if option == "driver" and isinstance(value, Version):
        return [bisect_right(starts, value.major) - 1]
    gpu = find_gpu(str(value), catalog) if option == "gpu" else None
    known = branches(catalog)[gpu.capability] if gpu else None
    return [number for number, start in enumerate(starts) if known is None or known.has(start)]


def ceiling_of(candidate: Candidate, catalog: Catalog) -> TransformersCeiling | None:
    """What was measured on this torch line, on this Python if possible, else on the nearest one."""
    line = candidate.build.torch.release[:2]
    rows = [row for row in catalog.transformers if row.torch.release[:2] == line]
    return min(rows, key=lambda row: (abs(row.python.minor - candidate.python.minor), row.newest), default=None)


def newest_transformers(catalog: Catalog) -> Version:
    """The newest that was run on any torch and worked: a newer one is unknown."""
    return max((row.newest for row in catalog.transformers), default=Version("0"))


def transformers_works(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    wanted = request.transformers
    if wanted is None:
        return None
    row = ceiling_of(candidate, catalog)
    newest = row.newest if row else newest_transformers(catalog)
    if row and wanted in row.broken:
        return f"transformers {wanted} was run on torch {row.torch} and failed ({row.source})"
    if wanted.release <= newest.release[: len(wanted.release)]:
        return _not_installable(wanted, newest, candidate, catalog)
    if row is None:
        return f"transformers {wanted} is newer than any that was run, {newest}"
    return (
        f"the newest transformers that was run on torch {row.torch} with Python {row.python} and worked "
        f"is {row.newest} ({row.source})"
    )


def _not_installable(wanted: Version, newest: Version, candidate: Candidate, catalog: Catalog) -> str | None:
    """Why no transformers that `wanted` can mean has wheels for the candidate's Python."""
    meant = [row for row in releases_meant(wanted, catalog) if row.transformers <= newest]
    if any(candidate.python in row.pythons.get(candidate.platform, ()) for row in meant):
        return None
    row = max(meant, key=lambda row: row.transformers, default=None)
    if row is None:
        return f"transformers {wanted} is older than any that is known, {oldest_transformers(catalog)}"
    pythons = _listed(row.pythons.get(candidate.platform, ()))
    return (
        f"transformers {row.transformers} and the tokenizers that it asks for, {row.tokenizers}, "
        f"have wheels for Python {pythons} ({row.source})"
    )


def releases_meant(wanted: Version, catalog: Catalog) -> list[TransformersRelease]:
    """The minor releases that 4, 4.30 or 4.30.2 can mean."""
    parts = min(len(wanted.release), 2)
    return [row for row in catalog.transformers_releases if row.transformers.release[:parts] == wanted.release[:parts]]


def oldest_transformers(catalog: Catalog) -> Version:
    return min((row.transformers for row in catalog.transformers_releases), default=Version("0"))


# --- Python and base -----------------------------------------------------------------------------------------------


def python_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    wanted, build, base = request.python, candidate.build, candidate.base
    if wanted is None or covers(wanted, candidate.python):
        return None
    if base.source is BaseSource.BOOTSTRAP:
        return f"{base.os} has Python {candidate.python} ({_source(base.os, catalog)})"
    pythons = pythons_of(build, candidate.platform)
    if not any(covers(wanted, python) for python in pythons):
        return f"torch {build.torch} and its family have wheels for Python {_listed(pythons)} ({build.source})"
    registry = catalog.policy.registry
    return f"the official Python images are there for {_listed(registry.pythons)} ({registry.source})"


def _listed(versions: Iterable[Version]) -> str:
    return ", ".join(map(str, versions))


def base_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if candidate.custom:
        return None if request.base not in (BASE_AUTO, BASE_BOOTSTRAP) else "no image of your own is named"
    if request.base == BASE_AUTO:
        return None
    if request.base != BASE_BOOTSTRAP:
        return f"its base is {candidate.base.reference}, not {request.base}"
    if candidate.base.source is BaseSource.BOOTSTRAP:
        return None
    rows = bootstrapped(catalog)
    pythons = ", ".join(f"{row.python.major}.{row.python.minor} ({row.os}; {row.source})" for row in rows)
    return f"Python {candidate.python} is not among those a bootstrapped base can have: {pythons}"


def _source(os: str, catalog: Catalog) -> str:
    return ", ".join(dict.fromkeys(row.source for row in catalog.systems if row.os == os))


def os_matches(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    if request.os is None:
        return None
    base, build = candidate.base, candidate.build
    if not candidate.custom:
        if request.os in (base.os, base.release):
            return None
        return f"{base.reference} is {base.os} ({_source(base.os, catalog)})"
    row = find_system(request.os, catalog)
    if row is None:
        return f"os {request.os} is unknown"
    if not has_apt(row):
        return no_apt(row)
    return None if row.glibc is None or row.glibc >= build.glibc else _glibc(candidate, row.os, row.glibc)


def has_apt(system: System) -> bool:
    return system.os.split()[0] in _WITH_APT


def no_apt(system: System) -> str:
    return f"{system.os} has no apt, which the Dockerfile installs with"


def find_system(said: str | None, catalog: Catalog) -> System | None:
    """The row of `debian 12` or `bookworm`."""
    return next((row for row in catalog.systems if said and said in (row.os, row.release)), None)


def glibc_is_new_enough(request: Request, candidate: Candidate, catalog: Catalog) -> str | None:
    base = candidate.base
    return None if base.glibc >= candidate.build.glibc else _glibc(candidate, base.os, base.glibc)


def _glibc(candidate: Candidate, os: str, glibc: Version) -> str:
    build = candidate.build
    return f"torch {build.torch} needs glibc {build.glibc} ({build.source}); {os} has {glibc}"


RULES: tuple[tuple[str, Rule, Subject], ...] = (
    ("cuda", cuda_matches, _build),
    ("cudnn", cudnn_matches, _build),
    ("torch", torch_matches, _build),
    ("torchvision", torchvision_matches, _build),
    ("transformers", transformers_works, _wheels),
    ("python", python_matches, _python),
    ("gpu", gpu_has_kernels, _build),
    ("driver", driver_is_new_enough, _build),
    ("base", base_matches, _base),
    ("os", os_matches, _glibcs),
    ("flavour", flavour_matches, _build_and_own_base),
    ("platform", platform_has_wheels, _build),
    ("as_of", released_by_day, _build),
    ("", glibc_is_new_enough, _glibcs),  # asked by no option: it always holds
)
"""Each with the option it looks at and the side of the candidate it looks at."""


def objections_to(request: Request, candidate: Candidate, catalog: Catalog) -> list[str]:
    """Every reason against a candidate; none if it fits."""
    rules = (*(rule for _, rule, _ in RULES), driver_knows_gpu)
    return [reason for rule in rules if (reason := rule(request, candidate, catalog))]
