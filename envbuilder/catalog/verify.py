"""Does the catalog agree with itself? What can be derived from other facts is derived again and compared.

A check is a function from all facts to the problems it finds; each names the file, the row by its key, and the field.
Pure: `envbuilder.catalog.online` compares with an index.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import Version

from envbuilder import catalog, serialize
from envbuilder.catalog import Table, observations, rows
from envbuilder.catalog.rows import Catalog

PLATFORMS = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fact that cannot be true beside the others."""

    row: str  # "torch.json 2.0.1 pypi"
    field: str
    says: str

    def __str__(self) -> str:
        return f"{self.row}: {self.field}: {self.says}"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the catalog holds, what is read on demand too."""

    catalog: Catalog
    tables: Mapping[str, tuple[Any, ...]]  # file → its rows
    lines: Mapping[str, list[dict[str, Any]]]  # file → its rows as they are written
    rulings: tuple[rows.Ruling, ...]
    preferences: Collection[str]  # the words that the resolver knows

    @cached_property
    def wheels(self) -> Mapping[tuple[str, Version], observations.Wheels]:
        """(package, version) → what PyPI has of it."""
        return {(row.package, row.version): row for row in self.rows(catalog.WHEELS)}

    @cached_property
    def floors(self) -> Mapping[str, str]:
        """CUDA major → the oldest driver by minor-version compatibility."""
        found = [row for row in self.catalog.compatibility if row.kind == "minor-version" and row.driver_floor]
        return {row.subject: str(row.driver_floor) for row in found}

    @cached_property
    def lines_of_cuda(self) -> set[tuple[int, ...]]:
        """(major, minor) of every toolkit."""
        return {toolkit.cuda.release[:2] for toolkit in self.catalog.toolkits}

    @cached_property
    def architectures(self) -> Mapping[str, tuple[Version | None, Version | None]]:
        """sm_XY → the CUDA that began to compile for it (None: before the table begins) and the one that stopped."""
        found: dict[str, tuple[Version | None, Version | None]] = {}
        for row in sorted(self.rows(catalog.ARCHITECTURES), key=lambda row: row.cuda):
            found |= dict.fromkeys(row.added, (row.cuda, None))
            found |= {name: (found.get(name, (None, None))[0], row.cuda) for name in row.dropped}
        return found

    def rows(self, table: Table[Any]) -> tuple[Any, ...]:
        """The rows of one table."""
        return self.tables[table.file]


Check = Callable[[Facts], Iterator[Problem]]


def gather(preferences: Collection[str], folder: Path = catalog.FOLDER, own: Path | None = None) -> Facts:
    """Read all of it. Raises `CatalogError` if a row cannot be read at all."""
    return Facts(
        catalog=catalog.load(folder, own),
        tables={table.file: catalog.read(table, folder, own) for table in catalog.TABLES},
        lines={table.file: catalog.written(table, folder, own) for table in catalog.TABLES},
        rulings=catalog.load_rulings(folder),
        preferences=preferences,
    )


def find_problems(facts: Facts, checks: Iterable[Check]) -> list[Problem]:
    """Everything that is wrong, check after check."""
    return [problem for check in checks for problem in check(facts)]


def name_of(table: Table[Any], row: object) -> str:
    """`torch.json 2.0.1 pypi`."""
    return " ".join([table.file, *(str(getattr(row, key)) for key in table.key)])


def problem(table: Table[Any], row: object, field: str, says: str) -> Problem:
    """What is wrong with a field of a row."""
    return Problem(row=name_of(table, row), field=field, says=says)


def differing(table: Table[Any], row: object, wanted: Mapping[str, object], source: str) -> Iterator[Problem]:
    """One problem for each field that is not what was derived."""
    for field, value in wanted.items():
        found = getattr(row, field)
        if found != value:
            yield problem(table, row, field, f"is {shown(found)}; {source} {shown(value)}")


def shown(value: object) -> str:
    """A value in a message: mappings and lists in words, `empty` where there is nothing."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {shown(item)}" for name, item in value.items()) or "empty"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return " ".join(map(str, value)) or "empty"


# --- every table ---------------------------------------------------------------------------------------------------


def fields_are_known(facts: Facts) -> Iterator[Problem]:
    """msgspec passes over a field that is misspelt; its value would be lost in silence."""
    for table in catalog.TABLES:
        for line in facts.lines[table.file]:
            where = " ".join([table.file, *(str(line.get(key)) for key in table.key)])
            for name in set(line) - {field.name for field in fields(table.row)}:
                yield Problem(row=where, field=name, says="there is no such field")


def rows_are_unique(facts: Facts) -> Iterator[Problem]:
    """By their key, which is how an own catalog replaces one."""
    for table in catalog.TABLES:
        for name, count in Counter(name_of(table, row) for row in facts.rows(table)).items():
            if count > 1:
                yield Problem(row=name, field=" ".join(table.key), says=f"stands there {count} times")


def sources_are_named(facts: Facts) -> Iterator[Problem]:
    """A fact without a source cannot be looked up again."""
    for table in catalog.TABLES:
        for row in facts.rows(table):
            if not row.source.strip():
                yield problem(table, row, "source", "is empty: where is this from?")


def nothing_is_newer_than_the_look_at_it(facts: Facts) -> Iterator[Problem]:
    """No release, and no listing, is of a day after `checked`."""
    for table in catalog.TABLES:
        for row in facts.rows(table):
            for field in ("released", "listed", "next_released"):
                day = getattr(row, field, None)
                if isinstance(day, date) and day > row.checked:
                    yield problem(table, row, field, f"is {day}, after the day it was looked at ({row.checked})")


# --- policy --------------------------------------------------------------------------------------------------------


def policy(key: str, says: str) -> Problem:
    """What is wrong with a key of policy.toml."""
    return Problem(row="policy.toml", field=key, says=says)


def preferences_are_known(facts: Facts) -> Iterator[Problem]:
    """The resolver has an order for each of the words."""
    for word in facts.catalog.policy.preference:
        if word not in facts.preferences:
            yield policy("preference", f"{word!r} is none of {shown(facts.preferences)}")


def policy_names_are_known(facts: Facts) -> Iterator[Problem]:
    """Systems, indexes and Pythons that policy speaks of are in the facts."""
    chosen, known = facts.catalog.policy, {row.os for row in facts.catalog.systems}
    if chosen.registry.release not in {row.release for row in facts.catalog.systems}:
        yield policy("registry.release", f"{chosen.registry.release!r} is no system's")
    for name in set(chosen.bootstrap.systems) - known:
        yield policy("bootstrap.systems", f"{name!r} is unknown")
    for name in set(chosen.bootstrap.more_packages) - set(chosen.bootstrap.systems):
        yield policy("bootstrap.more_packages", f"{name!r} is none of the systems that bases are made of")
    wanted = {row.index for row in facts.catalog.torch}
    for name in wanted - set(chosen.indexes):
        yield policy("indexes", f"has no name for {name!r}, which rows of torch.json are on")
    pythons = {python for row in facts.catalog.torch for python in row.pythons}
    for python in set(chosen.registry.pythons) - pythons:
        yield policy("registry.pythons", f"no torch has a wheel for Python {python}")


def rulings_hold(facts: Facts) -> Iterator[Problem]:
    """Each has two sources and a reason, and the row that it names still says what was held."""
    by_name = {name_of(table, row): row for table in catalog.TABLES for row in facts.rows(table)}
    for ruling in facts.rulings:
        if not (ruling.why and ruling.held and len(ruling.sources) > 1):
            yield Problem(row="rulings.toml", field=ruling.about, says="needs two sources, what is held, and why")
        if not ruling.row:
            continue
        row = by_name.get(ruling.row)
        found = msgspec.json.decode(serialize.dumps(getattr(row, ruling.field, None))) if row else None
        wanted = [] if ruling.value is None else ruling.value
        if row is None:
            yield Problem(row="rulings.toml", field=ruling.about, says=f"there is no row {ruling.row}")
        elif found != wanted:
            yield Problem(
                row=ruling.row, field=ruling.field, says=f"is {found}; rulings.toml has {wanted} ({ruling.about})"
            )


CHECKS: tuple[Check, ...] = (
    fields_are_known,
    rows_are_unique,
    sources_are_named,
    nothing_is_newer_than_the_look_at_it,
    preferences_are_known,
    policy_names_are_known,
    rulings_hold,
)
