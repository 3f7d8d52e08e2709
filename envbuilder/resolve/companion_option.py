"""A companion of a request as an option of it: `--with vllm` has rules, reasons and values to try, as `--cuda` has."""

import shlex
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from packaging.utils import canonicalize_name

from envbuilder.catalog.companions import Companion
from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_rules import CompanionJudge
from envbuilder.resolve.companion_table import (
    gone_row,
    is_pre_release,
    known_companions,
    merged_companions,
    parsed,
    releases_meant,
    rows_named,
)
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.refusal import Diagnosis, RequestedValue
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import Objection, wheels_key
from envbuilder.resolve.suggest import similar_names
from envbuilder.versions import listed

PREFIX = "with "  # of the name of such an option, which its text follows


class CompanionOption(Option):
    """One companion of a request: its value is its text, as `--with` takes it."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self.name.removeprefix(PREFIX)

    @property
    def default(self) -> object:
        return None

    @property
    def flag(self) -> str:
        return "--with"

    @property
    def shown_name(self) -> str:
        return "with"

    def value_in(self, request: Request) -> object:
        return self.text if self.text in request.companions else None

    def set_in(self, request: Request, value: object) -> Request:
        """The request with another text in its place, or without the companion."""
        companions = [text for text in request.companions if text != self.text]
        if value is not None:
            companions.append(str(value))
        return replace(request, companions=merged_companions(companions))

    def nearest(self, allowed: Sequence[Candidate], rows: RequestRows) -> Candidate:
        """The candidate for which the fewest things are against some release."""
        judge = CompanionJudge(rows.request, rows.catalog)
        distinct: dict[Hashable, Candidate] = {}
        for candidate in allowed:
            distinct.setdefault(wheels_key(candidate), candidate)

        def misses(candidate: Candidate) -> int:
            return judge.fewest(self.text, candidate)

        return min(distinct.values(), key=misses)


@lru_cache(maxsize=1024)
def companion_option(text: str) -> Option:
    """The option of a companion, the same object for the same text."""

    def rule(rows: RequestRows, candidate: Candidate) -> Objection:
        judge = CompanionJudge(rows.request, rows.catalog)
        return judge.objection(text, candidate)

    return CompanionOption(
        name=f"{PREFIX}{text}",
        parse=str,
        rule=rule,
        key=wheels_key,
        phrase="{}",
        diagnose_unknown=_diagnose_unknown,
        try_instead=lambda _rows, _nearest: _try_instead(text),
    )


def _diagnose_unknown(requested: RequestedValue) -> Diagnosis | None:
    """Why a companion cannot be given at all: nobody knows it, its project is elsewhere or dead, or no such release."""
    catalog = requested.catalog
    text = str(requested.value)
    requirement = parsed(text)
    name = canonicalize_name(requirement.name)
    rows = rows_named(text, catalog)
    if not rows:
        return _unknown(name, text, requested)
    gone = gone_row(text, catalog)
    if gone:
        says = gone.says or f"{name} cannot be installed here"
        return Diagnosis(problem=says)
    if releases_meant(text, catalog):
        return None
    newest = rows[0]
    if is_pre_release(newest) and not requirement.specifier:
        says = newest.says or f"{name} has pre-releases alone"
        return Diagnosis(problem=says, instead=(f"{name}>={newest.first}",))
    return Diagnosis(
        problem=f"{text} is not in the catalog ({catalog.date})",
        alternatives_text=f"known: {_releases_text(rows)}",
        instead=(name,),
    )


def _unknown(name: str, text: str, requested: RequestedValue) -> Diagnosis:
    catalog = requested.catalog
    known = known_companions(catalog)
    similar = similar_names(name, known)
    few = similar or known
    package = shlex.quote(text)
    return Diagnosis(
        problem=f"{name} is no companion in the catalog ({catalog.date})",
        alternatives_text=f"known: {listed(few)}",
        advice=f"or, as any other package, with `--package {package}`",
        instead=tuple(similar),
    )


def _releases_text(rows: Sequence[Companion]) -> str:
    """`0.1.4 to 0.33.0`, of each package of a family."""
    ranges: dict[str, list[Companion]] = {}
    for row in rows:
        if row.first is not None:
            ranges.setdefault(row.name, []).append(row)
    texts = []
    for name, group in ranges.items():
        versions = sorted(
            version for row in group for version in (row.first, row.last) if version
        )
        texts.append(f"{name} {versions[0]} to {versions[-1]}")
    return listed(texts)


def _try_instead(text: str) -> Iterator[object]:
    """Any release, where bounds were given."""
    requirement = parsed(text)
    if not requirement.specifier:
        return
    name = requirement.name
    if requirement.extras:
        extras = ",".join(sorted(requirement.extras))
        name = f"{name}[{extras}]"
    yield name
