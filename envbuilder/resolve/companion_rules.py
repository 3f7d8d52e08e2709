"""Companions against a candidate and against each other: which releases fit, and the reason why none does."""

from collections.abc import Sequence
from itertools import combinations

from envbuilder.catalog.companions import Companion
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_facets import (
    FACETS,
    Facet,
    context_of,
    context_problem,
    readable,
    subject_of,
)
from envbuilder.resolve.companion_table import (
    overlap,
    parsed,
    releases_meant,
    row_key,
    verdicts_of,
)
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import Objection, Reason
from envbuilder.versions import listed


class CompanionJudge:
    """The rules for one request: which releases fit a candidate, and what is against the others."""

    def __init__(self, request: Request, catalog: Catalog) -> None:
        self.catalog = catalog
        self.context = context_of(request, catalog)
        self._companions = request.companions
        self._verdicts = verdicts_of(catalog)

    def failing(self, row: Companion, candidate: Candidate) -> list[Facet]:
        """The rules that keep the releases of a row from a candidate."""
        failed = []
        for facet in FACETS:
            sides = facet.key(candidate)
            key = (row_key(row), id(facet), sides, self.context.glibc)
            if key not in self._verdicts:
                self._verdicts[key] = facet.fits(row, candidate, self.context)
            if not self._verdicts[key]:
                failed.append(facet)
        return failed

    def problem(self, row: Companion, candidate: Candidate) -> str:
        """The first thing that keeps the releases of a row from a candidate; "" if nothing does."""
        problem = context_problem(row, self.context)
        if problem:
            return problem
        failed = self.failing(row, candidate)
        for facet in failed:
            says = facet.says
            return says(row, candidate)
        line = self.missing(row, candidate)
        if not line:
            return ""
        subject = subject_of(row)
        objection = self.objection(line, candidate, alone=True)
        return f"{subject} needs {line}, and {objection}"

    def missing(self, row: Companion, candidate: Candidate) -> str:
        """What a row needs of another companion of which no release fits the candidate; "" if nothing is missing."""
        for line in row.needs:
            releases = releases_meant(line, self.catalog)
            if releases and not self.newest(releases, candidate):
                return line
        return ""

    def newest(
        self, releases: Sequence[Companion], candidate: Candidate
    ) -> Companion | None:
        """The newest release that fits a candidate, whatever else it needs."""
        for row in releases:
            if context_problem(row, self.context):
                continue
            if not self.failing(row, candidate):
                return row
        return None

    def count(self, row: Companion, candidate: Candidate) -> int:
        """How many things keep the releases of a row from a candidate."""
        failed = self.failing(row, candidate)
        count = len(failed)
        if context_problem(row, self.context):
            count += 1
        if self.missing(row, candidate):
            count += 1
        return count

    def fewest(self, text: str, candidate: Candidate) -> int:
        """How many things are against the release of a companion that fits a candidate best."""
        fewest = 0
        for row in releases_meant(text, self.catalog):
            count = self.count(row, candidate)
            if count == 0:
                return 0
            fewest = min(count, fewest or count)
        return fewest

    def newest_complete(self, text: str, candidate: Candidate) -> Companion:
        """The newest release of a companion that fits a candidate with all that it needs; there is one."""
        for row in releases_meant(text, self.catalog):
            if self.count(row, candidate) == 0:
                return row
        raise ValueError(f"no release of {text} fits {candidate.name}")

    def objection(
        self, text: str, candidate: Candidate, *, alone: bool = False
    ) -> Objection:
        """Why no release of a companion fits a candidate: what the nearest one lacks; None if one fits.

        `alone`: whatever else it needs.
        """
        nearest: tuple[Companion, int] | None = None
        for row in releases_meant(text, self.catalog):
            count = self.count(row, candidate)
            if alone:
                failed = self.failing(row, candidate)
                count = len(failed)
            if count == 0:
                return None
            if nearest is None or count < nearest[1]:
                nearest = row, count
        if nearest is None:
            return Reason(f"{text} is not in the catalog")
        row, _ = nearest
        return Reason(self.problem(row, candidate), (row.source,))

    def releases_on(self, candidate: Candidate) -> list[list[Companion]]:
        """The releases of each companion of the request that fit a candidate, newest first."""
        fitting = []
        for text in self._companions:
            releases = []
            for row in releases_meant(text, self.catalog):
                count = self.count(row, candidate)
                if count == 0:
                    releases.append(row)
            fitting.append(releases)
        return fitting


# --- releases against each other -----------------------------------------------------------------------------------


def go_together(one: Companion, other: Companion) -> bool:
    """Whether releases of two companions can be together: one transformers, and what each needs of the other."""
    if not overlap(one.transformers, other.transformers):
        return False
    return _allows(one, other) and _allows(other, one)


def goes_with_all(row: Companion, others: Sequence[Companion]) -> bool:
    """Whether a release can be installed together with each of some others."""
    for other in others:
        if not go_together(row, other):
            return False
    return True


def _allows(one: Companion, other: Companion) -> bool:
    """Whether what `one` needs can be among the releases of `other`."""
    for line in one.needs:
        needed = parsed(line)
        if needed.name != other.name:
            continue
        if not overlap(str(needed.specifier), f">={other.first},<={other.last}"):
            return False
    return True


def is_tied(row: Companion) -> bool:
    """Whether a row asks for something that another companion may not agree with."""
    return bool(row.transformers or row.needs)


def first_together(
    fitting: Sequence[Sequence[Companion]], chosen: tuple[Companion, ...] = ()
) -> tuple[Companion, ...] | None:
    """One row of each companion so that all go together, the first ones as early as can be; None if none do."""
    if not fitting:
        return chosen
    first, *others = fitting
    for row in first:
        if not goes_with_all(row, chosen):
            continue
        found = first_together(others, (*chosen, row))
        if found is not None:
            return found
    return None


def together_objection(rows: RequestRows, candidate: Candidate) -> Objection:
    """Why companions that fit a candidate one by one cannot be on it together."""
    if len(rows.request.companions) < 2:
        return None
    judge = CompanionJudge(rows.request, rows.catalog)
    fitting = judge.releases_on(candidate)
    if not all(fitting) or first_together(fitting):
        return None
    for one, other in combinations(fitting, 2):
        if first_together([one, other]) is None:
            newest = one[0]
            newest_other = other[0]
            text = _disagreement(newest, newest_other)
            return Reason(text, (newest.source, newest_other.source))
    names = [releases[0].name for releases in fitting]
    return Reason(f"no releases of {listed(names)} go together")


def _disagreement(one: Companion, other: Companion) -> str:
    subject = subject_of(one)
    subject_of_other = subject_of(other)
    if not overlap(one.transformers, other.transformers):
        bounds = readable(one.transformers)
        bounds_of_other = readable(other.transformers)
        return (
            f"{subject} needs transformers {bounds}, "
            f"and {subject_of_other} needs {bounds_of_other}"
        )
    if not _allows(one, other):
        line = _need_of(one, other.name)
        return f"{subject} needs {line}, not {subject_of_other}"
    if not _allows(other, one):
        line = _need_of(other, one.name)
        return f"{subject_of_other} needs {line}, not {subject}"
    name = other.name
    return f"{subject} does not go with any release of {name} that fits"


def _need_of(row: Companion, name: str) -> str:
    """The line with which a companion needs another one."""
    for line in row.needs:
        if parsed(line).name == name:
            return line
    return name
