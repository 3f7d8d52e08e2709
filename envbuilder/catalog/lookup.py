"""What the catalog knows of a request's values: the known ones, and the rows that a version or a name means."""

from collections.abc import Sequence

from packaging.version import Version

from envbuilder.catalog.rows import Catalog, CudaRuntime, System, TransformersRelease
from envbuilder.versions import matches_any, matches_prefix, minor_line

_WITH_APT = ("debian", "ubuntu")  # the families that templates/debian is for


# --- known values --------------------------------------------------------------------------------------------------


def known_builds(field: str, catalog: Catalog) -> list[Version]:
    """Every version that torch builds have in `field`, such as torch or cudnn; oldest first."""
    return sorted({getattr(build, field) for build in catalog.torch})


def known_cuda(catalog: Catalog) -> list[Version]:
    """Every number of a CUDA release or of its runtime; oldest first."""
    versions = set(known_builds("cuda", catalog))
    for row in catalog.runtimes:
        versions.add(row.release)
        if row.runtime:
            versions.add(row.runtime)
    return sorted(versions)


def known_pythons(catalog: Catalog) -> list[Version]:
    """Every Python that some torch has wheels for or some official image has; oldest first."""
    registry = catalog.policy.registry
    versions = set(registry.pythons)
    for build in catalog.torch:
        versions.update(build.pythons)
    return sorted(versions)


def tested_transformers(catalog: Catalog) -> list[Version]:
    """The newest transformers that works with each line of torch; oldest first."""
    return sorted({row.newest for row in catalog.transformers})


def known_gpus(catalog: Catalog) -> list[str]:
    """Every compute capability, each with the names of its GPUs; oldest first."""
    names: list[str] = []
    for row in reversed(catalog.gpus):
        names.append(str(row.capability))
        names += row.names
    return names


def known_systems(catalog: Catalog) -> list[str]:
    """Every name and code name of an operating system."""
    names: list[str] = []
    for row in catalog.systems:
        names.append(row.os)
        if row.release:
            names.append(row.release)
    return names


# --- what a value means --------------------------------------------------------------------------------------------


def matching_cuda_versions(requested: Version, catalog: Catalog) -> frozenset[Version]:
    """The CUDA versions of torch builds that answer `requested`.

    A prefix means every build that begins with it. A release of the toolkit means the builds made of it, by its own
    number or by that of its runtime, to which wheels are pinned: 11.7.1 is 11.7.99.
    """
    built = {build.cuda for build in catalog.torch}
    exact = {version for version in built if matches_prefix(requested, version)}
    if exact:
        return frozenset(exact)
    rows = matching_runtimes(requested, catalog)
    numbers = _numbers(rows)
    of_their_numbers = {version for version in built if version.release in numbers}
    if of_their_numbers:
        return frozenset(of_their_numbers)
    if rows and len(requested.release) >= 3:
        # The patch release exists and no torch is built of it: CUDA is compatible both ways within a line.
        line = minor_line(requested)
        return frozenset(version for version in built if minor_line(version) == line)
    return frozenset()


def _numbers(rows: Sequence[CudaRuntime]) -> set[tuple[int, ...]]:
    """The numbers of releases and of their runtimes; as versions, 12.1.0 would equal the line 12.1."""
    numbers = set()
    for row in rows:
        numbers.add(row.release.release)
        if row.runtime:
            numbers.add(row.runtime.release)
    return numbers


def matching_runtimes(requested: Version, catalog: Catalog) -> list[CudaRuntime]:
    """The releases of the CUDA toolkit that a version means, by their own number or by that of their runtime."""
    rows = []
    for row in catalog.runtimes:
        is_release = matches_prefix(requested, row.release)
        if is_release or requested == row.runtime:
            rows.append(row)
    return rows


def matching_releases(
    requested: Version, catalog: Catalog
) -> list[TransformersRelease]:
    """The minor releases of transformers that 4, 4.30 or 4.30.2 can mean."""
    parts = min(len(requested.release), 2)
    prefix = requested.release[:parts]
    return [
        row
        for row in catalog.transformers_releases
        if row.transformers.release[:parts] == prefix
    ]


def newest_transformers(catalog: Catalog) -> Version:
    """The newest that was run on any torch and worked: a newer one is unknown."""
    return max((row.newest for row in catalog.transformers), default=Version("0"))


def oldest_transformers(catalog: Catalog) -> Version:
    return min(
        (row.transformers for row in catalog.transformers_releases),
        default=Version("0"),
    )


def find_system(name: str | None, catalog: Catalog) -> System | None:
    """The row of `debian 12` or `bookworm`."""
    if not name:
        return None
    return next((row for row in catalog.systems if name in (row.os, row.release)), None)


def has_apt(system: System) -> bool:
    """Whether the Dockerfile can install packages there."""
    return system.os.split()[0] in _WITH_APT


def is_python_with_wheels(requested: Version, catalog: Catalog) -> bool:
    """Whether some torch has wheels for this Python."""
    return any(matches_any(requested, build.pythons) for build in catalog.torch)
