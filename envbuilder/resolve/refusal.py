"""What is wrong with one value, whatever the rest of the request says.

Four things, each with words of its own: *unknown* to the catalog, *ambiguous*, *malformed*, and known but *unavailable*
with any torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from envbuilder.catalog.gpus import find_gpus, is_capability, similar_gpus
from envbuilder.catalog.lookup import (
    has_apt,
    is_python_with_wheels,
    known_builds,
    known_cuda,
    known_pythons,
    known_systems,
    matching_runtimes,
    newest_transformers,
    oldest_transformers,
)
from envbuilder.catalog.rows import Catalog
from envbuilder.resolve.parsers import parse_os
from envbuilder.resolve.resolved_request import ResolvedRequest
from envbuilder.resolve.rules import USE_CUSTOM_BASE, Objection, Reason, jetson_objection, no_apt
from envbuilder.resolve.suggest import similar_names, similar_versions
from envbuilder.versions import driver_text, listed, matches_any, minor_line

_NEWER = "or upgrade envbuilder, which may know it, or add it to a custom catalog (`--catalog DIR`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why the catalog cannot judge a value at all."""

    problem: str  # one sentence, with the value
    known: str = ""  # "known: 3.8, 3.9"
    advice: str = ""
    instead: tuple[object, ...] = ()  # values that may be meant, likeliest first
    is_choice: bool = False  # each of `instead` is one meaning of an ambiguous value

    @property
    def text(self) -> str:
        return "; ".join(part for part in (self.problem, self.known) if part)


# --- unknown, ambiguous or malformed -------------------------------------------------------------------------------


def diagnose_unknown_cuda(resolved: ResolvedRequest) -> Diagnosis | None:
    versions = known_cuda(resolved.catalog)
    return _diagnose_version("CUDA", resolved.request.cuda, versions, resolved.catalog, by_line=True)


def diagnose_unknown_cudnn(resolved: ResolvedRequest) -> Diagnosis | None:
    versions = known_builds("cudnn", resolved.catalog)
    return _diagnose_version("cuDNN", resolved.request.cudnn, versions, resolved.catalog, by_line=True)


def diagnose_unknown_torch(resolved: ResolvedRequest) -> Diagnosis | None:
    versions = known_builds("torch", resolved.catalog)
    return _diagnose_version("torch", resolved.request.torch, versions, resolved.catalog)


def diagnose_unknown_torchvision(resolved: ResolvedRequest) -> Diagnosis | None:
    versions = known_builds("torchvision", resolved.catalog)
    return _diagnose_version("torchvision", resolved.request.torchvision, versions, resolved.catalog)


def diagnose_unknown_python(resolved: ResolvedRequest) -> Diagnosis | None:
    """Also for `3.10.4`, which is malformed: the base image determines the patch release."""
    python = resolved.request.python
    versions = known_pythons(resolved.catalog)
    if python is None or matches_any(python, versions):
        return None
    line = Version(minor_line(python))
    if line in versions:
        return Diagnosis(
            problem=f"--python takes X.Y, not {python}: the base image determines the patch release",
            instead=(line,),
        )
    return _diagnose_version("Python", python, versions, resolved.catalog)


def diagnose_unknown_transformers(resolved: ResolvedRequest) -> Diagnosis | None:
    version = resolved.request.transformers
    if version is None:
        return None
    oldest = oldest_transformers(resolved.catalog)
    newest = newest_transformers(resolved.catalog)
    if resolved.transformers and version.release <= newest.release[: len(version.release)]:
        return None
    tested = [row.newest for row in resolved.catalog.transformers]
    return Diagnosis(
        problem=_not_in_catalog(f"transformers {version}", resolved.catalog),
        known=f"known: {oldest} to {newest}",
        advice=_NEWER,
        instead=tuple(similar_versions(version, tested)),
    )


def _diagnose_version(
    label: str,
    version: Version | None,
    versions: Sequence[Version],
    catalog: Catalog,
    *,
    by_line: bool = False,
) -> Diagnosis | None:
    if version is None or matches_any(version, versions):
        return None
    # Of 11.7.2 the releases of 11.7 say most; of 99.9 the lines do.
    of_same_line = [other for other in versions if other.release[:2] == version.release[:2]]
    lines = [minor_line(other) for other in versions]
    known = listed(of_same_line or (lines if by_line else versions))
    return Diagnosis(
        problem=_not_in_catalog(f"{label} {version}", catalog),
        known=f"known: {known}",
        advice=_NEWER,
        instead=tuple(similar_versions(version, versions)),
    )


def _not_in_catalog(what: str, catalog: Catalog) -> str:
    return f"{what} is not in the catalog ({catalog.date})"


def diagnose_unknown_gpu(resolved: ResolvedRequest) -> Diagnosis | None:
    name = resolved.request.gpu
    catalog = resolved.catalog
    if name is None or resolved.gpu is not None:
        return None
    rows = find_gpus(name, catalog)
    if rows:
        meanings = " or ".join(f"{row.architecture} ({row.capability})" for row in rows)
        return Diagnosis(
            problem=f'GPU "{name}" is ambiguous: {meanings}',
            instead=tuple(str(row.capability) for row in rows),
            is_choice=True,
        )
    problem = _not_in_catalog(f'GPU "{name}"', catalog)
    if is_capability(name):
        capabilities = listed(row.capability for row in reversed(catalog.gpus))
        return Diagnosis(problem=problem, known=f"known: {capabilities}", advice=_NEWER)
    similar = similar_gpus(name, catalog)
    return Diagnosis(
        problem=problem,
        known=f"similar: {listed(similar)}" if similar else "",
        advice="or give its compute capability, such as `--gpu 8.6`",
        instead=tuple(similar),
    )


def diagnose_unknown_os(resolved: ResolvedRequest) -> Diagnosis | None:
    name = resolved.request.os
    catalog = resolved.catalog
    if name is None or resolved.system is not None:
        return None
    names = known_systems(catalog)
    similar = []
    for other in similar_names(name, names):
        try:
            similar.append(parse_os(other))
        except ValueError:
            continue  # a name in a catalog that the command line does not take
    return Diagnosis(
        problem=_not_in_catalog(f'operating system "{name}"', catalog),
        known=f"known: {listed(names)}",
        advice=_NEWER,
        instead=tuple(similar),
    )


# --- known, and unavailable with any torch -------------------------------------------------------------------------


def diagnose_unavailable_cuda(resolved: ResolvedRequest) -> Objection:
    cuda = resolved.request.cuda
    builds = resolved.catalog.torch
    if cuda is None or resolved.cuda:
        return None
    rows = matching_runtimes(cuda, resolved.catalog)
    if not rows:
        return None
    lines = sorted({build.cuda.release[:2] for build in builds})
    built = listed(f"{major}.{minor}" for major, minor in lines)
    return Reason(
        f"CUDA {cuda} exists, but no torch in the catalog is built for it; there are builds for {built}",
        (rows[0].source,),
    )


def diagnose_unavailable_python(resolved: ResolvedRequest) -> Objection:
    python = resolved.request.python
    registry = resolved.catalog.policy.registry
    if python is None:
        return None
    if not is_python_with_wheels(python, resolved.catalog):
        return Reason(
            f"no torch in the catalog has wheels for Python {python}",
            (registry.source,),
        )
    return Reason(
        f"no base image has Python {python} (official images: {listed(registry.pythons)}); "
        f"to use your own: {USE_CUSTOM_BASE}",
        (registry.source,),
    )


def diagnose_unavailable_gpu(resolved: ResolvedRequest) -> Objection:
    gpu = resolved.gpu
    if gpu is None:
        return None
    jetson = jetson_objection(resolved, resolved.request.platform)
    if jetson:
        return jetson
    archs: list[str] = []
    for build in resolved.catalog.torch:
        archs += build.arch_list
        archs += build.arch_list_arm64
        archs += build.ptx
    others = " ".join(dict.fromkeys(archs))
    return Reason(
        f"no torch in the catalog has kernels for {resolved.gpu_name} ({gpu.architecture}); "
        f"there are some for {others}",
        (gpu.source,),
    )


def diagnose_unavailable_driver(resolved: ResolvedRequest) -> Objection:
    driver = resolved.request.driver
    if driver is None:
        return None
    oldest = min(resolved.catalog.torch, key=lambda build: Version(build.driver_floor))
    cuda = minor_line(oldest.cuda)
    return Reason(
        f"driver {driver_text(driver)} is too old: the oldest supported driver is {oldest.driver_floor} (CUDA {cuda})",
        (oldest.source,),
    )


def diagnose_unavailable_day(resolved: ResolvedRequest) -> Objection:
    oldest = min(resolved.catalog.torch, key=lambda build: build.released)
    return Reason(
        f"the oldest torch in the catalog, {oldest.torch}, was released on {oldest.released}",
        (oldest.source,),
    )


def diagnose_unavailable_os(resolved: ResolvedRequest) -> Objection:
    system = resolved.system
    registry = resolved.catalog.policy.registry
    if system and not has_apt(system):
        return no_apt(system)
    return Reason(
        f"no base image for {resolved.request.os} (official Python images use Debian {registry.release}); "
        f"to use your own: {USE_CUSTOM_BASE}",
        (registry.source,),
    )
