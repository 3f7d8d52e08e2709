"""Releases of a package to rows of facts/companions.json; pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage, ProjectPage

from facts import Row
from index.pages import NEWEST_PYTHON, allows, places, pythons
from index.texts import holds

_ALL_PYTHONS = [Version(f"3.{minor}") for minor in range(7, NEWEST_PYTHON + 1)]
_BINDING = re.compile(r"(?i)(?:torch|transformers)(?![a-z0-9._-])")
_UPPER = ("<", "<=", "==", "===", "~=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release, and those of its files that an image for Linux can use."""

    version: Version
    day: date
    files: Sequence[DistributionPackage]

    @property
    def file(self) -> DistributionPackage:
        """The one that is read: for linux/amd64, and the newest Python."""
        return max(self.files, key=_rank)

    @property
    def has_wheels(self) -> bool:
        return self.file.package_type == "wheel"


def _rank(file: DistributionPackage) -> tuple[bool, Version, str]:
    if file.package_type != "wheel":
        return (False, Version("0"), file.filename)
    is_amd64 = "linux/amd64" in places(file.filename)
    newest = max(pythons(file.filename), default=Version("0"))
    return (is_amd64, newest, file.filename)


def releases_of(
    page: ProjectPage, since: date, *, sources: bool, prereleases: bool = False
) -> list[Release]:
    """The stable releases since a day, oldest version first: their wheels, or their source archives."""
    files: dict[Version, list[DistributionPackage]] = {}
    for file in page.packages:
        version = _version_of(file)
        if version is None or file.is_yanked:
            continue
        if version.is_prerelease and not prereleases:
            continue
        if _is_usable(file, sources=sources):
            files.setdefault(version, []).append(file)
    found = []
    for version, some in sorted(files.items()):
        day = min(file.upload_time.date() for file in some if file.upload_time)
        if day >= since:
            found.append(Release(version=version, day=day, files=some))
    return found


def _version_of(file: DistributionPackage) -> Version | None:
    try:
        return Version(file.version or "")
    except InvalidVersion:
        return None


def _is_usable(file: DistributionPackage, *, sources: bool) -> bool:
    if file.upload_time is None or not file.digests.get("sha256"):
        return False
    if sources:
        return file.package_type == "sdist" and file.filename.endswith(".tar.gz")
    if file.package_type != "wheel":
        return False
    return file.filename.endswith("-none-any.whl") or bool(places(file.filename))


# --- what the page and METADATA say --------------------------------------------------------------------------------


def release_facts(release: Release, metadata: str, extras: str = "") -> Row:
    """The fields of a release that its files' names and its METADATA give."""
    raw = parse_email(metadata)[0]
    required = _specifier(raw.get("requires_python") or "")
    supported = _pythons(release, required)
    newest = max(supported, default=Version(f"3.{NEWEST_PYTHON}"))
    # One package has a thousand lines, for its extras.
    lines = [line for line in raw.get("requires_dist", []) if _BINDING.match(line)]
    wanted = [Requirement(line) for line in lines]
    glibc = [
        found["linux/amd64"]
        for found in map(_places, release.files)
        if "linux/amd64" in found
    ]
    return {
        "torch": _bound(wanted, "torch", newest),
        "python": _python_text(supported),
        "platforms": _platforms(release),
        "glibc": str(min(glibc)) if glibc else "",
        "transformers": _upper(_bound(wanted, "transformers", newest)),
        "needs_for": _extras(
            raw.get("name", ""), raw.get("provides_extra", []), extras
        ),
    }


def _places(file: DistributionPackage) -> dict[str, Version]:
    return places(file.filename) if file.package_type == "wheel" else {}


def _specifier(text: str) -> SpecifierSet:
    """A bound as somebody wrote it; one that nobody can read bounds nothing."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _pythons(release: Release, required: SpecifierSet) -> list[Version]:
    """The Pythons that a release can be installed on."""
    found: set[Version] = set()
    if not release.has_wheels:
        found = set(_ALL_PYTHONS)
    else:
        for file in release.files:
            found |= pythons(file.filename)
    return sorted(python for python in found if allows(required, python))


def _python_text(supported: Sequence[Version]) -> str:
    """`>=3.9,<3.13`; "" for every Python that this repository knows of."""
    if not supported or len(supported) == len(_ALL_PYTHONS):
        return ""
    oldest, newest = supported[0], supported[-1]
    bounds = [f">={oldest}"]
    for minor in range(oldest.minor, newest.minor):
        if Version(f"3.{minor}") not in supported:
            bounds.append(f"!=3.{minor}.*")
    if newest.minor < NEWEST_PYTHON:
        bounds.append(f"<3.{newest.minor + 1}")
    return ",".join(bounds)


def _platforms(release: Release) -> list[str]:
    found: set[str] = set()
    for file in release.files:
        found |= set(_places(file)) or {"linux/amd64", "linux/arm64"}
    return sorted(found)


def _bound(wanted: Sequence[Requirement], name: str, python: Version) -> str:
    """What is required of a package on linux/amd64 without extras."""
    bound = SpecifierSet()
    for one in wanted:
        if canonicalize_name(one.name) == name and holds(one, python.minor):
            bound &= one.specifier
    return text_of(bound)


def text_of(bound: SpecifierSet) -> str:
    """Lower bounds first: `>=2.4,<3`."""
    clauses = sorted(bound, key=lambda clause: (clause.operator[0] == "<", str(clause)))
    return ",".join(str(clause) for clause in clauses)


def _extras(name: str, provided: Sequence[str], pattern: str) -> dict[str, list[str]]:
    """CUDA major → the package with the extra for it."""
    found: dict[str, list[str]] = {}
    for extra in provided:
        match = re.fullmatch(pattern, canonicalize_name(extra))
        if match:
            found[match[1]] = [f"{canonicalize_name(name)}[{canonicalize_name(extra)}]"]
    return dict(sorted(found.items()))


def _upper(bound: str) -> str:
    """Without lower bounds and `!=`: a stack takes the newest release, and the index's resolver sees them."""
    kept = SpecifierSet()
    for clause in SpecifierSet(bound):
        if clause.operator in _UPPER:
            kept &= SpecifierSet(str(clause))
    return text_of(kept)


# --- rulings -------------------------------------------------------------------------------------------------------

_ABOUT = ("name", "versions", "status", "source")


def with_rulings(
    row: Row, version: Version, rulings: Sequence[Mapping[str, Any]]
) -> Row:
    """A row with what people wrote of this release, the later ruling over the earlier; each field has its status."""
    ruled = dict(row)
    sources = []
    status = {}
    for ruling in rulings:
        versions = SpecifierSet(ruling.get("versions", ""))
        if not versions.contains(version, prereleases=True):
            continue
        for field, value in ruling.items():
            if field in _ABOUT:
                continue
            ruled[field] = value
            status[field] = ruling["status"]
        sources.append(ruling["source"])
    ruled["field_status"] = {
        field: how for field, how in status.items() if how != "verified"
    }
    ruled["ruled_by"] = sources
    return ruled


# --- ranges --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Range:
    """Releases one after the other, of which the same is true."""

    releases: list[Release]
    facts: Row


def ranges_of(pairs: Sequence[tuple[Release, Row]]) -> list[Range]:
    """Releases with their facts, oldest first, to ranges."""
    ranges: list[Range] = []
    for release, facts in pairs:
        if ranges and ranges[-1].facts == facts:
            ranges[-1].releases.append(release)
        else:
            ranges.append(Range(releases=[release], facts=facts))
    return ranges


def read_in_range(
    releases: Sequence[Release], read: Callable[[Release], Row]
) -> Iterator[tuple[Release, Row]]:
    """What `read` finds of each release; where the first and the last are alike, those between are taken to be."""
    first = read(releases[0])
    last = read(releases[-1])
    if first == last or len(releases) == 2:
        for number, release in enumerate(releases):
            is_last = number == len(releases) - 1
            yield release, last if is_last else first
        return
    middle = len(releases) // 2
    yield from read_in_range(releases[:middle], read)
    yield from read_in_range(releases[middle:], read)


def rows_of(head: Row, ranges: Sequence[Range], source: str) -> Iterator[Row]:
    """The rows of a package, as they stand in the file."""
    following: Sequence[Range | None] = [*ranges[1:], None]
    for one, after in zip(ranges, following, strict=True):
        facts = dict(one.facts)
        sources = [source, *facts.pop("ruled_by", ())]
        row = {
            **head,
            "first": str(one.releases[0].version),
            "last": str(one.releases[-1].version),
            "released": one.releases[0].day.isoformat(),
            "next_released": after.releases[0].day.isoformat() if after else None,
            **facts,
            "status": "verified",
            "source": "; ".join(sources),
        }
        yield {
            name: value for name, value in row.items() if not _is_default(name, value)
        }


def _is_default(name: str, value: object) -> bool:
    """What the loader puts there by itself."""
    if value is False:
        return name == "torch_minor_abi"
    return value is None or value in ("", [], {}, ())
