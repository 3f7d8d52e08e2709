"""The companions that a catalog knows, by the names that people ask for, and which packages of a request are some.

A family has one name for several packages: `cupy` is cupy-cuda11x, cupy-cuda12x and cupy-cuda13x.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.catalog import load_companions, own_folder
from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve.package_pins import OF_STACK

_GONE = frozenset({CompanionKind.DEAD, CompanionKind.ELSEWHERE})
_OLDEST = Version("0")


@lru_cache(maxsize=4096)
def overlap(bounds: str, others: str) -> bool:
    """Whether some version is within both."""
    if not bounds or not others:
        return True
    both = SpecifierSet(bounds) & SpecifierSet(others)
    return not both.is_unsatisfiable()


RowKey = tuple[str, Version | None, Version | None]


def row_key(row: Companion) -> RowKey:
    """What tells the rows of a catalog apart. Its tables may be read again, so that the row itself does not."""
    return row.name, row.first, row.last


Verdicts = dict[Hashable, bool]
"""Whether a row fits one side of a candidate; thousands of candidates have the same few sides."""


@lru_cache(maxsize=4)
def verdicts_of(_: Catalog) -> Verdicts:
    """The verdicts on the rows of a catalog; empty at first."""
    return {}


@lru_cache(maxsize=4)
def companion_table(catalog: Catalog) -> Mapping[str, tuple[Companion, ...]]:
    """Name of a package or of a family → its rows, newest first."""
    rows_by_name: dict[str, list[Companion]] = defaultdict(list)
    folder = own_folder(catalog)
    for row in load_companions(own=folder):
        rows_by_name[row.name].append(row)
        if row.family:
            rows_by_name[row.family].append(row)
    table = {}
    for name, rows in rows_by_name.items():
        rows.sort(key=_age, reverse=True)
        table[name] = tuple(_with_ceilings(rows))
    return table


def _with_ceilings(newest_first: Iterable[Companion]) -> Iterator[Companion]:
    """The rows, none for a newer torch or Python than a later release of the same package is for.

    Old releases bound them less often: that one says nothing of torch 2.15 does not mean that it works on it.
    """
    torches: dict[str, str] = {}
    pythons: dict[str, str] = {}
    for row in newest_first:
        name = row.name
        torch = row.torch
        if not row.torch_minor_abi:
            torch = _closed(torch, torches.get(name, ""))
        python = _closed(row.python, pythons.get(name, ""))
        yield replace(row, torch=torch, python=python)
        torches[name] = _ceiling_of(torch) or torches.get(name, "")
        pythons[name] = _ceiling_of(python) or pythons.get(name, "")


def _closed(bounds: str, ceiling: str) -> str:
    """Bounds that are open above, with a ceiling."""
    if not ceiling or not _is_open(bounds):
        return bounds
    return f"{bounds},{ceiling}".removeprefix(",")


def _is_open(bounds: str) -> bool:
    """Whether bounds leave any newer version."""
    without_floors = bounds.replace(">=", "")
    return "<" not in without_floors and "=" not in without_floors


def _ceiling_of(bounds: str) -> str:
    """The clause that bounds torch from above: `<2.15`, `<=2.14.0` of `==2.14.0`; "" for none."""
    for clause in SpecifierSet(bounds):
        operator = clause.operator
        version = clause.version
        if operator in ("<", "<="):
            return str(clause)
        if operator == "==" and not version.endswith(".*"):
            return f"<={version}"
    return ""


def _age(row: Companion) -> tuple[Version, tuple[int, ...], str]:
    return row.last or _OLDEST, row.cuda, row.name


def known_companions(catalog: Catalog) -> list[str]:
    """The names that `--with` takes, without those that nobody can be given."""
    names = []
    for name in companion_table(catalog):
        gone = gone_row(name, catalog)
        if gone is None:
            names.append(name)
    return sorted(names)


def rows_named(text: str, catalog: Catalog) -> tuple[Companion, ...]:
    """Every row of a companion, newest first; empty for a package that is none."""
    name = canonicalize_name(parsed(text).name)
    return companion_table(catalog).get(name, ())


def releases_meant(text: str, catalog: Catalog) -> list[Companion]:
    """The rows that can be installed and have a release within the bounds, newest first."""
    specifier = parsed(text).specifier
    bounds = str(specifier)
    rows = []
    for row in rows_named(text, catalog):
        if row.kind in _GONE:
            continue
        if is_pre_release(row) and not specifier.prereleases:
            continue
        releases = range_of(row)
        if overlap(bounds, releases):
            rows.append(row)
    return rows


def is_pre_release(row: Companion) -> bool:
    """Whether a row has pre-releases alone, which have to be named: `flash-attn-4>=4.0.0b0`."""
    return row.last is not None and row.last.is_prerelease


def range_of(row: Companion) -> str:
    """The releases of a row as bounds."""
    return f">={row.first},<={row.last}"


def gone_row(text: str, catalog: Catalog) -> Companion | None:
    """The row that says why a package is not available; None if some release of it can."""
    rows = rows_named(text, catalog)
    for row in rows:
        if row.kind not in _GONE:
            return None
    return rows[0] if rows else None


@lru_cache(maxsize=4096)
def parsed(text: str) -> Requirement:
    """A companion of a request; its text has passed the grammar."""
    return Requirement(text)


# --- packages of a request that are companions ---------------------------------------------------------------------


def with_companions(request: Request, catalog: Catalog) -> Request:
    """The request with those of its packages that are known companions among these: `--package vllm` is `--with vllm`.

    A package from a place of its own, one with a marker, and a release that the catalog does not know stay packages.
    """
    if not request.packages and not request.companions:
        return request
    found = []
    kept = []
    for text in request.packages:
        if _is_companion(text, catalog):
            found.append(text)
        else:
            kept.append(text)
    every = (*request.companions, *found)
    changed = replace(request, packages=tuple(kept), companions=every)
    return _merged(changed)


def _is_companion(text: str, catalog: Catalog) -> bool:
    requirement = parsed(text)
    if requirement.url or is_of_torch(requirement.name):
        return False
    if requirement.marker:
        return False
    # Whoever gives a version of what PyPI does not have means an index of their own.
    if not requirement.specifier and gone_row(text, catalog):
        return True
    return bool(releases_meant(text, catalog))


def _merged(request: Request) -> Request:
    """The request with each companion once, by name: `vllm` and `vllm<0.30` are `vllm<0.30`."""
    companions = merged_companions(request.companions)
    if companions == request.companions:
        return request
    places = dict(request.places)
    for text in companions:
        for line in request.companions:
            if line in places and parsed(line).name == parsed(text).name:
                places.setdefault(text, places[line])
    return replace(request, companions=companions, places=tuple(places.items()))


def merged_companions(texts: Iterable[str]) -> tuple[str, ...]:
    """Each package once, with all that is said of it, sorted by name."""
    by_name: dict[str, Requirement] = {}
    for text in texts:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        other = by_name.get(name)
        if other:
            requirement.specifier &= other.specifier
            requirement.extras |= other.extras
        requirement.name = name
        by_name[name] = requirement
    return tuple(str(by_name[name]) for name in sorted(by_name))


def is_of_torch(name: str) -> bool:
    """Whether torch itself decides a package: it is in the stack, with or without anybody's word."""
    return canonicalize_name(name) in OF_STACK


def names_of(texts: Sequence[str]) -> set[str]:
    """The normalized names of requirements."""
    return {canonicalize_name(parsed(text).name) for text in texts}
