"""The checks of torch's builds and of transformers: against the wheels, the drivers, the architectures and the runs."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog import RELEASES, RUNS, TORCH, TRANSFORMERS, WHEELS
from envbuilder.catalog.observations import Run, Wheels
from envbuilder.catalog.rows import Evidence, TorchBuild
from envbuilder.catalog.verify import (
    PLATFORMS,
    CatalogFacts,
    Check,
    Problem,
    differing,
    problem,
    shown,
)
from envbuilder.model import PYPI

AMD64, ARM64 = PLATFORMS
COMPANIONS = ("torchvision", "torchaudio", "triton")


def on_pypi(facts: CatalogFacts) -> list[TorchBuild]:
    """The builds that PyPI carries: one for each release."""
    return [build for build in facts.catalog.torch if build.index == PYPI]


def every_release_has_its_row(facts: CatalogFacts) -> Iterator[Problem]:
    """What PyPI has of torch is in torch.json."""
    known = {build.torch for build in on_pypi(facts)}
    for package, version in facts.wheels:
        if package != "torch" or version in known:
            continue
        name = f"{TORCH.file} {version} {PYPI}"
        yield Problem(
            row=name,
            field="torch",
            says="is in wheels.json but not in torch.json",
        )


def releases_are_in_order(facts: CatalogFacts) -> Iterator[Problem]:
    """A higher version is not of an earlier day."""
    builds = on_pypi(facts)
    builds.sort(key=lambda build: build.torch)
    for older, newer in pairwise(builds):
        if newer.released >= older.released:
            continue
        says = f"is {newer.released}, before torch {older.torch} ({older.released})"
        yield problem(TORCH, newer, "released", says)


def wheels_say_the_same(facts: CatalogFacts) -> Iterator[Problem]:
    """What torch's own wheel declares."""
    for build in on_pypi(facts):
        wheel = facts.wheels.get(("torch", build.torch))
        if wheel is None:
            yield problem(TORCH, build, "torch", "is not in wheels.json")
            continue
        expected: dict[str, object] = {
            "released": wheel.released,
            "pythons": wheel.pythons[AMD64],
            "requires_python": wheel.requires_python,
            "glibc_tag": wheel.glibc[AMD64],
        }
        for field, pattern in PINS.items():
            pin = pinned(wheel, pattern)
            # Builds without CUDA pin neither CUDA nor cuDNN, and their rows keep what the build was made with.
            if pin or field in ("triton", "nccl"):
                expected[field] = pin
        yield from differing(TORCH, build, expected, "its wheel says")


PINS = {
    "cuda": "nvidia-cuda-runtime(-cu[0-9]+)?|cuda-toolkit",
    "cudnn": "nvidia-cudnn-cu[0-9]+",
    "nccl": "nvidia-nccl-cu[0-9]+",
    "triton": "triton",
}


def pinned(wheel: Wheels, pattern: str) -> Version | None:
    """The version that a wheel requires, of the package whose name matches the pattern."""
    for name, bound in wheel.requires.items():
        match = re.match(r"[=~]=([0-9.]+)$", bound)
        if match and re.fullmatch(pattern, name):
            return Version(match[1])
    return None


def companions_fit(facts: CatalogFacts) -> Iterator[Problem]:
    """torchvision, torchaudio and triton are existing releases that require this very torch."""
    for build in facts.catalog.torch:
        for package in COMPANIONS:
            version = getattr(build, package)
            if version:
                yield from _companion_fits(facts, build, package, version)
        if build.compile and build.triton is None:
            yield problem(
                TORCH, build, "triton", "is empty, but torch.compile needs it"
            )


def _companion_fits(
    facts: CatalogFacts, build: TorchBuild, package: str, version: Version
) -> Iterator[Problem]:
    wheel = facts.wheels.get((package, version))
    if wheel is None:
        yield problem(TORCH, build, package, f"{version} is in no row of wheels.json")
        return
    required = wheel.requires.get("torch", "")
    if not SpecifierSet(required).contains(build.torch):
        yield problem(
            TORCH, build, package, f"{package} {version} requires torch {required}"
        )


def families_are_derived(facts: CatalogFacts) -> Iterator[Problem]:
    """The Pythons for which the whole family has a wheel; other indexes are taken to have the same as PyPI."""
    for build in facts.catalog.torch:
        if build.index == PYPI:
            yield from differing(
                TORCH,
                build,
                {"family": _family(facts, build)},
                "the wheels of all three make it",
            )
        pythons = build.family.get(AMD64, ())
        if not set(pythons) <= set(build.pythons):
            yield problem(
                TORCH,
                build,
                "family",
                f"has {shown(pythons)}; torch itself {shown(build.pythons)}",
            )


def _family(facts: CatalogFacts, build: TorchBuild) -> dict[str, tuple[Version, ...]]:
    """Platform → the Pythons for which torch, torchvision and torchaudio all have a wheel."""
    wheels = []
    for package in ("torch", "torchvision", "torchaudio"):
        wheel = facts.wheels.get((package, getattr(build, package)))
        if wheel:
            wheels.append(wheel)
    family = {}
    for platform in PLATFORMS:
        pythons: set[Version] = set()
        if wheels:
            pythons = set.intersection(
                *(set(wheel.pythons.get(platform, ())) for wheel in wheels)
            )
        if pythons or platform in build.platforms:
            family[platform] = tuple(sorted(pythons))
    return family


def drivers_have_the_floor_of_their_cuda(facts: CatalogFacts) -> Iterator[Problem]:
    """NVIDIA promises one for each CUDA major: compatibility.json."""
    for build in facts.catalog.torch:
        major = str(build.cuda.major)
        floor = facts.floors.get(major, "no floor")
        expected = {"driver_floor": floor}
        yield from differing(TORCH, build, expected, f"for CUDA {major} it is")


def cuda_is_a_toolkit(facts: CatalogFacts) -> Iterator[Problem]:
    """By major and minor; the patch is the number of the runtime."""
    for build in facts.catalog.torch:
        if build.cuda.release[:2] not in facts.lines_of_cuda:
            yield problem(
                TORCH, build, "cuda", f"{build.cuda} is of no toolkit in toolkits.json"
            )


def architectures_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """A wheel has code only for what its CUDA compiles for."""
    for build in facts.catalog.torch:
        for field in ("arch_list", "arch_list_arm64"):
            architectures = getattr(build, field)
            for arch in architectures:
                says = _objection_to(arch, build, facts)
                if says:
                    yield problem(TORCH, build, field, says)
            if list(architectures) != sorted(set(architectures), key=_number_of):
                yield problem(
                    TORCH, build, field, f"{shown(architectures)} is not in order"
                )
        if not build.arch_list:
            yield problem(TORCH, build, "arch_list", "is empty")


def _number_of(arch: str) -> int:
    return int(arch.removeprefix("sm_"))


def _objection_to(arch: str, build: TorchBuild, facts: CatalogFacts) -> str | None:
    """Why a build cannot have code for an architecture."""
    if arch not in facts.architectures:
        return f"{arch} is in no row of architectures.json"
    first, stopped = facts.architectures[arch]
    too_early = first is not None and build.cuda < first
    too_late = stopped is not None and build.cuda >= stopped
    if too_early or too_late:
        return f"CUDA {build.cuda} does not compile for {arch}"
    return None


def platforms_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """And there are architectures for arm64 exactly where there is a CUDA wheel for it."""
    for build in facts.catalog.torch:
        for platform in set(build.platforms) - set(PLATFORMS):
            yield problem(
                TORCH,
                build,
                "platforms",
                f"{platform} is not one of {shown(PLATFORMS)}",
            )
        has_wheel = ARM64 in build.platforms
        if has_wheel != bool(build.arch_list_arm64):
            says = f"is {shown(build.arch_list_arm64)}, platforms are {shown(build.platforms)}"
            yield problem(TORCH, build, "arch_list_arm64", says)


def glibc_is_at_least_what_the_tag_says(facts: CatalogFacts) -> Iterator[Problem]:
    """The tag of a wheel never requires a newer glibc than its symbols do."""
    for build in on_pypi(facts):
        if build.glibc_tag and build.glibc < build.glibc_tag:
            yield problem(
                TORCH,
                build,
                "glibc",
                f"is {build.glibc}, but the tag promises {build.glibc_tag}",
            )


def builds_elsewhere_have_a_sister(facts: CatalogFacts) -> Iterator[Problem]:
    """A build on PyTorch's own index is of a release that PyPI has too, for the CUDA of its index and for no other."""
    sisters = {build.torch: build for build in on_pypi(facts)}
    for build in facts.catalog.torch:
        match = re.fullmatch(r"pytorch-cu([0-9]{2})([0-9])", build.index)
        if match is None:
            continue
        line = (int(match[1]), int(match[2]))
        if build.cuda.release[:2] != line:
            yield problem(
                TORCH,
                build,
                "cuda",
                f"is {build.cuda} on an index for {line[0]}.{line[1]}",
            )
        sister = sisters.get(build.torch)
        if sister is None:
            yield problem(TORCH, build, "torch", "PyPI has no such release")
        elif sister.cuda.release[:2] == line and _share_platform(build, sister):
            yield problem(TORCH, build, "index", "PyPI has the build for this CUDA")
        elif build.status is Evidence.VERIFIED:
            yield problem(
                TORCH, build, "status", "is verified, but that index was never read"
            )


def _share_platform(build: TorchBuild, sister: TorchBuild) -> bool:
    return not set(build.platforms).isdisjoint(sister.platforms)


def evidence_is_the_weakest(facts: CatalogFacts) -> Iterator[Problem]:
    """`field_status` and `unknown` name fields; a build off PyPI is known no better than its worst field."""
    order = list(Evidence)
    for build in facts.catalog.torch:
        yield from _status_names_fields(build)
        weakest = max(
            build.field_status.values(), key=order.index, default=build.status
        )
        if build.index != PYPI and order.index(build.status) < order.index(weakest):
            yield problem(
                TORCH,
                build,
                "status",
                f"is {build.status}; one of its fields is {weakest}",
            )


def _status_names_fields(build: TorchBuild) -> Iterator[Problem]:
    for field, names in (
        ("field_status", build.field_status),
        ("unknown", build.unknown),
    ):
        for name in names:
            if name not in TorchBuild.__dataclass_fields__:
                yield problem(TORCH, build, field, f"{name!r} is not a field")
    for name in build.unknown:
        value = getattr(build, name, None)
        if value:
            yield problem(
                TORCH,
                build,
                "unknown",
                f"{name} is declared unknown but is {shown(value)}",
            )


def gates_make_sense(facts: CatalogFacts) -> Iterator[Problem]:
    """Only where there is torch.compile can it end at a Python."""
    for build in facts.catalog.torch:
        if build.compile_until and not build.compile:
            yield problem(
                TORCH, build, "compile_until", "is set, but there is no torch.compile"
            )


def ceilings_are_derived(facts: CatalogFacts) -> Iterator[Problem]:
    """The newest transformers that worked, and the older ones that failed, are those of the runs."""
    lines_of_torch = {build.torch.release[:2] for build in facts.catalog.torch}
    for row in facts.catalog.transformers:
        runs = [
            run
            for run in facts.rows(RUNS)
            if run.torch == row.torch and run.python == row.python
        ]
        if runs or row.status is Evidence.VERIFIED:
            yield from differing(TRANSFORMERS, row, _outcome(runs), "the runs say")
        if row.next_released and row.next_released <= row.released:
            yield problem(
                TRANSFORMERS,
                row,
                "next_released",
                f"is {row.next_released}, not after {row.released}",
            )
        if row.torch.release[:2] not in lines_of_torch:
            yield problem(
                TRANSFORMERS, row, "torch", f"{row.torch} is in no row of torch.json"
            )


def _outcome(runs: Sequence[Run]) -> dict[str, object]:
    """The newest transformers that worked, and those before it that failed although they could be installed."""
    worked = [run.transformers for run in runs if run.ok]
    newest = max(worked, default=None)
    broken = []
    for run in runs:
        was_installed = "install" not in run.failed
        if (
            not run.ok
            and was_installed
            and newest is not None
            and run.transformers < newest
        ):
            broken.append(run.transformers)
    return {"newest": newest, "broken": tuple(sorted(broken))}


def what_ran_can_be_installed(facts: CatalogFacts) -> Iterator[Problem]:
    """A transformers was run on a Python exactly if it can be installed there, by the wheels of its tokenizers."""
    lines = {
        row.transformers.release[:2]: row for row in facts.catalog.transformers_releases
    }
    for run in facts.rows(RUNS):
        row = lines.get(run.transformers.release[:2])
        if row is None:
            yield problem(
                RUNS,
                run,
                "transformers",
                "transformers_releases.json does not have its line",
            )
            continue
        was_installed = "install" not in run.failed
        can_be_installed = run.python in row.pythons[AMD64]
        if was_installed != can_be_installed:
            outcome = "was installed" if was_installed else "could not be installed"
            yield problem(
                RELEASES, row, "pythons", f"on Python {run.python} it {outcome}"
            )


def wheels_are_for_pythons_they_allow(facts: CatalogFacts) -> Iterator[Problem]:
    """The tags of the files and `requires_python` do not contradict each other."""
    for row in facts.rows(WHEELS):
        allowed = SpecifierSet(row.requires_python)
        for platform, pythons in row.pythons.items():
            outside = [
                python for python in pythons if not allowed.contains(f"{python}.99")
            ]
            if outside:
                yield problem(
                    WHEELS,
                    row,
                    "pythons",
                    f"{platform} {shown(outside)} is outside {row.requires_python}",
                )


CHECKS: tuple[Check, ...] = (
    every_release_has_its_row,
    releases_are_in_order,
    wheels_say_the_same,
    companions_fit,
    families_are_derived,
    drivers_have_the_floor_of_their_cuda,
    cuda_is_a_toolkit,
    architectures_are_known,
    platforms_are_known,
    glibc_is_at_least_what_the_tag_says,
    builds_elsewhere_have_a_sister,
    evidence_is_the_weakest,
    gates_make_sense,
    ceilings_are_derived,
    what_ran_can_be_installed,
    wheels_are_for_pythons_they_allow,
)
