"""Does an index agree with the catalog? uv resolves each release; what it answers is compared with the row. Pure.

uv reads the metadata of the wheels by itself, by range requests where an index has no files of it: so this is a second
reading, independent of the one by which `tools/refresh_torch.py` wrote the rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from envbuilder.catalog import TORCH
from envbuilder.catalog.rows import PYPI, Catalog, TorchBuild
from envbuilder.catalog.verify import Problem, differing, problem
from envbuilder.catalog.verify_torch import PINS

OLDEST_PYTHON = Version("3.8")  # that uv resolves for
MANYLINUX = "2_28"
_PLATFORM = re.compile(r"manylinux.*_(x86_64|aarch64)")


def builds(catalog: Catalog) -> list[TorchBuild]:
    """The rows that an index can be asked about."""
    return [build for build in catalog.torch if build.index == PYPI]


def family(build: TorchBuild) -> str:
    """What one environment is asked for, to see the pins."""
    names = {name: getattr(build, name) for name in ("torch", "torchvision", "torchaudio")}
    return "".join(f"{name}=={version}\n" for name, version in names.items() if version)


def pins_argv(build: TorchBuild, program: str, folder: Path) -> list[str]:
    """Resolve the family for one Python: the metadata of wheels for another system may lack the pins (torch 2.0.0)."""
    python = min(python for python in build.family["linux/amd64"] if python >= OLDEST_PYTHON)
    place = ["--python-version", str(python), "--python-platform", f"x86_64-manylinux_{MANYLINUX}"]
    return [*_argv(program, folder), *place]


def wheels_argv(build: TorchBuild, program: str, folder: Path) -> list[str]:
    """List the wheels of torch for every Python and platform."""
    oldest = max(build.pythons[0], OLDEST_PYTHON)
    return [*_argv(program, folder), "--universal", "--no-deps", "--python-version", str(oldest)]


def _argv(program: str, folder: Path) -> list[str]:
    return [
        program, "pip", "compile", str(folder / "requirements.in"), "--output-file", str(folder / "pylock.toml"),
        "--format", "pylock.toml", "--no-config", "--no-header", "--no-build",
        "--keyring-provider", "disabled",
    ]  # fmt: skip


def compare(build: TorchBuild, wheels: Mapping[str, Any], pins: Mapping[str, Any]) -> Iterator[Problem]:
    """How the two parsed answers of uv differ from the row."""
    files = next(package["wheels"] for package in wheels["packages"] if package["name"] == "torch")
    locked = {package["name"]: Version(package["version"]) for package in pins["packages"]}
    wanted: dict[str, object] = {"pythons": _pythons(build, files), "released": _released(files) or build.released}
    for field, pattern in PINS.items():
        found = sorted(name for name in locked if re.fullmatch(pattern, name))  # cuda-toolkit, then the runtime's own
        if found or field in ("nccl", "triton"):
            wanted[field] = locked[found[0]] if found else None
    yield from differing(TORCH, build, wanted, "the index has")


def _pythons(build: TorchBuild, wheels: Sequence[Mapping[str, Any]]) -> tuple[Version, ...]:
    found = {python for python in build.pythons if python < OLDEST_PYTHON}  # what uv was not asked for
    for wheel in wheels:
        for tag in parse_wheel_filename(_file(wheel))[3]:
            exact = re.fullmatch(r"cp3([0-9]+)", tag.interpreter)
            if exact and _PLATFORM.fullmatch(tag.platform) and tag.platform.endswith("x86_64") and tag.abi[-1] != "t":
                found.add(Version(f"3.{exact[1]}"))
    return tuple(sorted(found))


def _released(wheels: Sequence[Mapping[str, Any]]) -> date | None:
    days = [w["upload-time"].date() for w in wheels if "upload-time" in w and "manylinux" in _file(w)]
    return min(days, default=None)


def _file(wheel: Mapping[str, Any]) -> str:
    return str(wheel.get("name") or wheel["url"].rsplit("/", 1)[-1])


def withdrawn(build: TorchBuild, yanked: Mapping[str, str]) -> Iterator[Problem]:
    """Releases of the torch family that the index no longer offers unless they are pinned."""
    for field in ("torch", "torchvision", "torchaudio"):
        if field in yanked:
            yield problem(TORCH, build, field, f"{getattr(build, field)} {yanked[field]}")


def unreadable(build: TorchBuild, stderr: str) -> Problem:
    """uv found no answer: the release is gone, or it does not fit together."""
    told = " ".join(line.strip() for line in stderr.splitlines() if line.strip())
    return problem(TORCH, build, "torch", f"the index has no such family: {told[:300]}")
