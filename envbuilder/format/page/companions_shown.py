"""What the page says of companions: for each stack the release of each that fits it, or why none does."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request, Stack
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_facets import subject_of
from envbuilder.resolve.companion_rules import CompanionJudge
from envbuilder.resolve.companion_table import companion_table, known_companions


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCompanion:
    """One companion next to one stack."""

    name: str  # as `--with` takes it
    text: str  # the release, or the reason against every one
    fits: bool


class CompanionShelf:
    """The companions of a catalog, judged once for all stacks that they cannot tell apart."""

    def __init__(self, catalog: Catalog) -> None:
        request = Request()
        self._judge = CompanionJudge(request, catalog)
        self._names = names_to_show(catalog)
        self._candidates = _by_stack(catalog)
        self._numbers: dict[tuple[ShownCompanion, ...], int] = {}
        self._by_key: dict[Hashable, int] = {}

    @property
    def sets(self) -> list[tuple[ShownCompanion, ...]]:
        """What `number` counts: companions, of which many stacks have the same."""
        return list(self._numbers)

    def of(self, stack: Stack) -> tuple[ShownCompanion, ...]:
        """Every companion next to a stack, by name."""
        number = self.number(stack)
        return self.sets[number]

    def number(self, stack: Stack) -> int:
        """The place among `sets` of what fits a stack."""
        candidate = self._candidates[_key_of(stack)]
        build = candidate.build
        key = (id(build), candidate.python, candidate.base.glibc)
        if key not in self._by_key:
            shown = self._judged(candidate)
            place = len(self._numbers)
            self._by_key[key] = self._numbers.setdefault(shown, place)
        return self._by_key[key]

    def _judged(self, candidate: Candidate) -> tuple[ShownCompanion, ...]:
        shown = []
        for name in self._names:
            objection = self._judge.objection(name, candidate)
            if objection:
                text = objection.text
            else:
                row = self._judge.newest_complete(name, candidate)
                text = subject_of(row)
            companion = ShownCompanion(
                name=name,
                text=text,
                fits=objection is None,
            )
            shown.append(companion)
        return tuple(shown)


def names_to_show(catalog: Catalog) -> Sequence[str]:
    """The known companions; of a family its one name."""
    table = companion_table(catalog)
    names = []
    for name in known_companions(catalog):
        newest = table[name][0]
        if newest.family in (None, name):
            names.append(name)
    return names


def _by_stack(catalog: Catalog) -> Mapping[Hashable, Candidate]:
    candidates: dict[Hashable, Candidate] = {}
    for candidate in index_for(catalog).candidates:
        build = candidate.build
        key = (
            build.torch,
            None if candidate.cpu else build.cuda,
            candidate.package_index,
            candidate.python,
            candidate.base.reference,
            candidate.platform,
        )
        candidates.setdefault(key, candidate)
    return candidates


def _key_of(stack: Stack) -> Hashable:
    return (
        stack.torch,
        stack.cuda,
        stack.index,
        stack.python,
        stack.base.reference,
        stack.platform,
    )
