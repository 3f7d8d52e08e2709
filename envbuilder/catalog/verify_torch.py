"""The checks of torch's builds and of transformers: against the wheels, the drivers, the architectures and the runs."""

import re
from collections.abc import Iterator
from itertools import pairwise

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog import RELEASES, RUNS, TORCH, TRANSFORMERS, WHEELS
from envbuilder.catalog.observations import Wheels
from envbuilder.catalog.rows import PYPI, Evidence, TorchBuild
from envbuilder.catalog.verify import PLATFORMS, Check, Facts, Problem, differing, problem, shown

AMD64, ARM64 = PLATFORMS
COMPANIONS = ("torchvision", "torchaudio", "triton")


def on_pypi(facts: Facts) -> list[TorchBuild]:
    """The builds that PyPI carries: one for each release."""
    return [build for build in facts.catalog.torch if build.index == PYPI]


def every_release_has_its_row(facts: Facts) -> Iterator[Problem]:
    """What PyPI has of torch is in torch.json."""
    known = {build.torch for build in on_pypi(facts)}
    for package, version in facts.wheels:
        if package == "torch" and version not in known:
            yield Problem(
                row=f"{TORCH.file} {version} {PYPI}", field="torch", says="wheels.json has it, torch.json not"
            )


def releases_are_in_order(facts: Facts) -> Iterator[Problem]:
    """A higher version is not of an earlier day."""
    builds = sorted(on_pypi(facts), key=lambda build: build.torch)
    for older, newer in pairwise(builds):
        if newer.released < older.released:
            says = f"is {newer.released}, before torch {older.torch} ({older.released})"
            yield problem(TORCH, newer, "released", says)


def wheels_say_the_same(facts: Facts) -> Iterator[Problem]:
    """What torch's own wheel declares."""
    for build in on_pypi(facts):
        wheel = facts.wheels.get(("torch", build.torch))
        if wheel is None:
            yield problem(TORCH, build, "torch", "wheels.json does not know it")
            continue
        wanted: dict[str, object] = {
            "released": wheel.released,
            "pythons": wheel.pythons[AMD64],
            "requires_python": wheel.requires_python,
            "glibc_tag": wheel.glibc[AMD64],
        }
        for field, pattern in PINS.items():
            pin = pinned(wheel, pattern)
            wanted |= {field: pin} if pin or field in ("triton", "nccl") else {}
        yield from differing(TORCH, build, wanted, "its wheel says")


PINS = {
    "cuda": "nvidia-cuda-runtime(-cu[0-9]+)?|cuda-toolkit",
    "cudnn": "nvidia-cudnn-cu[0-9]+",
    "nccl": "nvidia-nccl-cu[0-9]+",
    "triton": "triton",
}


def pinned(wheel: Wheels, pattern: str) -> Version | None:
    """The version that a wheel asks for, of the package whose name is like that."""
    for name, bound in wheel.requires.items():
        found = re.match(r"[=~]=([0-9.]+)$", bound)
        if found and re.fullmatch(pattern, name):
            return Version(found[1])
    return None


def companions_fit(facts: Facts) -> Iterator[Problem]:
    """torchvision, torchaudio and triton are releases that there are, and that ask for this very torch."""
    for build in facts.catalog.torch:
        for package in COMPANIONS:
            version = getattr(build, package)
            wheel = facts.wheels.get((package, version)) if version else None
            if version and wheel is None:
                yield problem(TORCH, build, package, f"{version} is in no row of wheels.json")
            elif wheel and not SpecifierSet(wheel.requires.get("torch", "")).contains(build.torch):
                yield problem(TORCH, build, package, f"{package} {version} asks for torch {wheel.requires['torch']}")
        if build.compile and build.triton is None:
            yield problem(TORCH, build, "triton", "is empty, and torch.compile needs it")


def families_are_derived(facts: Facts) -> Iterator[Problem]:
    """The Pythons for which the whole family has a wheel; builds elsewhere are taken to have those of PyPI."""
    for build in facts.catalog.torch:
        names = [("torch", build.torch), ("torchvision", build.torchvision), ("torchaudio", build.torchaudio)]
        wheels = [wheel for package, version in names if version and (wheel := facts.wheels.get((package, version)))]
        wanted: dict[str, tuple[Version, ...]] = {}
        for platform in PLATFORMS:
            sets = [set(wheel.pythons.get(platform, ())) for wheel in wheels]
            pythons = tuple(sorted(set.intersection(*sets))) if sets else ()
            wanted |= {platform: pythons} if pythons or platform in build.platforms else {}
        if build.index == PYPI:
            yield from differing(TORCH, build, {"family": wanted}, "the wheels of all three make it")
        for platform, found in build.family.items():
            if platform == AMD64 and not set(found) <= set(build.pythons):
                yield problem(TORCH, build, "family", f"has {shown(found)}; torch itself {shown(build.pythons)}")


def drivers_have_the_floor_of_their_cuda(facts: Facts) -> Iterator[Problem]:
    """NVIDIA promises one for each CUDA major: compatibility.json."""
    for build in facts.catalog.torch:
        floor = facts.floors.get(str(build.cuda.major), "no floor")
        yield from differing(TORCH, build, {"driver_floor": floor}, f"for CUDA {build.cuda.major} it is")


def cuda_is_a_toolkit(facts: Facts) -> Iterator[Problem]:
    """By major and minor; the patch is the number of the runtime."""
    for build in facts.catalog.torch:
        if build.cuda.release[:2] not in facts.lines_of_cuda:
            yield problem(TORCH, build, "cuda", f"{build.cuda} is of no toolkit in toolkits.json")


def architectures_are_known(facts: Facts) -> Iterator[Problem]:
    """A wheel has code only for what its CUDA compiles for."""
    for build in facts.catalog.torch:
        for field in ("arch_list", "arch_list_arm64"):
            listed = getattr(build, field)
            for arch in listed:
                first, stopped = facts.architectures.get(arch, (None, None))
                if arch not in facts.architectures:
                    yield problem(TORCH, build, field, f"{arch} is in no row of architectures.json")
                elif (first and build.cuda < first) or (stopped and build.cuda >= stopped):
                    yield problem(TORCH, build, field, f"CUDA {build.cuda} does not compile for {arch}")
            if list(listed) != sorted(set(listed), key=lambda arch: int(arch.removeprefix("sm_"))):
                yield problem(TORCH, build, field, f"{shown(listed)} is not in order")
        if not build.arch_list:
            yield problem(TORCH, build, "arch_list", "is empty")


def platforms_are_known(facts: Facts) -> Iterator[Problem]:
    """And there are architectures for arm64 exactly where there is a CUDA wheel for it."""
    for build in facts.catalog.torch:
        for platform in set(build.platforms) - set(PLATFORMS):
            yield problem(TORCH, build, "platforms", f"{platform} is none of {shown(PLATFORMS)}")
        if (ARM64 in build.platforms) != bool(build.arch_list_arm64):
            yield problem(
                TORCH,
                build,
                "arch_list_arm64",
                f"is {shown(build.arch_list_arm64)}, platforms are {shown(build.platforms)}",
            )


def glibc_is_at_least_what_the_tag_says(facts: Facts) -> Iterator[Problem]:
    """The tag of a wheel never asks for a newer glibc than its symbols do."""
    for build in facts.catalog.torch:
        if build.glibc_tag and build.index == PYPI and build.glibc < build.glibc_tag:
            yield problem(TORCH, build, "glibc", f"is {build.glibc}, and the tag promises {build.glibc_tag}")


def builds_elsewhere_have_a_sister(facts: Facts) -> Iterator[Problem]:
    """A build on PyTorch's own index is of a release that PyPI has too, for the CUDA of its index and for no other."""
    sisters = {build.torch: build for build in on_pypi(facts)}
    for build in facts.catalog.torch:
        tag = re.fullmatch(r"pytorch-cu([0-9]{2})([0-9])", build.index)
        if tag is None:
            continue
        line = (int(tag[1]), int(tag[2]))
        sister = sisters.get(build.torch)
        if build.cuda.release[:2] != line:
            yield problem(TORCH, build, "cuda", f"is {build.cuda} on an index for {line[0]}.{line[1]}")
        if sister is None:
            yield problem(TORCH, build, "torch", "PyPI has no such release")
        elif sister.cuda.release[:2] == line:
            yield problem(TORCH, build, "index", "PyPI has the build for this CUDA")
        elif build.status is Evidence.VERIFIED:
            yield problem(TORCH, build, "status", "is verified, and nobody here can read that index")


def evidence_is_the_weakest(facts: Facts) -> Iterator[Problem]:
    """`field_status` and `unknown` name fields; a build off PyPI is known no better than its worst field."""
    order = list(Evidence)
    for build in facts.catalog.torch:
        for name in {*build.field_status, *build.unknown}:
            if name not in TorchBuild.__dataclass_fields__:
                yield problem(
                    TORCH, build, "field_status" if name in build.field_status else "unknown", f"{name!r} is no field"
                )
        for name in build.unknown:
            if getattr(build, name, None):
                yield problem(
                    TORCH, build, "unknown", f"{name} is said to be unknown and is {shown(getattr(build, name))}"
                )
        weakest = max(build.field_status.values(), key=order.index, default=build.status)
        if build.index != PYPI and order.index(build.status) < order.index(weakest):
            yield problem(TORCH, build, "status", f"is {build.status}; one of its fields is {weakest}")


def gates_make_sense(facts: Facts) -> Iterator[Problem]:
    """Only where there is torch.compile can it end at a Python."""
    for build in facts.catalog.torch:
        if build.compile_until and not build.compile:
            yield problem(TORCH, build, "compile_until", "is set, and there is no torch.compile")


def ceilings_are_derived(facts: Facts) -> Iterator[Problem]:
    """The newest transformers that worked, and the older ones that failed, are those of the runs."""
    for row in facts.catalog.transformers:
        runs = [run for run in facts.rows(RUNS) if (run.torch, run.python) == (row.torch, row.python)]
        worked = [run.transformers for run in runs if run.ok]
        failed = [run.transformers for run in runs if not run.ok and "install" not in run.failed]
        wanted = {
            "newest": max(worked, default=None),
            "broken": tuple(sorted(version for version in failed if worked and version < max(worked))),
        }
        if runs or row.status is Evidence.VERIFIED:
            yield from differing(TRANSFORMERS, row, wanted, "the runs say")
        if row.next_released and row.next_released <= row.released:
            yield problem(TRANSFORMERS, row, "next_released", f"is {row.next_released}, not after {row.released}")
        if row.torch.release[:2] not in {build.torch.release[:2] for build in facts.catalog.torch}:
            yield problem(TRANSFORMERS, row, "torch", f"{row.torch} is in no row of torch.json")


def what_ran_can_be_installed(facts: Facts) -> Iterator[Problem]:
    """A transformers was run on a Python exactly if it can be installed there, by the wheels of its tokenizers."""
    lines = {row.transformers.release[:2]: row for row in facts.catalog.transformers_releases}
    for run in facts.rows(RUNS):
        row = lines.get(run.transformers.release[:2])
        if row is None:
            yield problem(RUNS, run, "transformers", "transformers_releases.json does not have its line")
            continue
        installed = "install" not in run.failed
        if installed != (run.python in row.pythons["linux/amd64"]):
            done = "was installed" if installed else "could not be installed"
            yield problem(RELEASES, row, "pythons", f"on Python {run.python} it {done}")


def wheels_are_for_pythons_they_allow(facts: Facts) -> Iterator[Problem]:
    """The tags of the files and `requires_python` do not contradict each other."""
    for row in facts.rows(WHEELS):
        allowed = SpecifierSet(row.requires_python)
        for platform, pythons in row.pythons.items():
            outside = [python for python in pythons if not allowed.contains(f"{python}.99")]
            if outside:
                yield problem(WHEELS, row, "pythons", f"{platform} {shown(outside)} is outside {row.requires_python}")


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
