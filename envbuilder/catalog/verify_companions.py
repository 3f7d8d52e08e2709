"""The checks of packages that are bound to torch, CUDA or the GPU."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog import COMPANIONS
from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.rows import Evidence
from envbuilder.catalog.verify import CatalogFacts, Check, Problem, problem, shown

_FIELDS = {field.name for field in fields(Companion)}


def rows_by_name(facts: CatalogFacts) -> Mapping[str, Sequence[Companion]]:
    """Package → its rows that have releases, as they stand in the file."""
    found: dict[str, list[Companion]] = defaultdict(list)
    for row in facts.rows(COMPANIONS):
        if row.first is not None:
            found[row.name].append(row)
    return found


def rows_are_complete(facts: CatalogFacts) -> Iterator[Problem]:
    """Releases have a range and a day; a package that is not to be installed from the index has a sentence."""
    for row in facts.rows(COMPANIONS):
        is_warning = row.kind in (CompanionKind.ELSEWHERE, CompanionKind.DEAD)
        if is_warning and not row.says:
            yield problem(COMPANIONS, row, "says", f"is empty; it is {row.kind}")
        given = [value is not None for value in (row.first, row.last, row.released)]
        if any(given) and not all(given):
            yield problem(COMPANIONS, row, "first", "needs last and released, too")
        if not any(given) and not is_warning:
            yield problem(COMPANIONS, row, "first", f"is missing; it is {row.kind}")
        if row.kind is CompanionKind.META and not row.needs and not row.needs_for:
            yield problem(COMPANIONS, row, "needs", "is empty; the package is, too")
        for name in sorted(set(row.field_status) - _FIELDS):
            yield problem(COMPANIONS, row, "field_status", f"{name} is no field")
        if Evidence.VERIFIED in row.field_status.values():
            says = "has what is verified; it is for what is known less well"
            yield problem(COMPANIONS, row, "field_status", says)


def ranges_are_in_order(facts: CatalogFacts) -> Iterator[Problem]:
    """Each range of a package ends before the next begins, and `next_released` is the day on which that was."""
    for rows in rows_by_name(facts).values():
        for row in rows:
            if row.first and row.last and row.first > row.last:
                yield problem(COMPANIONS, row, "last", f"{row.last} is before it")
        for row, following in pairwise(rows):
            if row.last and following.first and row.last >= following.first:
                says = f"{row.last} is not before {following.first}, the next one"
                yield problem(COMPANIONS, row, "last", says)
            if row.next_released != following.released:
                says = f"is {row.next_released}; {following.first} is of {following.released}"
                yield problem(COMPANIONS, row, "next_released", says)
        if rows[-1].next_released is not None:
            yield problem(COMPANIONS, rows[-1], "next_released", "is of no row")


def torch_is_known(facts: CatalogFacts) -> Iterator[Problem]:
    """Some torch of the catalog fits, one of them is for a CUDA that the libraries link to, and C++ binds to some."""
    for row in facts.rows(COMPANIONS):
        if not row.torch:
            if row.torch_minor_abi and row.kind is CompanionKind.WHEEL:
                says = "is empty; C++ of one torch is in its libraries"
                yield problem(COMPANIONS, row, "torch", says)
            continue
        bound = SpecifierSet(row.torch)
        builds = [build for build in facts.catalog.torch if build.torch in bound]
        if not builds:
            yield problem(COMPANIONS, row, "torch", f"{row.torch} fits no torch")
            continue
        majors = {build.cuda.major for build in builds}
        if row.cuda and not majors & set(row.cuda):
            says = f"is {shown(row.cuda)}; torch {row.torch} is for {shown(sorted(majors))}"
            yield problem(COMPANIONS, row, "cuda", says)


def pythons_are_known(facts: CatalogFacts) -> Iterator[Problem]:
    """Some Python of the catalog fits."""
    pythons: set[Version] = set()
    for build in facts.catalog.torch:
        pythons.update(build.pythons)
    for row in facts.rows(COMPANIONS):
        bound = SpecifierSet(row.python)
        if not any(bound.contains(f"{python}.99") for python in pythons):
            yield problem(COMPANIONS, row, "python", f"{row.python} fits no Python")


def cuda_lines_are_of_their_majors(facts: CatalogFacts) -> Iterator[Problem]:
    """The variants in a wheel are for the majors that its libraries link to."""
    for row in facts.rows(COMPANIONS):
        if not row.cuda_lines:
            continue
        majors = sorted({Version(line).major for line in row.cuda_lines})
        if majors != sorted(row.cuda):
            says = f"is {shown(row.cuda)}; cuda_lines has {shown(majors)}"
            yield problem(COMPANIONS, row, "cuda", says)


def families_have_a_name_for_each_cuda(facts: CatalogFacts) -> Iterator[Problem]:
    """A package of a family is for one CUDA major, and no other of the family is for the same."""
    names: dict[tuple[str, int], str] = {}
    for row in facts.rows(COMPANIONS):
        if row.family is None:
            continue
        if len(row.cuda) != 1:
            yield problem(COMPANIONS, row, "cuda", "is not one major, as in a family")
            continue
        other = names.setdefault((row.family, row.cuda[0]), row.name)
        if other != row.name:
            says = f"{row.family} for CUDA {row.cuda[0]} is {other}, too"
            yield problem(COMPANIONS, row, "family", says)


def gpu_code_is_known(facts: CatalogFacts) -> Iterator[Problem]:
    """Each architecture is one that some CUDA compiles for."""
    known = facts.architectures
    for row in facts.rows(COMPANIONS):
        for name in row.sm:
            _, _, number = name.partition("_")
            plain = f"sm_{number.rstrip('af')}"
            if plain not in known:
                yield problem(COMPANIONS, row, "sm", f"{name} is of no CUDA")


CHECKS: tuple[Check, ...] = (
    rows_are_complete,
    ranges_are_in_order,
    torch_is_known,
    pythons_are_known,
    cuda_lines_are_of_their_majors,
    families_have_a_name_for_each_cuda,
    gpu_code_is_known,
)
