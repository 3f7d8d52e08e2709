"""Every combination that could become a stack: a torch build on a Python on a base, best first.

They do not depend on a request, so `catalog_candidates` makes them once per catalog, and each carries the facts that a
stack needs of it. A base that the user names is among them as a base without a reference.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from packaging.version import Version

from envbuilder.catalog.rows import (
    Catalog,
    Compiler,
    System,
    ToolkitImage,
    TorchBuild,
    TransformersCompat,
)
from envbuilder.grammar import ARM64, PLATFORMS
from envbuilder.model import CUSTOM_OS, PYPI, Base, BaseSource, Feature
from envbuilder.versions import matches_prefix, minor_line

_ASSUMED_GLIBC = Version(
    "2.28"
)  # of a base whose own is not known: that of manylinux_2_28


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One complete combination, with the facts that do not depend on a request."""

    build: TorchBuild
    python: Version
    base: Base
    platform: str
    cpu: bool = False  # the same torch, without CUDA
    package_index: str = PYPI  # name of the one that has its wheels
    transformers_run: TransformersCompat | None = (
        None  # the newest that works with it; None: never run
    )
    nvcc: Compiler | None = (
        None  # the wheels that bring it for its CUDA; None: there are none
    )
    toolkit: ToolkitImage | None = None  # the image that brings it then

    @property
    def custom(self) -> bool:
        """On the base that the request names."""
        return not self.base.reference

    @property
    def name(self) -> str:
        """`torch 2.0.1 for CUDA 11.7.99`."""
        if self.cpu:
            return f"torch {self.build.torch} without CUDA"
        return f"torch {self.build.torch} for CUDA {self.build.cuda}"

    @property
    def cuda_line(self) -> str:
        """`11.7`."""
        return minor_line(self.build.cuda)

    @property
    def local_version(self) -> str:
        """`+cu118`, which PyTorch's own indexes put behind a version; "" on PyPI."""
        if self.package_index == PYPI:
            return ""
        return "+cpu" if self.cpu else f"+cu{self.cuda_line.replace('.', '')}"

    @property
    def gpu_targets(self) -> tuple[str, ...]:
        """The GPU binaries in the wheel for the candidate's platform, and what a GPU's driver can compile."""
        build = self.build
        archs = build.arch_list
        if self.platform == ARM64 and build.arch_list_arm64:
            archs = build.arch_list_arm64
        return archs + build.ptx

    @property
    def has_torch_compile(self) -> bool:
        """Whether torch.compile works."""
        build = self.build
        until = build.compile_until
        if until is not None and self.python >= until:
            return False
        return build.compile

    @property
    def features(self) -> tuple[Feature, ...]:
        """What it can and cannot do; acceptance expects exactly this."""
        build = self.build
        reason = ""
        if not build.compile:
            reason = f"torch {build.torch} has no torch.compile"
        elif not self.has_torch_compile:
            reason = (
                f"torch {build.torch} raises on Python {build.compile_until} and later"
            )
        compile_feature = Feature(
            name="torch.compile",
            available=not reason,
            reason=reason,
            source=build.compile_source,
        )
        return (compile_feature,)


# --- preference ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """By what candidates are compared, and what to say of one that is behind."""

    merit: Callable[
        [Candidate], Any
    ]  # more is better; a release is a tuple, which compares faster than a version
    loss: Callable[[Candidate], str]


def _missing_features(candidate: Candidate) -> str:
    missing = []
    for feature in candidate.features:
        if feature.available:
            continue
        missing.append(f"no {feature.name}: {feature.reason}")
    return "; ".join(missing)


PREFERENCES: dict[str, Preference] = {
    "features": Preference(
        merit=lambda candidate: candidate.has_torch_compile,
        loss=_missing_features,
    ),
    "index": Preference(
        merit=lambda candidate: candidate.package_index == PYPI,
        loss=lambda candidate: (
            f"its wheels are on the index {candidate.package_index}, not on PyPI"
        ),
    ),
    "torch": Preference(
        merit=lambda candidate: candidate.build.torch.release,
        loss=lambda _: "an older torch",
    ),
    "cuda": Preference(
        merit=lambda candidate: candidate.build.cuda.release,
        loss=lambda _: "an older CUDA",
    ),
    "registry": Preference(
        merit=lambda candidate: candidate.base.source is BaseSource.REGISTRY,
        loss=lambda _: "its base would have to be built",
    ),
    "python": Preference(
        merit=lambda candidate: candidate.python.release,
        loss=lambda _: "an older Python",
    ),
}
"""What `preference` in policy.toml can name."""


@lru_cache(maxsize=4)
def catalog_candidates(catalog: Catalog) -> tuple[Candidate, ...]:
    """All candidates, the one that policy prefers first."""
    preferences = [PREFERENCES[word] for word in catalog.policy.preference]

    def rank(candidate: Candidate) -> list[object]:
        merits = [preference.merit(candidate) for preference in preferences]
        return merits + _tie_breaker(candidate)

    candidates = sorted(
        _candidates(catalog),
        key=rank,
        reverse=True,
    )
    return tuple(candidates)


def _tie_breaker(candidate: Candidate) -> list[object]:
    """What decides when policy does not: the same whatever order the rows have."""
    build = candidate.build
    base = candidate.base
    return [
        build.torch.release,
        build.cuda.release,
        build.cudnn.release,
        build.index,
        build.source,
        candidate.python.release,
        base.os,
        base.reference,
        candidate.platform,
    ]


# --- all of them ---------------------------------------------------------------------------------------------------


def _candidates(catalog: Catalog) -> Iterator[Candidate]:
    facts = _Facts(catalog)
    for build in catalog.torch:
        for platform in build.platforms:
            yield from facts.candidates_of(build, platform, cpu=False)
    if catalog.policy.cpu is None:
        return
    for build in _one_per_release(catalog):
        for platform in PLATFORMS:
            yield from facts.candidates_of(build, platform, cpu=True)


class _Facts:
    """What candidates share, looked up once: thousands of them have the same few bases and rows."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._bases: dict[Version, tuple[Base, ...]] = {}
        self._runs = runs_by_line(catalog)

    def candidates_of(
        self, build: TorchBuild, platform: str, *, cpu: bool
    ) -> Iterator[Candidate]:
        """A build on every Python and base that it can have."""
        package_index = package_index_of(build, platform, self._catalog, cpu=cpu)
        nvcc = nvcc_for(build.cuda, self._catalog)
        toolkit = None if nvcc else toolkit_for(build.cuda, self._catalog)
        for python in pythons_of(build, platform):
            run = nearest_run(build.torch, python, self._runs)
            for base in self._bases_with(python):
                yield Candidate(
                    build=build,
                    python=python,
                    base=base,
                    platform=platform,
                    cpu=cpu,
                    package_index=package_index,
                    transformers_run=run,
                    nvcc=nvcc,
                    toolkit=toolkit,
                )

    def _bases_with(self, python: Version) -> tuple[Base, ...]:
        if python not in self._bases:
            self._bases[python] = tuple(_bases(python, self._catalog))
        return self._bases[python]


def pythons_of(build: TorchBuild, platform: str) -> tuple[Version, ...]:
    """The Pythons that all of the torch family has wheels for; torch's own where no more is known."""
    return build.family.get(platform, build.pythons)


def _one_per_release(catalog: Catalog) -> Iterator[TorchBuild]:
    """One build of each release: without CUDA, they are all the same torch."""

    def order(row: TorchBuild) -> tuple[object, ...]:
        return row.index != PYPI, row.cuda, row.source

    seen = set()
    for row in sorted(catalog.torch, key=order):
        if row.torch not in seen:
            seen.add(row.torch)
            yield row


# --- their facts ---------------------------------------------------------------------------------------------------


def package_index_of(
    build: TorchBuild,
    platform: str,
    catalog: Catalog,
    *,
    cpu: bool,
) -> str:
    """Name of the index that has the wheels of a build, or of the same torch without CUDA."""
    wheels = catalog.policy.cpu
    if not cpu or not wheels:
        return build.index
    if has_cpu_wheel(build, platform):
        return build.index
    return wheels.index


def has_cpu_wheel(build: TorchBuild, platform: str) -> bool:
    """The index of a CUDA build has, for this platform, wheels without CUDA: PyPI's for arm64, up to torch 2.10."""
    return platform in build.family and platform not in build.platforms


def nvcc_for(cuda: Version, catalog: Catalog) -> Compiler | None:
    """The wheels with nvcc for a CUDA's line."""
    devel = catalog.policy.devel
    return devel.compilers.get(minor_line(cuda)) if devel else None


def toolkit_for(cuda: Version, catalog: Catalog) -> ToolkitImage | None:
    """The image with nvcc for a CUDA's line."""
    devel = catalog.policy.devel
    return devel.images.get(minor_line(cuda)) if devel else None


Runs = Mapping[str, Sequence[TransformersCompat]]


def runs_by_line(catalog: Catalog) -> Runs:
    """What was run on each line of torch: 2.0 → its rows."""
    runs = defaultdict(list)
    for row in catalog.transformers:
        line = minor_line(row.torch)
        runs[line].append(row)
    return runs


def nearest_run(
    torch: Version, python: Version, runs: Runs
) -> TransformersCompat | None:
    """What was measured on this torch line, on this Python if possible, else on the nearest one."""
    nearest: TransformersCompat | None = None
    for row in runs.get(minor_line(torch), ()):
        if nearest is None or _is_nearer(row, nearest, python):
            nearest = row
    return nearest


def _is_nearer(
    row: TransformersCompat, other: TransformersCompat, python: Version
) -> bool:
    """Whether a run says more of a Python than another one; of two as near, the one that promises less."""
    minor = python.minor
    distance = abs(row.python.minor - minor)
    other_distance = abs(other.python.minor - minor)
    if distance < other_distance:
        return True
    if distance > other_distance:
        return False
    return row.newest < other.newest


# --- bases ---------------------------------------------------------------------------------------------------------


def bootstrapped(catalog: Catalog) -> tuple[System, ...]:
    """The systems that a base can be made of here."""
    return tuple(
        row for row in catalog.systems if row.os in catalog.policy.bootstrap.systems
    )


def _bases(python: Version, catalog: Catalog) -> Iterator[Base]:
    """The bases that can have this Python; one that the user names is taken at its word."""
    registry = catalog.policy.registry
    # A base of the user's is an image that exists, as those of a registry are: only a bootstrapped one is made here.
    yield Base(
        reference="",
        source=BaseSource.REGISTRY,
        os=CUSTOM_OS,
        release="",
        glibc=_ASSUMED_GLIBC,
        system_packages=registry.system_packages,
    )
    for system in catalog.systems:
        if system.release == registry.release and python in registry.pythons:
            yield _registry_base(system, python, catalog)
    for system in bootstrapped(catalog):
        if matches_prefix(python, system.python):
            yield _bootstrap_base(system, catalog)


def known_base(reference: str, python: Version, catalog: Catalog) -> Base | None:
    """What the catalog knows of a base image; None for one that the user named."""
    for base in _bases(python, catalog):
        if base.reference == reference:
            return base
    return None


def _registry_base(system: System, python: Version, catalog: Catalog) -> Base:
    registry = catalog.policy.registry
    return _base(
        system,
        source=BaseSource.REGISTRY,
        reference=registry.reference.format(python=python, release=system.release),
        packages=registry.system_packages,
    )


def _bootstrap_base(system: System, catalog: Catalog) -> Base:
    bootstrap = catalog.policy.bootstrap
    packages = set(bootstrap.system_packages)
    more = bootstrap.more_packages.get(system.os, ())
    packages.update(more)
    _, number = system.os.split()
    reference = bootstrap.reference.format(number=number)
    return _base(
        system,
        source=BaseSource.BOOTSTRAP,
        reference=reference,
        packages=sorted(packages),
    )


def _base(
    system: System, *, source: BaseSource, reference: str, packages: Sequence[str]
) -> Base:
    return Base(
        reference=reference,
        source=source,
        os=system.os,
        release=system.release,
        glibc=system.glibc or _ASSUMED_GLIBC,
        end_of_life=system.last_day,
        system_packages=tuple(packages),
    )
