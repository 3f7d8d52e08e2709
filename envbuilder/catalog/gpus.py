"""Which of a wheel's binaries run on a GPU, which drivers support it, and what it can do. Names: `gpu_names`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog.rows import Catalog, Compatibility, Family, Gpu, Toolkit
from envbuilder.versions import minor_line

_ARCH = re.compile(r"(sm|compute)_([0-9]+)([0-9])([af]?)[a-z]*")


# --- binaries ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def has_kernels(archs: tuple[str, ...], capability: Version) -> bool:
    """Whether some binary of a wheel runs on a GPU of this compute capability."""
    return any(runs_on(arch, capability) for arch in archs)


def runs_on(arch: str, capability: Version) -> bool:
    """Whether code for an architecture runs on a GPU: the rules of the CUDA Programming Guide, "Compute Capabilities".

    sm_XY, a binary, runs on X.Y and later minor versions; compute_XY, which the driver compiles, on everything from X.Y
    on. With an `a` (architecture-specific) both run on X.Y alone, with an `f` (family-specific) on X.Y and later minor
    versions. The suite in the image has the same rules (docker/payload/acceptance/checks/gpu.py).
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        return False
    kind, major, minor, suffix = match.groups()
    built_for = (int(major), int(minor))
    gpu = (capability.major, capability.minor)
    if suffix == "a":
        return gpu == built_for
    if gpu < built_for:
        return False
    same_family = gpu[0] == built_for[0]
    return same_family or (kind == "compute" and not suffix)


def kernels_text(archs: Iterable[str], capability: Version) -> str:
    """What kernels a wheel has, seen from a GPU that it has none for: `kernels up to sm_86`."""
    by_capability = {}
    for arch in archs:
        parts = _ARCH.fullmatch(arch)
        if parts:
            built = (int(parts[2]), int(parts[3]))
            by_capability[built] = arch
    if not by_capability:
        return "no kernels for any known GPU"
    oldest = min(by_capability)
    newest = max(by_capability)
    here = (capability.major, capability.minor)
    if here > newest:
        arch = by_capability[newest]
        return f"kernels up to {arch}"
    if here < oldest:
        arch = by_capability[oldest]
        return f"kernels from {arch} on"
    every_arch = " ".join(by_capability.values())
    return f"kernels for {every_arch}"


# --- drivers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverBranches:
    """The driver branches that support a GPU; None where no fact sets an end."""

    first: (
        Toolkit | None
    )  # the first CUDA that compiles for the GPU: it came with a driver of the first branch
    last: Compatibility | None

    @property
    def oldest(self) -> int:
        """The first branch; 0 if none is known."""
        return (
            Version(self.first.driver).major if self.first and self.first.driver else 0
        )

    @property
    def newest(self) -> int | None:
        """The last branch; None while NVIDIA has announced none."""
        return int(self.last.subject) if self.last else None

    def include(self, branch: int) -> bool:
        if branch < self.oldest:
            return False
        return self.newest is None or branch <= self.newest


@lru_cache(maxsize=4)
def driver_branches(catalog: Catalog) -> Mapping[Version, DriverBranches]:
    """Compute capability → the driver branches that support it."""
    by_capability = {}
    for gpu in catalog.gpus:
        branches = DriverBranches(
            first=_first_toolkit(gpu, catalog),
            last=_last_branch(gpu, catalog),
        )
        by_capability[gpu.capability] = branches
    return by_capability


def _first_toolkit(gpu: Gpu, catalog: Catalog) -> Toolkit | None:
    """The oldest toolkit of the GPU's first line of CUDA that came with a driver."""
    if gpu.first_cuda is None:
        return None
    line = minor_line(gpu.first_cuda)
    first: Toolkit | None = None
    for row in catalog.toolkits:
        if row.driver is None:
            continue
        if minor_line(row.cuda) != line:
            continue
        if first is None or row.cuda < first.cuda:
            first = row
    return first


def _last_branch(gpu: Gpu, catalog: Catalog) -> Compatibility | None:
    for row in catalog.compatibility:
        if row.kind != "last driver branch":
            continue
        if gpu.architecture in row.architectures:
            return row
    return None


def driver_floor(cuda_major: int, catalog: Catalog) -> str | None:
    """The oldest driver that runs any CUDA of a major."""
    subject = str(cuda_major)
    for row in catalog.compatibility:
        if row.kind != "minor-version":
            continue
        if row.subject == subject:
            return row.driver_floor
    return None


@lru_cache(maxsize=4)
def first_drivers(catalog: Catalog) -> Mapping[int, Version]:
    """Driver branch → its first driver that came with a CUDA toolkit."""
    drivers = [Version(row.driver) for row in catalog.toolkits if row.driver]
    return {driver.major: driver for driver in sorted(drivers, reverse=True)}


@lru_cache(maxsize=4)
def driver_range_starts(catalog: Catalog) -> tuple[int, ...]:
    """The first branch of each range of driver branches that support the same GPUs, oldest first; the first is 0."""
    starts = {0}
    by_capability = driver_branches(catalog)
    for branches in by_capability.values():
        starts.add(branches.oldest)
        if branches.newest is not None:
            starts.add(branches.newest + 1)
    return tuple(sorted(starts))


# --- Jetsons -------------------------------------------------------------------------------------------------------


def is_jetson(gpu: Gpu) -> bool:
    """Whether only Jetsons have this compute capability."""
    return set(gpu.families) == {Family.JETSON}


def server_wheels(catalog: Catalog) -> Compatibility | None:
    """Since which CUDA a Jetson runs what is built for arm64 servers, if it is one that does."""
    return next(
        (row for row in catalog.compatibility if row.kind == "server wheels"), None
    )


def runs_server_wheels(gpu: Gpu, catalog: Catalog) -> bool:
    """Whether it is no Jetson, or one of those that came with the CUDA that all of arm64 shares."""
    if not is_jetson(gpu):
        return True
    since = server_wheels(catalog)
    first = gpu.first_cuda
    if since is None or first is None:
        return False
    return first >= Version(since.subject)
