"""Whether a locked release of a user's package is an old one, taken because newer ones have no wheel.

Only wheels are locked, so that uv goes back to the last release that has one: for `deepspeed` to 2020. The index is
asked once more for the newest release, with or without a wheel, as of the same day and for the same Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.known_sources import KnownSources
from envbuilder.lock.python_bounds import allows_python
from envbuilder.lock.sources.sdist_file import SdistFile, sdist_of
from envbuilder.lock.target_platform import accepted_tags, markers
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import WheelMetadata, WheelPlace, read_metadata
from envbuilder.model import Stack
from envbuilder.network import Network

_YEAR = 365  # days
_LINE = 2  # numbers of a version that are its minor line


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of a package on an index."""

    version: Version
    day: date | None  # None: the index does not tell
    wheel: str = ""  # the address of one that fits the stack; "": there is none
    sdist: SdistFile | None = None

    @property
    def text(self) -> str:
        """`0.1.2 (2022-07-22)`."""
        return f"{self.version} ({self.day})" if self.day else str(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRelease:
    """A package of the user's that is locked in an older release than the newest one."""

    name: str
    locked: Release
    newest: Release

    @property
    def lacks_wheel(self) -> bool:
        return not self.newest.wheel

    @property
    def is_far(self) -> bool:
        """Whether it is of another minor line, or more than a year older."""
        if self.locked.version.release[:_LINE] != self.newest.version.release[:_LINE]:
            return True
        return self.days > _YEAR

    @property
    def days(self) -> int:
        """How many days it is older; 0 if the index does not tell."""
        older = self.locked.day
        newer = self.newest.day
        if older is None or newer is None:
            return 0
        return (newer - older).days

    def sentence(self, reason: str) -> str:
        """`x 0.0.4 (2020-01-27) is locked, not 0.1.2 (2022-07-22): …`."""
        return f"{self.name} {self.locked.text} is locked, not {self.newest.text}: {reason}"


def old_releases(
    uv: Uv,
    stack: Stack,
    document: JsonObject,
    known: KnownSources,
    ruled_out: Mapping[str, Version] = MappingProxyType({}),
) -> list[OldRelease]:
    """The user's packages of which the index has a newer release, without those that are built here.

    `ruled_out`: releases that cannot be taken; only older ones count.
    """
    names = set(_unpinned(stack)) - set(known.wheels)
    if not names:
        return []
    locked = releases_in(document, stack)
    newest = _newest_releases(uv, stack, ruled_out)
    old = []
    for name in sorted(names & set(locked) & set(newest)):
        if newest[name].version > locked[name].version:
            release = OldRelease(name=name, locked=locked[name], newest=newest[name])
            old.append(release)
    return old


def _unpinned(stack: Stack) -> Iterator[str]:
    """The user's packages of the index whose version is left open."""
    for line in stack.extras:
        requirement = Requirement(line)
        exact = any(part.operator in ("==", "===") for part in requirement.specifier)
        if requirement.url or exact:
            continue
        yield canonicalize_name(requirement.name)


def _newest_releases(
    uv: Uv, stack: Stack, ruled_out: Mapping[str, Version]
) -> dict[str, Release]:
    """The newest release of each package by itself, within the bounds that are requested."""
    lines = [
        line
        for line in (*stack.requirements, *stack.extras)
        if not Requirement(line).url
    ]
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    for name, version in ruled_out.items():
        lines.append(f"{name}<{version}")
    known = KnownSources(newest=frozenset(names))
    answer = ask_index(
        uv,
        stack,
        lines,
        alone=True,
        known=known,
    )
    if answer.document is None:
        return {}
    return releases_in(answer.document, stack)


def newest_alone(uv: Uv, stack: Stack, names: Sequence[str]) -> dict[str, Release]:
    """The newest release of each package by itself, as of the day and for the Python of a stack."""
    if not names:
        return {}
    known = KnownSources(newest=frozenset(names))
    answer = ask_index(uv, stack, names, alone=True, known=known)
    if answer.document is None:
        return {}
    return releases_in(answer.document, stack)


def releases_in(document: JsonObject, stack: Stack) -> dict[str, Release]:
    """The releases that uv reports, by package."""
    releases: dict[str, Release] = {}
    for package in document.get("packages", ()):
        version = package.get("version")
        if version is None:
            continue
        name = canonicalize_name(str(package["name"]))
        wheels = package.get("wheels", ())
        sdist = package.get("sdist")
        releases[name] = Release(
            version=Version(version),
            day=_first_day([*wheels, sdist] if sdist else wheels),
            wheel=_fitting(wheels, stack),
            sdist=sdist_of(package),
        )
    return releases


def _first_day(files: Sequence[Mapping[str, Any]]) -> date | None:
    days = []
    for file in files:
        time = file.get("upload-time")
        if isinstance(time, datetime):
            days.append(time.date())
    return min(days, default=None)


def _fitting(wheels: Sequence[Mapping[str, Any]], stack: Stack) -> str:
    """The address of a wheel for the stack's Python and platform; "" if there is none."""
    for wheel in wheels:
        url = str(wheel.get("url", ""))
        file = wheel.get("name") or url.rpartition("/")[2]
        try:
            tags = parse_wheel_filename(file.replace("%2B", "+"))[3]
        except InvalidWheelFilename:
            continue
        if not tags.isdisjoint(accepted_tags(stack)):
            return url
    return ""


def why_not(
    old: Sequence[OldRelease], stack: Stack, document: JsonObject, network: Network
) -> dict[str, str]:
    """Why the newest releases that have a wheel were not locked, by package."""
    places = []
    for release in old:
        place = WheelPlace(name=release.name, url=release.newest.wheel)
        places.append(place)
    answer = read_metadata(places, network)
    locked = releases_in(document, stack)
    reasons = {}
    for release in old:
        metadata = answer.by_package.get(release.name, WheelMetadata())
        reasons[release.name] = unmet(metadata, locked, stack)
    return reasons


def unmet(metadata: WheelMetadata, locked: Mapping[str, Release], stack: Stack) -> str:
    """A requirement that a stack does not meet, in words."""
    if not allows_python(metadata.requires_python, stack.python):
        return f"that needs Python {metadata.requires_python}"
    pinned = {canonicalize_name(Requirement(line).name) for line in stack.requirements}
    other = ""
    for requirement in _requirements_of(metadata, stack):
        name = canonicalize_name(requirement.name)
        if name not in locked:
            continue
        version = locked[name].version
        if requirement.specifier.contains(version, prereleases=True):
            continue
        text = f"that needs {requirement.name}{requirement.specifier}"
        # Other versions follow from what is locked: the cause is among those that the stack pins.
        if name in pinned:
            return text
        other = other or text
    return other or "that does not go with the other packages"


def _requirements_of(metadata: WheelMetadata, stack: Stack) -> Iterator[Requirement]:
    """What a wheel requires on the stack's platform, without its extras."""
    environment = cast("dict[str, str]", {**markers(stack), "extra": ""})
    for line in metadata.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        yield requirement
