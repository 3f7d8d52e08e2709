"""Whether the catalog agrees with itself: what can be derived from other facts is derived again and compared.

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
    """One fact that contradicts the others."""

    row: str  # "torch.json 2.0.1 pypi"
    field: str
    says: str

    def __str__(self) -> str:
        return f"{self.row}: {self.field}: {self.says}"


@dataclass(frozen=True, kw_only=True)
class CatalogFacts:
    """Everything in the catalog, including what is only read on demand."""

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
        floors = {}
        for row in self.catalog.compatibility:
            if row.kind == "minor-version" and row.driver_floor:
                floors[row.subject] = str(row.driver_floor)
        return floors

    @cached_property
    def lines_of_cuda(self) -> set[tuple[int, ...]]:
        """(major, minor) of every toolkit."""
        return {toolkit.cuda.release[:2] for toolkit in self.catalog.toolkits}

    @cached_property
    def architectures(self) -> Mapping[str, tuple[Version | None, Version | None]]:
        """sm_XY → the CUDA that began to compile for it (None: before the table begins) and the one that stopped."""
        began: dict[str, Version | None] = {}
        stopped: dict[str, Version] = {}
        changes = list(self.rows(catalog.ARCHITECTURES))
        changes.sort(key=lambda row: row.cuda)
        for change in changes:
            for name in change.added:
                began[name] = change.cuda
                stopped.pop(name, None)
            for name in change.dropped:
                began.setdefault(name, None)
                stopped[name] = change.cuda
        return {name: (first, stopped.get(name)) for name, first in began.items()}

    def rows(self, table: Table[Any]) -> tuple[Any, ...]:
        """The rows of one table."""
        return self.tables[table.file]


Check = Callable[[CatalogFacts], Iterator[Problem]]


def gather(
    preferences: Collection[str], folder: Path = catalog.FOLDER, own: Path | None = None
) -> CatalogFacts:
    """Read all of it. Raises `CatalogError` if a row cannot be read at all."""
    tables = {}
    lines = {}
    for table in catalog.TABLES:
        tables[table.file] = catalog.read(table, folder, own)
        lines[table.file] = catalog.written(table, folder, own)
    return CatalogFacts(
        catalog=catalog.load(folder, own),
        tables=tables,
        lines=lines,
        rulings=catalog.load_rulings(folder),
        preferences=preferences,
    )


def find_problems(facts: CatalogFacts, checks: Iterable[Check]) -> list[Problem]:
    """Everything that is wrong, check after check."""
    problems: list[Problem] = []
    for check in checks:
        problems += check(facts)
    return problems


def name_of(table: Table[Any], row: object) -> str:
    """`torch.json 2.0.1 pypi`."""
    words = [table.file]
    for key in table.key:
        value = getattr(row, key)
        if value is not None:
            words.append(str(value))
    return " ".join(words)


def problem(table: Table[Any], row: object, field: str, says: str) -> Problem:
    """What is wrong with a field of a row."""
    return Problem(row=name_of(table, row), field=field, says=says)


def differing(
    table: Table[Any], row: object, expected: Mapping[str, object], source: str
) -> Iterator[Problem]:
    """One problem for each field that is not what was derived."""
    for field, value in expected.items():
        actual = getattr(row, field)
        if actual != value:
            yield problem(
                table, row, field, f"is {shown(actual)}; {source} {shown(value)}"
            )


def shown(value: object) -> str:
    """A value in a message: mappings and lists in words, `empty` for what has no items."""
    if isinstance(value, Mapping):
        items = []
        for name, item in value.items():
            items.append(f"{name}: {shown(item)}")
        return "; ".join(items) or "empty"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    words = [str(item) for item in value]
    return " ".join(words) or "empty"


# --- every table ---------------------------------------------------------------------------------------------------


def fields_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """msgspec ignores a misspelt field, and its value would be lost without a word."""
    for table in catalog.TABLES:
        known = {field.name for field in fields(table.row)}
        for line in facts.lines[table.file]:
            keys = [str(line.get(key)) for key in table.key]
            for name in set(line) - known:
                yield Problem(
                    row=" ".join([table.file, *keys]),
                    field=name,
                    says="there is no such field",
                )


def rows_are_unique(facts: CatalogFacts) -> Iterator[Problem]:
    """By their key, with which a custom catalog replaces a row."""
    for table in catalog.TABLES:
        names = [name_of(table, row) for row in facts.rows(table)]
        for name, count in Counter(names).items():
            if count == 1:
                continue
            key = " ".join(table.key)
            yield Problem(row=name, field=key, says=f"occurs {count} times")


def sources_are_named(facts: CatalogFacts) -> Iterator[Problem]:
    """A fact without a source cannot be looked up again."""
    for table in catalog.TABLES:
        for row in facts.rows(table):
            if not row.source.strip():
                yield problem(table, row, "source", "is empty: where is this from?")


def nothing_is_newer_than_its_check(facts: CatalogFacts) -> Iterator[Problem]:
    """No release, and no listing, is of a day after `checked`."""
    for table in catalog.TABLES:
        for row in facts.rows(table):
            for field in ("released", "listed", "next_released"):
                day = getattr(row, field, None)
                if isinstance(day, date) and day > row.checked:
                    yield problem(
                        table,
                        row,
                        field,
                        f"is {day}, after the day it was checked ({row.checked})",
                    )


# --- policy --------------------------------------------------------------------------------------------------------


def in_policy(key: str, says: str) -> Problem:
    """What is wrong with a key of policy.toml."""
    return Problem(row="policy.toml", field=key, says=says)


def preferences_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """The resolver has an order for each of the words."""
    for word in facts.catalog.policy.preference:
        if word not in facts.preferences:
            yield in_policy(
                "preference", f"{word!r} is not one of {shown(facts.preferences)}"
            )


def policy_names_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """Systems, indexes and Pythons that the policy names are in the facts."""
    policy = facts.catalog.policy
    releases = {row.release for row in facts.catalog.systems}
    systems = {row.os for row in facts.catalog.systems}
    indexes = {row.index for row in facts.catalog.torch}
    if policy.registry.release not in releases:
        yield in_policy(
            "registry.release", f"{policy.registry.release!r} is no system's"
        )
    for name in set(policy.bootstrap.systems) - systems:
        yield in_policy("bootstrap.systems", f"{name!r} is unknown")
    for name in set(policy.bootstrap.more_packages) - set(policy.bootstrap.systems):
        yield in_policy(
            "bootstrap.more_packages", f"{name!r} is not one of bootstrap.systems"
        )
    for name in indexes - set(policy.indexes):
        yield in_policy(
            "indexes", f"has no name for {name!r}, which rows of torch.json are on"
        )
    pythons: set[Version] = set()
    for build in facts.catalog.torch:
        pythons.update(build.pythons)
    for python in set(policy.registry.pythons) - pythons:
        yield in_policy("registry.pythons", f"no torch has a wheel for Python {python}")
    builds = policy.managed.builds if policy.managed else {}
    for line, full in builds.items():
        if not full.startswith(f"{line}."):
            yield in_policy("managed.builds", f"{full} is no Python {line}")


def rulings_hold(facts: CatalogFacts) -> Iterator[Problem]:
    """Each has two sources and a reason, and the row that it names still has the value that was decided."""
    rows_by_name = {}
    for table in catalog.TABLES:
        for row in facts.rows(table):
            rows_by_name[name_of(table, row)] = row
    for ruling in facts.rulings:
        if not ruling.why or not ruling.held or len(ruling.sources) < 2:
            yield Problem(
                row="rulings.toml",
                field=ruling.about,
                says="needs two sources, what is held, and why",
            )
        if not ruling.row:
            continue
        if ruling.row not in rows_by_name:
            yield Problem(
                row="rulings.toml",
                field=ruling.about,
                says=f"there is no row {ruling.row}",
            )
            continue
        value = getattr(rows_by_name[ruling.row], ruling.field, None)
        actual = msgspec.json.decode(serialize.dumps(value))
        expected = [] if ruling.value is None else ruling.value
        if actual != expected:
            says = f"is {actual}; rulings.toml has {expected} ({ruling.about})"
            yield Problem(row=ruling.row, field=ruling.field, says=says)


CHECKS: tuple[Check, ...] = (
    fields_are_known,
    rows_are_unique,
    sources_are_named,
    nothing_is_newer_than_its_check,
    preferences_are_known,
    policy_names_are_known,
    rulings_hold,
)
