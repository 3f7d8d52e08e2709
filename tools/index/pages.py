"""What the pages of an index list, by the names of the files; pure."""

import re

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, ProjectPage

OLDEST = {
    "torch": "1.13",
    "torchvision": "0.14",
    "torchaudio": "0.13",
    "triton": "2.0",
    "numpy": "1.21",
}
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
NEWEST_PYTHON = 15  # what a wheel for every Python 3 is taken to cover
LEGACY_TAGS = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}


def releases(package: str, page: ProjectPage) -> dict[str, list[DistributionPackage]]:
    """Version → its wheels for Linux that are not yanked, of the releases that matter, oldest first."""
    found: dict[str, list[DistributionPackage]] = {}
    for file in page.packages:
        if (
            file.package_type == "wheel"
            and not file.is_yanked
            and file.version
            and places(file.filename)
        ):
            found.setdefault(file.version, []).append(file)
    kept = [
        name
        for name in found
        if Version(name) >= Version(OLDEST[package]) and not Version(name).is_prerelease
    ]
    if package == "numpy":  # the newest patch of each minor
        kept = list(
            {
                Version(name).release[:2]: name for name in sorted(kept, key=Version)
            }.values()
        )
    return {name: found[name] for name in sorted(kept, key=Version)}


def places(filename: str) -> dict[str, Version]:
    """Platform → the glibc that the wheel's tag promises; {} for another system."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return {}
    found: dict[str, Version] = {}
    for tag in tags:
        tagged = re.fullmatch(
            r"(manylinux[0-9]+|manylinux_([0-9]+_[0-9]+))_(x86_64|aarch64)",
            tag.platform,
        )
        if tagged:
            glibc = Version(
                tagged[2].replace("_", ".") if tagged[2] else LEGACY_TAGS[tagged[1]]
            )
            platform = MACHINES[tagged[3]]
            found[platform] = min(glibc, found.get(platform, glibc))
    return found


def pythons(filename: str) -> set[Version]:
    """The Pythons X.Y that a wheel is for; free-threaded builds are another interpreter."""
    found: set[Version] = set()
    for tag in parse_wheel_filename(filename)[3]:
        exact = re.fullmatch(r"cp3([0-9]+)", tag.interpreter)
        since = re.fullmatch(r"py3([0-9]+)", tag.interpreter)
        if tag.interpreter == "py3":
            found |= _since(7)
        elif since:
            found |= _since(int(since[1]))
        elif exact and tag.abi == "abi3":
            found |= _since(int(exact[1]))
        elif exact and not tag.abi.endswith("t"):
            found.add(Version(f"3.{exact[1]}"))
    return found


def _since(minor: int) -> set[Version]:
    """The Pythons from 3.`minor` on."""
    return {Version(f"3.{number}") for number in range(minor, NEWEST_PYTHON + 1)}


def allows(required: SpecifierSet, python: Version) -> bool:
    """Whether `requires_python` takes the newest patch of a Python X.Y: `>=3.10.1` does not shut out 3.10."""
    return required.contains(f"{python}.99", prereleases=True)
