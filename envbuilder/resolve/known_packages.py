"""What the catalog knows of the packages of a request: whether the newest release of each goes with a stack."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.model import Request, Stack
from envbuilder.resolve.package_rules import has_rule, marker_holds, python_fits


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPackages:
    """What is said of the packages that the catalog knows, and the packages that it does not know."""

    notes: tuple[str, ...]
    unknown: tuple[Requirement, ...]


def known_packages(
    request: Request, stack: Stack, companions: Iterable[Companion]
) -> KnownPackages:
    """The packages of a request, without those of the project's files and those that the stack has anyway."""
    rows: dict[str, list[Companion]] = {}
    for row in companions:
        rows.setdefault(row.name, []).append(row)
    named = {canonicalize_name(Requirement(line).name) for line in stack.requirements}
    of_files = {text for text, _ in request.places}
    notes = []
    unknown = []
    for text in request.packages:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        is_decided = requirement.url or has_rule(name) or name in named
        if is_decided or text in of_files or not _is_for(requirement, stack):
            continue
        if name not in rows:
            unknown.append(requirement)
            continue
        note = _note(requirement, rows[name], stack)
        if note:
            notes.append(note)
    return KnownPackages(notes=tuple(notes), unknown=tuple(unknown))


def _is_for(requirement: Requirement, stack: Stack) -> bool:
    marker = requirement.marker
    return marker is None or marker_holds(str(marker), stack.platform, stack.python)


def _note(requirement: Requirement, rows: Sequence[Companion], stack: Stack) -> str:
    """Why the newest known release within bounds does not go with a stack; "" if nothing is known against it."""
    row = _newest(requirement, rows, stack)
    if row is None:
        return ""
    release = f"{row.name} {row.last}"
    torch = stack.torch
    python = stack.python
    platform = stack.platform
    bounds = SpecifierSet(row.torch)
    if not bounds.contains(torch, prereleases=True):
        return f"{release} needs torch{bounds}, and this is torch {torch}"
    if not python_fits(row.python, python):
        return f"{release} needs Python {row.python}, and this is Python {python}"
    if row.platforms and platform not in row.platforms:
        return f"{release} has no wheel for {platform}"
    return ""


def _newest(
    requirement: Requirement, rows: Sequence[Companion], stack: Stack
) -> Companion | None:
    """The newest releases on the stack's day that are wheels and within the bounds of the request."""
    newest = None
    for row in rows:
        if row.kind is not CompanionKind.WHEEL or row.last is None:
            continue
        is_late = row.released is not None and row.released > stack.as_of
        is_within = requirement.specifier.contains(row.last, prereleases=True)
        if is_within and not is_late:
            newest = row
    return newest
