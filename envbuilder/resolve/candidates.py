"""Every combination that could become a stack: a torch build on a Python on a base, best first.

They do not depend on what is asked: `catalog_candidates` makes them once per catalog. A base that the user names stands
among them as a base without a reference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog.rows import PYPI, Catalog, System, TorchBuild
from envbuilder.grammar import PLATFORMS
from envbuilder.model import Base, BaseSource, Feature

CUSTOM_OS = "custom"
_CUSTOM_GLIBC = Version("2.28")  # what we assume of a base that we know no better: manylinux_2_28
ARM64 = "linux/arm64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One complete combination, before anybody asked whether it fits."""

    build: TorchBuild
    python: Version
    base: Base
    platform: str
    cpu: bool = False  # the same torch, without CUDA

    @property
    def custom(self) -> bool:
        """On the base that the request names."""
        return not self.base.reference

    @property
    def archs(self) -> tuple[str, ...]:
        """The GPU binaries in the wheel for the candidate's platform."""
        arm64 = self.build.arch_list_arm64 if self.platform == ARM64 else ()
        return arm64 or self.build.arch_list


def covers(wanted: Version, version: Version) -> bool:
    """`wanted` is a prefix of `version`: 11.7 covers 11.7.99; 11.70 and 11.7.1 do not."""
    return version.release[: len(wanted.release)] == wanted.release and wanted.pre == version.pre


def compiles(candidate: Candidate) -> bool:
    """torch.compile works."""
    build = candidate.build
    return build.compile and (build.compile_until is None or candidate.python < build.compile_until)


def features(candidate: Candidate) -> tuple[Feature, ...]:
    """What the candidate can and cannot do; acceptance expects exactly this."""
    build, reason = candidate.build, ""
    if not build.compile:
        reason = f"torch {build.torch} has no torch.compile"
    elif not compiles(candidate):
        reason = f"torch {build.torch} raises on Python {build.compile_until} and later"
    return (Feature(name="torch.compile", available=not reason, reason=reason, source=build.compile_source),)


# --- preference ----------------------------------------------------------------------------------------------------

Preference = Callable[[Candidate, Catalog], object]

PREFERENCES: dict[str, Preference] = {
    "features": lambda c, _: compiles(c),
    "index": lambda c, catalog: index_of(c, catalog) == PYPI,
    "torch": lambda c, _: c.build.torch.release,
    "cuda": lambda c, _: c.build.cuda.release,
    "registry": lambda c, _: int(c.base.source is BaseSource.REGISTRY),
    "python": lambda c, _: c.python.release,
}
"""What `preference` in policy.toml can name; more is better. Releases are tuples: they compare faster than versions."""


def index_of(candidate: Candidate, catalog: Catalog) -> str:
    """Name of the index that has the candidate's wheels."""
    cpu, build = catalog.policy.cpu, candidate.build
    if candidate.cpu and cpu and not has_cpu_wheel(build, candidate.platform):
        return cpu.index
    return build.index


def has_cpu_wheel(build: TorchBuild, platform: str) -> bool:
    """The index of a CUDA build has, for this platform, wheels without CUDA: PyPI's for arm64, up to torch 2.10."""
    return platform in build.family and platform not in build.platforms


def _tie(candidate: Candidate) -> tuple[object, ...]:
    """What decides when policy does not: the same whatever order the rows have."""
    build, base = candidate.build, candidate.base
    wheels = (build.torch.release, build.cuda.release, build.cudnn.release, build.index, build.source)
    return (*wheels, candidate.python.release, base.os, base.reference, candidate.platform)


@lru_cache(maxsize=4)
def catalog_candidates(catalog: Catalog) -> tuple[Candidate, ...]:
    """All candidates, the one that policy prefers first."""
    prefer = [PREFERENCES[word] for word in catalog.policy.preference]

    def rank(candidate: Candidate) -> list[object]:
        return [*(worth(candidate, catalog) for worth in prefer), *_tie(candidate)]

    return tuple(sorted(_candidates(catalog), key=rank, reverse=True))


# --- all of them ---------------------------------------------------------------------------------------------------


def pythons_of(build: TorchBuild, platform: str) -> tuple[Version, ...]:
    """The Pythons that all of the torch family has wheels for; torch's own where no more is known."""
    return build.family.get(platform, build.pythons)


def _candidates(catalog: Catalog) -> Iterator[Candidate]:
    builds = [(build, platform, False) for build in catalog.torch for platform in build.platforms]
    if catalog.policy.cpu:
        builds += [(build, platform, True) for build in _one_per_release(catalog) for platform in PLATFORMS]
    pythons = {python for build, platform, _ in builds for python in pythons_of(build, platform)}
    bases = {python: tuple(_bases(python, catalog)) for python in pythons}
    for build, platform, cpu in builds:
        for python in pythons_of(build, platform):
            for base in bases[python]:
                yield Candidate(build=build, python=python, base=base, platform=platform, cpu=cpu)


def _one_per_release(catalog: Catalog) -> Iterator[TorchBuild]:
    """What a release is without CUDA does not depend on which of its CUDA builds one looks at."""
    rows = sorted(catalog.torch, key=lambda row: (row.index != PYPI, row.cuda, row.source))
    yield from {row.torch: row for row in reversed(rows)}.values()


def bootstrapped(catalog: Catalog) -> tuple[System, ...]:
    """The systems that a base can be made of here."""
    return tuple(row for row in catalog.systems if row.os in catalog.policy.bootstrap.systems)


def _bases(python: Version, catalog: Catalog) -> Iterator[Base]:
    """The bases that can have this Python; one that the user names is taken at its word."""
    registry, bootstrap = catalog.policy.registry, catalog.policy.bootstrap
    yield Base(
        reference="",
        source=BaseSource.REGISTRY,
        os=CUSTOM_OS,
        release="",
        glibc=_CUSTOM_GLIBC,
        system_packages=registry.system_packages,
    )
    for row in catalog.systems:
        if row.release == registry.release and python in registry.pythons:
            reference = registry.reference.format(python=python, release=row.release)
            yield _base(row, BaseSource.REGISTRY, reference, registry.system_packages)
        if row in bootstrapped(catalog) and covers(python, row.python):
            reference = bootstrap.reference.format(number=row.os.split()[1])
            packages = sorted({*bootstrap.system_packages, *bootstrap.more_packages.get(row.os, ())})
            yield _base(row, BaseSource.BOOTSTRAP, reference, packages)


def _base(row: System, source: BaseSource, reference: str, packages: Sequence[str]) -> Base:
    return Base(
        reference=reference,
        source=source,
        os=row.os,
        release=row.release,
        glibc=row.glibc or _CUSTOM_GLIBC,
        end_of_life=row.last_day,
        system_packages=tuple(packages),
    )
