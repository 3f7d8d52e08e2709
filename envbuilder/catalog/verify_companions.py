"""The checks of packages that are bound to torch, CUDA or the GPU."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from itertools import pairwise

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog import COMPANIONS
from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.rows import Evidence
from envbuilder.catalog.verify import CatalogFacts, Check, Problem, problem, shown

_FIELDS = {field.name for field in fields(Companion)}
Complaint = tuple[str, str]
"""A field, and what is wrong with it."""


def _of_each_row(
    check: Callable[[Companion, CatalogFacts], Iterator[Complaint]],
) -> Check:
    """A check of the table from one of a row."""

    @wraps(check)
    def check_rows(facts: CatalogFacts) -> Iterator[Problem]:
        for row in facts.rows(COMPANIONS):
            for field, says in check(row, facts):
                yield problem(COMPANIONS, row, field, says)

    return check_rows


def is_warning(row: Companion) -> bool:
    """Whether a row is there to say that the package is not to be installed."""
    return row.kind in (CompanionKind.ELSEWHERE, CompanionKind.DEAD)


# --- what a row says -----------------------------------------------------------------------------------------------


@_of_each_row
def warnings_have_a_sentence(row: Companion, _: CatalogFacts) -> Iterator[Complaint]:
    """It is all that a user gets."""
    if is_warning(row) and not row.says:
        yield "says", f"is empty; it is {row.kind}"


@_of_each_row
def releases_have_a_range_and_a_day(
    row: Companion, _: CatalogFacts
) -> Iterator[Complaint]:
    """A warning alone may be about no release."""
    if row.first is None:
        if not is_warning(row):
            yield "first", f"is empty; it is {row.kind}"
        return
    if row.last is None:
        yield "last", "is empty"
    elif row.last < row.first:
        yield "last", f"{row.last} is before the first"
    if row.released is None:
        yield "released", "is empty"


@_of_each_row
def empty_packages_name_another(row: Companion, _: CatalogFacts) -> Iterator[Complaint]:
    """One that holds nothing is of no use by itself."""
    if row.kind is CompanionKind.META and not row.needs and not row.needs_for:
        yield "needs", "is empty; the package is, too"


@_of_each_row
def weaker_statuses_are_of_fields(
    row: Companion, _: CatalogFacts
) -> Iterator[Complaint]:
    """`field_status` names fields, and only those that are known less well."""
    for name, status in row.field_status.items():
        if name not in _FIELDS:
            yield "field_status", f"{name} is no field"
        if status is Evidence.VERIFIED:
            yield "field_status", f"{name} is verified, as the row is"


@_of_each_row
def torch_is_known(row: Companion, facts: CatalogFacts) -> Iterator[Complaint]:
    """Some torch of the catalog fits, and one of those is for a CUDA that the libraries link to."""
    if not row.torch:
        return
    majors = torch_majors(row, facts)
    if not majors:
        yield "torch", f"{row.torch} fits no torch"
    elif row.cuda and majors.isdisjoint(row.cuda):
        there = shown(sorted(majors))
        yield "cuda", f"is {shown(row.cuda)}; torch {row.torch} is for {there}"


def torch_majors(row: Companion, facts: CatalogFacts) -> set[int]:
    """The CUDA majors of the torches that fit."""
    bound = SpecifierSet(row.torch)
    catalog = facts.catalog
    majors = set()
    for build in catalog.torch:
        torch = build.torch
        if torch in bound:
            cuda = build.cuda
            majors.add(cuda.major)
    return majors


@_of_each_row
def cpp_of_torch_names_a_torch(row: Companion, _: CatalogFacts) -> Iterator[Complaint]:
    """A library that uses C++ of torch runs on some torches alone, whatever METADATA says."""
    if row.kind is CompanionKind.WHEEL and row.torch_minor_abi and not row.torch:
        yield "torch", "is empty; C++ of one torch is in its libraries"


@_of_each_row
def pythons_are_known(row: Companion, facts: CatalogFacts) -> Iterator[Complaint]:
    """Some Python of the catalog fits."""
    bound = SpecifierSet(row.python)
    for build in facts.catalog.torch:
        for python in build.pythons:
            if bound.contains(f"{python}.99"):
                return
    yield "python", f"{row.python} fits no Python"


@_of_each_row
def cuda_lines_are_of_their_majors(
    row: Companion, _: CatalogFacts
) -> Iterator[Complaint]:
    """The variants in a wheel are for the majors that its libraries link to."""
    majors = {Version(line).major for line in row.cuda_lines}
    if majors and majors != set(row.cuda):
        there = shown(sorted(majors))
        yield "cuda", f"is {shown(row.cuda)}; cuda_lines has {there}"


@_of_each_row
def gpu_code_is_known(row: Companion, facts: CatalogFacts) -> Iterator[Complaint]:
    """Each architecture is one that some CUDA compiles for."""
    for name in row.sm:
        number = name.partition("_")[2].rstrip("af")
        if f"sm_{number}" not in facts.architectures:
            yield "sm", f"{name} is of no CUDA"


# --- rows next to each other ---------------------------------------------------------------------------------------


def rows_by_name(facts: CatalogFacts) -> Mapping[str, Sequence[Companion]]:
    """Package → its rows that have releases, as they stand in the file."""
    found: dict[str, list[Companion]] = defaultdict(list)
    for row in facts.rows(COMPANIONS):
        if row.first is None:
            continue
        rows = found[row.name]
        rows.append(row)
    return found


def ranges_do_not_overlap(facts: CatalogFacts) -> Iterator[Problem]:
    """Each range of a package ends before the next begins."""
    for rows in rows_by_name(facts).values():
        for row, following in pairwise(rows):
            last = row.last
            first = following.first
            if last is None or first is None:
                continue
            if last >= first:
                says = f"{last} is not before {first}, the next one"
                yield problem(COMPANIONS, row, "last", says)


def ranges_end_on_the_day_of_the_next(facts: CatalogFacts) -> Iterator[Problem]:
    """From that day on, an index resolves a release of another range."""
    by_name = rows_by_name(facts)
    for rows in by_name.values():
        expected = None
        for row in reversed(rows):
            day = row.next_released
            if day != expected:
                says = f"is {day}; the next row has {expected}"
                yield problem(COMPANIONS, row, "next_released", says)
            expected = row.released


def families_have_a_name_for_each_cuda(facts: CatalogFacts) -> Iterator[Problem]:
    """A package of a family is for one CUDA major, and no other of the family is for the same."""
    names: dict[tuple[str, int], str] = {}
    for row in facts.rows(COMPANIONS):
        family = row.family
        if family is None:
            continue
        if len(row.cuda) != 1:
            says = "is not one major, as in a family"
            yield problem(COMPANIONS, row, "cuda", says)
            continue
        major = row.cuda[0]
        other = names.setdefault((family, major), row.name)
        if other != row.name:
            says = f"{family} for CUDA {major} is {other}, too"
            yield problem(COMPANIONS, row, "family", says)


CHECKS: tuple[Check, ...] = (
    releases_have_a_range_and_a_day,
    warnings_have_a_sentence,
    empty_packages_name_another,
    weaker_statuses_are_of_fields,
    ranges_do_not_overlap,
    ranges_end_on_the_day_of_the_next,
    torch_is_known,
    cpp_of_torch_names_a_torch,
    pythons_are_known,
    cuda_lines_are_of_their_majors,
    families_have_a_name_for_each_cuda,
    gpu_code_is_known,
)
