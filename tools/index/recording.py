"""Which part of an index decides what is locked for a stack; pure.

A recorded index is small: of each project the versions that uv could take, and a few that it must not take. Those are
what a wrong day, platform or option would lock: newer uploads, yanked files, pre-releases, older versions.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import cast

from packaging.markers import Marker
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, ProjectPage

from envbuilder.lock.target_platform import markers, wheel_tags
from envbuilder.model import Stack
from index.pages import allows

NEWEST = 2
"""Versions that are kept before the stack's day, the newest first."""
OLDER = 1
"""Versions that are kept below the one that is locked."""
LATER = 2
"""Versions that are kept after the stack's day, the first uploads first."""
_DEPENDENCY = "Requires-Dist: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel on a page of the index that can be locked."""

    filename: str
    url: str
    version: Version
    tags: frozenset[Tag]
    requires_python: str | None
    sha256: str
    size: int
    uploaded: datetime
    yanked: str | None  # the reason; None: it is not yanked
    metadata_url: str | None  # of its METADATA as a file (PEP 658)


def read_wheels(page: ProjectPage) -> list[Wheel]:
    """The wheels of a project that have a size, a sha256 and a day."""
    found = []
    for file in page.packages:
        wheel = _read_wheel(file) if file.package_type == "wheel" else None
        if wheel:
            found.append(wheel)
    return found


def _read_wheel(file: DistributionPackage) -> Wheel | None:
    """None for a wheel that cannot be locked: its name cannot be read, or something is missing."""
    sha256 = file.digests.get("sha256")
    try:
        _, version, _, tags = parse_wheel_filename(file.filename)
    except InvalidWheelFilename:
        return None
    if not sha256 or not file.size or not file.upload_time:
        return None
    return Wheel(
        filename=file.filename,
        url=file.url,
        version=version,
        tags=tags,
        requires_python=file.requires_python,
        sha256=sha256,
        size=file.size,
        uploaded=file.upload_time,
        yanked=(file.yanked_reason or "") if file.is_yanked else None,
        metadata_url=file.metadata_url if file.has_metadata else None,
    )


def fits(wheel: Wheel, stack: Stack) -> bool:
    """Whether the wheel's tags are for the stack's Python, machine and C library."""
    return not wheel.tags.isdisjoint(_tags_of(stack))


@cache
def _tags_of(stack: Stack) -> frozenset[Tag]:
    return frozenset(wheel_tags(stack))


def _is_allowed(wheel: Wheel, stack: Stack) -> bool:
    """Whether `requires-python` lets the stack's Python in; a bound that nobody can read does not."""
    try:
        return allows(SpecifierSet(wheel.requires_python or ""), stack.python)
    except InvalidSpecifier:
        return False


def day_after(stack: Stack) -> datetime:
    """The first moment that the lock of a stack must not see."""
    return datetime.combine(stack.as_of + timedelta(days=1), time(), UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The versions of a project that have a wheel for a stack, the newest first."""

    usable: Sequence[Version]  # on the stack's day
    unusable: Sequence[Version]  # on the stack's day too, and yanked or pre-releases
    later: Sequence[Version]  # uploaded after it, the first uploads first


def releases_for(wheels: Sequence[Wheel], stack: Stack) -> Releases:
    """What a project offers to a stack."""
    usable: set[Version] = set()
    unusable: set[Version] = set()
    later: dict[Version, None] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.uploaded):
        if not fits(wheel, stack) or not _is_allowed(wheel, stack):
            continue
        is_usable = wheel.yanked is None and not wheel.version.is_prerelease
        if wheel.uploaded < day_after(stack):
            (usable if is_usable else unusable).add(wheel.version)
        elif is_usable:
            later[wheel.version] = None
    return Releases(
        usable=sorted(usable, reverse=True),
        unusable=sorted(unusable - usable, reverse=True),
        later=list(later),
    )


def versions_to_keep(
    releases: Releases, wanted: SpecifierSet, locked: Version | None
) -> set[Version]:
    """The versions of a project that could decide what is locked, and those that must not."""
    matching = list(wanted.filter(releases.usable))
    kept = {*releases.usable[:NEWEST], *matching[:1]}
    if locked:
        older = [version for version in releases.usable if version < locked]
        kept.update([locked, *older[:OLDER]])
    newest = max(kept, default=Version("0"))
    higher = [version for version in releases.later if version > newest]
    kept.update(higher[:LATER])
    unusable = [version for version in releases.unusable if version > newest]
    kept.update(unusable[:1])
    return kept


def trim_metadata(text: str) -> list[str]:
    """The lines of a METADATA that decide what is installed with the wheel, without name and version."""
    raw = parse_email(text)[0]
    lines = []
    if "requires_python" in raw:
        lines.append(f"Requires-Python: {raw['requires_python']}")
    for line in raw.get("requires_dist", []):
        lines.append(f"{_DEPENDENCY}{line}")
    for extra in raw.get("provides_extra", []):
        lines.append(f"Provides-Extra: {extra}")
    return lines


def dependencies(
    lines: Sequence[str], stack: Stack, extras: Collection[str]
) -> Iterator[Requirement]:
    """What a wheel asks for in the stack's image, with the extras that it is asked for with."""
    here = cast("dict[str, str]", dict(markers(stack)))
    for line in lines:
        if line.startswith(_DEPENDENCY):
            needed = Requirement(line.removeprefix(_DEPENDENCY))
            if needed.marker is None or _holds(needed.marker, here, extras):
                needed.marker = None
                yield needed


def _holds(marker: Marker, here: Mapping[str, str], extras: Collection[str]) -> bool:
    """Whether a marker holds without extras, or for one of them."""
    return any(marker.evaluate({**here, "extra": extra}) for extra in ("", *extras))
