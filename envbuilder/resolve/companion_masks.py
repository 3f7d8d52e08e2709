"""Which candidates each companion allows, as bits, and the release that one of them gets."""

from collections.abc import Callable, Sequence
from itertools import combinations

from envbuilder.catalog.companions import Companion
from envbuilder.catalog.rows import Catalog
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_facets import (
    FACETS,
    CompanionContext,
    context_problem,
)
from envbuilder.resolve.companion_rules import goes_with_all, is_tied
from envbuilder.resolve.companion_table import RowKey, releases_meant, row_key
from envbuilder.resolve.rules import CandidateKey

_ALL = -1  # as a mask: every bit
GroupBy = Callable[[CandidateKey], list[tuple[Candidate, int]]]
InEveryRange = Callable[[int], int]


class CompanionMasks:
    """The masks of companions. `group_by`: one of the candidates of each key, and the mask of all that share it."""

    def __init__(
        self, catalog: Catalog, group_by: GroupBy, in_every_range: InEveryRange
    ) -> None:
        self._catalog = catalog
        self._group_by = group_by
        self._in_every_range = in_every_range
        self._of_row: dict[tuple[RowKey, CompanionContext], int] = {}
        self._of_set: dict[tuple[tuple[str, ...], CompanionContext], int] = {}

    def mask_for(self, companions: Sequence[str], context: CompanionContext) -> int:
        """The candidates on which all of these can be installed together."""
        names = tuple(companions)
        known = self._of_set
        key = (names, context)
        mask = known.get(key)
        if mask is not None:
            return mask
        mask = self._new_mask(names, context)
        known[key] = mask
        return mask

    def _new_mask(self, companions: Sequence[str], context: CompanionContext) -> int:
        mask = _ALL
        tied = []
        for text in companions:
            rows = self._rows(text, context)
            is_any_tied = False
            of_companion = 0
            for row in rows:
                is_any_tied = is_any_tied or is_tied(row)
                of_companion |= self._row_mask(row, context)
            if is_any_tied:
                tied.append(rows)
            mask &= self._in_every_range(of_companion)
        if mask and _can_clash(tied):
            together = self._together(tied, (), _ALL, context)
            mask &= self._in_every_range(together)
        return mask

    def _rows(self, text: str, context: CompanionContext) -> list[Companion]:
        rows = []
        for row in releases_meant(text, self._catalog):
            problem = context_problem(row, context)
            if not problem:
                rows.append(row)
        return rows

    def _row_mask(self, row: Companion, context: CompanionContext) -> int:
        """The candidates that a release of this row fits, in one range of drivers."""
        key = (row_key(row), context)
        if key in self._of_row:
            return self._of_row[key]
        mask = self._facets_mask(row, context)
        if mask and row.needs:
            of_needs = self._needs_mask(row, context)
            mask &= of_needs
        self._of_row[key] = mask
        return mask

    def _facets_mask(self, row: Companion, context: CompanionContext) -> int:
        """The same, whatever else it needs."""
        if context_problem(row, context):
            return 0
        mask = _ALL
        for facet in FACETS:
            passing = 0
            for candidate, group in self._group_by(facet.key):
                if group & mask and facet.fits(row, candidate, context):
                    passing |= group
            mask &= passing
            if not mask:
                break
        return mask

    def _needs_mask(self, row: Companion, context: CompanionContext) -> int:
        """The candidates that the companions which a row needs fit, too."""
        mask = _ALL
        for line in row.needs:
            releases = releases_meant(line, self._catalog)
            fitting = 0
            for needed in releases:
                fitting |= self._facets_mask(needed, context)
            if releases:
                mask &= fitting
        return mask

    def _together(
        self,
        rows_left: Sequence[Sequence[Companion]],
        chosen: tuple[Companion, ...],
        mask: int,
        context: CompanionContext,
    ) -> int:
        """The candidates of a mask for which one row of each companion can be chosen so that all go together."""
        if not rows_left:
            return mask
        found = 0
        for row in rows_left[0]:
            left = mask & self._row_mask(row, context)
            if not left or not goes_with_all(row, chosen):
                continue
            found |= self._together(rows_left[1:], (*chosen, row), left, context)
        return found


def _can_clash(companions: Sequence[Sequence[Companion]]) -> bool:
    """Whether some release of one companion does not go together with some of another one."""
    for rows, others in combinations(companions, 2):
        for row in rows:
            if not goes_with_all(row, others):
                return True
    return False
