"""Whether an index agrees with the catalog: uv resolves each release, and its answer is compared with the row. Pure.

uv reads the metadata of the wheels by itself, by range requests where an index has no files of it: this is a second
reading, independent of the one with which `tools/refresh_torch.py` wrote the rows.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from envbuilder.catalog import TORCH
from envbuilder.catalog.rows import Catalog, TorchBuild
from envbuilder.catalog.verify import Problem, differing, problem
from envbuilder.catalog.verify_torch import PINS
from envbuilder.grammar import JsonObject
from envbuilder.model import PYPI

OLDEST_PYTHON = Version("3.8")  # that uv resolves for
MANYLINUX = "2_28"
MANYLINUX_NEWEST = "2_35"  # of the packages that are built on top of torch
_PLATFORM = re.compile(r"manylinux.*_(x86_64|aarch64)")


def builds(catalog: Catalog) -> list[TorchBuild]:
    """The rows that an index can be asked about."""
    return [build for build in catalog.torch if build.index == PYPI]


def family(build: TorchBuild) -> str:
    """The requirements of one environment, of which the pins are compared."""
    lines = []
    for package in ("torch", "torchvision", "torchaudio"):
        version = getattr(build, package)
        if version:
            lines.append(f"{package}=={version}\n")
    return "".join(lines)


def pins_argv(build: TorchBuild, program: str, folder: Path) -> list[str]:
    """Resolve the family for one Python: the metadata of wheels for another system may lack the pins (torch 2.0.0)."""
    supported = [
        python for python in build.family["linux/amd64"] if python >= OLDEST_PYTHON
    ]
    place = [
        "--python-version",
        str(min(supported)),
        "--python-platform",
        f"x86_64-manylinux_{MANYLINUX}",
    ]
    return [*compile_argv(program, folder), *place]


def wheels_argv(build: TorchBuild, program: str, folder: Path) -> list[str]:
    """List the wheels of torch for every Python and platform."""
    oldest = max(build.pythons[0], OLDEST_PYTHON)
    return [
        *compile_argv(program, folder),
        "--universal",
        "--no-deps",
        "--python-version",
        str(oldest),
    ]


def compile_argv(program: str, folder: Path) -> list[str]:
    """The words that every question to uv has."""
    return [
        program, "pip", "compile", str(folder / "requirements.in"), "--output-file", str(folder / "pylock.toml"),
        "--format", "pylock.toml", "--no-config", "--no-header", "--no-build",
        "--keyring-provider", "disabled",
    ]  # fmt: skip


def compare(
    build: TorchBuild, wheels: JsonObject, pins: JsonObject
) -> Iterator[Problem]:
    """How the two parsed answers of uv differ from the row."""
    files: Sequence[JsonObject] = ()
    for package in wheels["packages"]:
        if package["name"] == "torch":
            files = package["wheels"]
    locked = {}
    for package in pins["packages"]:
        locked[package["name"]] = Version(package["version"])
    expected: dict[str, object] = {
        "pythons": _pythons(build, files),
        "released": _released(files) or build.released,
    }
    for field, pattern in PINS.items():
        names = sorted(name for name in locked if re.fullmatch(pattern, name))
        if names:
            expected[field] = locked[
                names[0]
            ]  # cuda-toolkit comes before the package of the runtime
        elif field in ("nccl", "triton"):
            expected[field] = None
    yield from differing(TORCH, build, expected, "the index has")


def _pythons(build: TorchBuild, wheels: Sequence[JsonObject]) -> tuple[Version, ...]:
    pythons = {
        python for python in build.pythons if python < OLDEST_PYTHON
    }  # those that uv does not resolve for
    for wheel in wheels:
        for tag in parse_wheel_filename(file_of(wheel))[3]:
            interpreter = re.fullmatch(r"cp3([0-9]+)", tag.interpreter)
            platform = _PLATFORM.fullmatch(tag.platform)
            if not interpreter or not platform or platform[1] != "x86_64":
                continue
            if not tag.abi.endswith("t"):  # of the free-threaded Python
                pythons.add(Version(f"3.{interpreter[1]}"))
    return tuple(sorted(pythons))


def _released(wheels: Sequence[JsonObject]) -> date | None:
    days = []
    for wheel in wheels:
        if "upload-time" in wheel and "manylinux" in file_of(wheel):
            days.append(wheel["upload-time"].date())
    return min(days, default=None)


def file_of(wheel: JsonObject) -> str:
    """The name of a wheel's file in uv's answer."""
    return str(wheel.get("name") or wheel["url"].rsplit("/", 1)[-1])


def withdrawn(build: TorchBuild, yanked: Mapping[str, str]) -> Iterator[Problem]:
    """Releases of the torch family that the index only offers to those who pin them."""
    for field in ("torch", "torchvision", "torchaudio"):
        reason = yanked.get(field)
        if reason is None:
            continue
        version = getattr(build, field)
        yield problem(TORCH, build, field, f"{version} {reason}")


def unreadable(build: TorchBuild, stderr: str) -> Problem:
    """uv could not resolve the family: a release is gone, or they do not fit together."""
    lines = []
    for line in stderr.splitlines():
        if line.strip():
            lines.append(line.strip())
    output = " ".join(lines)[:300]
    return problem(TORCH, build, "torch", f"the index has no such family: {output}")


# --- PyTorch's own indexes: what their pages list ------------------------------------------------------------------

_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_PACKAGES = ("torch", "torchvision", "torchaudio")


def builds_by_index(catalog: Catalog) -> Mapping[str, list[TorchBuild]]:
    """Index → the rows that are on it and not on PyPI."""
    found = defaultdict(list)
    for build in catalog.torch:
        if build.index == PYPI:
            continue
        found[build.index].append(build)
    return found


def tag_of(build: TorchBuild) -> str:
    """`cu118`, as the index of its CUDA is called."""
    major, minor = build.cuda.release[:2]
    return f"cu{major}{minor}"


def compare_listed(
    build: TorchBuild, files: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """What the pages of a build's index lack of it; `files` are the wheels that each package's page lists."""
    for package in _PACKAGES:
        version = getattr(build, package)
        if version is None:
            continue
        listed = set()
        for file in files[package]:
            listed |= _targets(file, version)
        for platform in build.platforms:
            pythons = build.family.get(platform, build.pythons)
            missing = [python for python in pythons if (platform, python) not in listed]
            if missing:
                names = ", ".join(str(python) for python in missing)
                says = f"its index has no {version} for Python {names} on {platform}"
                yield problem(TORCH, build, package, says)


def _targets(file: str, version: Version) -> set[tuple[str, Version]]:
    """The platforms and Pythons that a wheel is for, if it is of this release, whatever its local version."""
    try:
        parts = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return set()
    _, found, _, tags = parts
    targets: set[tuple[str, Version]] = set()
    if found.public != str(version):
        return targets
    for tag in tags:
        python = re.fullmatch(r"cp3([0-9]+)", tag.interpreter)
        if python is None:
            continue
        if tag.abi.endswith("t"):  # of the free-threaded Python
            continue
        platform = _platform_of(tag.platform)
        if platform:
            minor = python[1]
            targets.add((platform, Version(f"3.{minor}")))
    return targets


def _platform_of(tag: str) -> str:
    """`manylinux_2_28_x86_64` → `linux/amd64`; "" for other systems."""
    if "linux" not in tag:
        return ""
    for platform, machine in _MACHINES.items():
        if tag.endswith(machine):
            return platform
    return ""
