"""What is wrong with one value, whatever the rest of the request says.

Four things, each with words of its own: *unknown* to the catalog, *ambiguous*, *malformed*, and known but *unavailable*
with any torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from envbuilder.catalog.gpu_names import (
    find_gpus,
    is_capability,
    other_maker,
    similar_gpus,
)
from envbuilder.catalog.lookup import (
    has_apt,
    is_python_with_wheels,
    matching_runtimes,
    newest_transformers,
    oldest_transformers,
)
from envbuilder.catalog.rows import Catalog, Gpu
from envbuilder.resolve.base_check import alternatives_to, refusal_of
from envbuilder.resolve.parsers import parse_os
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import (
    USE_CUSTOM_BASE,
    Objection,
    Reason,
    no_apt,
    processor_objection,
)
from envbuilder.resolve.suggest import similar_names, similar_versions
from envbuilder.versions import driver_text, listed, matches_any, minor_line

_OR_UPGRADE = "or upgrade envbuilder, which may know it, or add it to a custom catalog (`--catalog DIR`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why the catalog cannot judge a value at all."""

    problem: str  # one sentence, with the value
    alternatives_text: str = ""  # "known: 3.8, 3.9"
    advice: str = ""
    instead: tuple[object, ...] = ()  # values that may be meant, likeliest first
    on_cpu: bool = False  # there is no value to try: what works is the CPU
    is_choice: bool = False  # each of `instead` is one meaning of an ambiguous value

    @property
    def text(self) -> str:
        return "; ".join(
            part for part in (self.problem, self.alternatives_text) if part
        )


# --- unknown, ambiguous or malformed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedValue:
    """One value of a request, and what is needed to judge it."""

    phrase: str  # "CUDA 99.9"
    value: Any
    known: Sequence[Any]  # the values that the catalog knows
    rows: RequestRows

    @property
    def catalog(self) -> Catalog:
        return self.rows.catalog


def diagnose_unknown_version(requested: RequestedValue) -> Diagnosis | None:
    return _diagnose_version(requested, requested.known)


def diagnose_unknown_line(requested: RequestedValue) -> Diagnosis | None:
    """Of a version with many releases, as CUDA: the lines are enough to read."""
    lines = [minor_line(version) for version in requested.known]
    return _diagnose_version(requested, lines)


def _diagnose_version(
    requested: RequestedValue, listed_as_known: Iterable[object]
) -> Diagnosis | None:
    if matches_any(requested.value, requested.known):
        return None
    # For 11.7.2, list the releases of 11.7.
    line = requested.value.release[:2]
    of_same_line = [
        version for version in requested.known if version.release[:2] == line
    ]
    similar = similar_versions(requested.value, requested.known)
    alternatives = listed(of_same_line or listed_as_known)
    return Diagnosis(
        problem=_not_in_catalog(requested.phrase, requested.catalog),
        alternatives_text=f"known: {alternatives}",
        advice=_OR_UPGRADE,
        instead=tuple(similar),
    )


def _not_in_catalog(what: str, catalog: Catalog) -> str:
    return f"{what} is not in the catalog ({catalog.date})"


def diagnose_unknown_python(requested: RequestedValue) -> Diagnosis | None:
    """Also for `3.10.4`, which is malformed: the base image determines the patch release."""
    diagnosis = diagnose_unknown_version(requested)
    line = Version(minor_line(requested.value))
    if diagnosis is None or line not in requested.known:
        return diagnosis
    return Diagnosis(
        problem=f"--python takes X.Y, not {requested.value}: the base image determines the patch release",
        instead=(line,),
    )


def diagnose_unknown_transformers(requested: RequestedValue) -> Diagnosis | None:
    """Every release between two that are known is known, too: most were never run."""
    oldest = oldest_transformers(requested.catalog)
    newest = newest_transformers(requested.catalog)
    parts = len(requested.value.release)
    is_newer = requested.value.release > newest.release[:parts]
    if requested.rows.transformers and not is_newer:
        return None
    similar = similar_versions(requested.value, requested.known)
    return Diagnosis(
        problem=_not_in_catalog(requested.phrase, requested.catalog),
        alternatives_text=f"known: {oldest} to {newest}",
        advice=_OR_UPGRADE,
        instead=tuple(similar),
    )


def diagnose_unknown_gpu(requested: RequestedValue) -> Diagnosis | None:
    if requested.rows.gpu is not None:
        return None
    name = requested.value
    gpus = find_gpus(name, requested.catalog)
    if gpus:
        return _ambiguous_gpu(name, gpus)
    maker = other_maker(name)
    if maker:
        return _gpu_of_other_maker(name, maker)
    problem = _not_in_catalog(f'GPU "{name}"', requested.catalog)
    if is_capability(name):
        capabilities = [row.capability for row in requested.catalog.gpus]
        return Diagnosis(
            problem=problem,
            alternatives_text=f"known: {listed(reversed(capabilities))}",
            advice=_OR_UPGRADE,
        )
    similar = similar_gpus(name, requested.catalog)
    return Diagnosis(
        problem=problem,
        alternatives_text=f"similar: {listed(similar)}" if similar else "",
        advice="or give its compute capability, such as `--gpu 8.6`",
        instead=tuple(similar),
    )


def _gpu_of_other_maker(name: str, maker: str) -> Diagnosis:
    """No image made here runs on it, whatever is changed: what is left is its processor."""
    rocm = "; no ROCm here" if maker == "AMD" else ""
    return Diagnosis(
        problem=f'GPU "{name}" is made by {maker}: images are built for NVIDIA GPUs, with CUDA{rocm}',
        advice="to train on the CPU",
        on_cpu=True,
    )


def _ambiguous_gpu(name: str, gpus: Iterable[Gpu]) -> Diagnosis:
    meanings = []
    capabilities = []
    for gpu in gpus:
        meanings.append(f"{gpu.architecture} ({gpu.capability})")
        capabilities.append(str(gpu.capability))
    return Diagnosis(
        problem=f'GPU "{name}" is ambiguous: {" or ".join(meanings)}',
        instead=tuple(capabilities),
        is_choice=True,
    )


def diagnose_unknown_os(requested: RequestedValue) -> Diagnosis | None:
    if requested.rows.system is not None:
        return None
    similar = []
    for name in similar_names(requested.value, requested.known):
        try:
            similar.append(parse_os(name))
        except ValueError:
            continue  # a name in a catalog that the command line does not take
    return Diagnosis(
        problem=_not_in_catalog(
            f'operating system "{requested.value}"', requested.catalog
        ),
        alternatives_text=f"known: {listed(requested.known)}",
        advice=_OR_UPGRADE,
        instead=tuple(similar),
    )


def diagnose_unusable_base(requested: RequestedValue) -> Diagnosis | None:
    """Of an image whose name says that nothing can be built on it."""
    base = requested.rows.base
    if base is None:
        return None
    refusal = refusal_of(base, requested.catalog)
    if not refusal:
        return None
    return Diagnosis(
        problem=refusal,
        instead=tuple(alternatives_to(base, requested.catalog)),
    )


# --- known, and unavailable with any torch -------------------------------------------------------------------------


def diagnose_unavailable_cuda(rows: RequestRows) -> Objection:
    cuda = rows.request.cuda
    builds = rows.catalog.torch
    if cuda is None or rows.cuda:
        return None
    runtimes = matching_runtimes(cuda, rows.catalog)
    if not runtimes:
        return None
    lines = sorted({build.cuda.release[:2] for build in builds})
    built = listed(f"{major}.{minor}" for major, minor in lines)
    return Reason(
        f"CUDA {cuda} exists, but no torch in the catalog is built for it; there are builds for {built}; "
        "what nvidia-smi shows is the newest CUDA that the driver supports: older ones run on it, too",
        (runtimes[0].source,),
    )


def diagnose_unavailable_python(rows: RequestRows) -> Objection:
    python = rows.request.python
    registry = rows.catalog.policy.registry
    if python is None:
        return None
    if not is_python_with_wheels(python, rows.catalog):
        return Reason(
            f"no torch in the catalog has wheels for Python {python}",
            (registry.source,),
        )
    return Reason(
        f"no base image has Python {python} (official images: {listed(registry.pythons)}); "
        f"to use your own: {USE_CUSTOM_BASE}",
        (registry.source,),
    )


def diagnose_unavailable_gpu(rows: RequestRows) -> Objection:
    gpu = rows.gpu
    if gpu is None:
        return None
    other_processor = processor_objection(rows, rows.request.platform)
    if other_processor:
        return other_processor
    archs: list[str] = []
    for build in rows.catalog.torch:
        archs += build.arch_list
        archs += build.arch_list_arm64
        archs += build.ptx
    others = " ".join(dict.fromkeys(archs))
    return Reason(
        f"no torch in the catalog has kernels for {rows.gpu_name} ({gpu.architecture}); there are some for {others}",
        (gpu.source,),
    )


def diagnose_unavailable_driver(rows: RequestRows) -> Objection:
    driver = rows.request.driver
    if driver is None:
        return None
    oldest = min(rows.catalog.torch, key=lambda build: Version(build.driver_floor))
    cuda = minor_line(oldest.cuda)
    return Reason(
        f"driver {driver_text(driver)} is too old: the oldest supported driver is {oldest.driver_floor} (CUDA {cuda})",
        (oldest.source,),
    )


def diagnose_unavailable_day(rows: RequestRows) -> Objection:
    oldest = min(rows.catalog.torch, key=lambda build: build.released)
    return Reason(
        f"the oldest torch in the catalog, {oldest.torch}, was released on {oldest.released}",
        (oldest.source,),
    )


def diagnose_unavailable_os(rows: RequestRows) -> Objection:
    system = rows.system
    registry = rows.catalog.policy.registry
    if system and not has_apt(system):
        return no_apt(system)
    return Reason(
        f"no base image for {rows.request.os} (official Python images use Debian {registry.release}); "
        f"to use your own: {USE_CUSTOM_BASE}",
        (registry.source,),
    )
