"""Every combination that did not win, with its reason; and why the winner did."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.version import Version

from envbuilder.grammar import PLATFORMS
from envbuilder.model import Flavour, Request
from envbuilder.resolve.candidate_index import CandidateIndex
from envbuilder.resolve.candidates import PREFERENCES, Candidate
from envbuilder.resolve.options import objections_to
from envbuilder.resolve.package_rules import package_objections
from envbuilder.resolve.request_rows import RequestRows, look_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Combinations of one torch build that were rejected for the same reasons."""

    build: str  # "torch 2.0.1 for CUDA 11.7.99"
    index: str
    pythons: tuple[Version, ...]
    bases: tuple[str, ...]
    fits: bool  # it answers the request; the winner is preferred
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why the winner won, and why each alternative did not."""

    winner: str | None
    because: str
    alternatives: tuple[Alternative, ...]


_Group = tuple[int, bool, tuple[str, ...]]
"""The build, whether it fits, and the reasons."""


def explain(request: Request, index: CandidateIndex) -> Explanation:
    """Compare every candidate on a base of the requested kind with the winner."""
    rows = look_up(request, index.catalog)
    preference = index.catalog.policy.preference
    best = index.best(request)
    fitting = []
    groups: dict[_Group, list[Candidate]] = defaultdict(list)
    for candidate in _comparable(rows, index):
        objections = objections_to(rows, candidate)
        objections += package_objections(request, candidate)
        if not objections:
            fitting.append(candidate)
        if candidate is best:
            continue
        reasons = [reason.with_sources for reason in objections]
        if best and not objections:
            reasons.append(_loss(candidate, best, preference))
        group = (id(candidate.build), not objections, tuple(reasons))
        groups[group].append(candidate)
    alternatives = []
    for group, candidates in groups.items():
        alternatives.append(_alternative(candidates, group, request))
    return Explanation(
        winner=_winner_text(best, request) if best else None,
        because=_because(fitting, preference),
        alternatives=tuple(alternatives),
    )


def _comparable(rows: RequestRows, index: CandidateIndex) -> Iterator[Candidate]:
    """The candidates of the requested kind; of a build that the requested platform has, those on that platform."""
    request = rows.request
    for candidate in index.candidates:
        if candidate.custom != rows.has_custom_base:
            continue
        if candidate.cpu != (request.flavour is Flavour.CPU):
            continue
        platforms = PLATFORMS if candidate.cpu else candidate.build.platforms
        if candidate.platform == request.platform or request.platform not in platforms:
            yield candidate


def _alternative(
    candidates: Sequence[Candidate], group: _Group, request: Request
) -> Alternative:
    pythons = set()
    bases = set()
    for candidate in candidates:
        pythons.add(candidate.python)
        bases.add(candidate.base.reference or request.base)
    first = candidates[0]
    _, fits, reasons = group
    return Alternative(
        build=first.name,
        index=first.package_index,
        pythons=tuple(sorted(pythons)),
        bases=tuple(sorted(bases)),
        fits=fits,
        reasons=reasons,
    )


def _winner_text(best: Candidate, request: Request) -> str:
    base = best.base.reference or request.base
    return f"{best.name} on Python {best.python}, {base}"


def _because(fitting: Sequence[Candidate], preference: Sequence[str]) -> str:
    if not fitting:
        return "nothing fits"
    if len(fitting) == 1:
        return "nothing else fits"
    winner = fitting[0]
    second = fitting[1]
    loss = _loss(second, winner, preference)
    return (
        f"{len(fitting)} fit, and policy prefers by {', '.join(preference)}; "
        f"the next best, {second.name} on Python {second.python}, "
        f"loses: {loss}"
    )


def _loss(loser: Candidate, winner: Candidate, preference: Sequence[str]) -> str:
    """What policy holds against a candidate that fits: the first preference in which it is behind."""
    for word in preference:
        by = PREFERENCES[word]
        if by.merit(loser) != by.merit(winner):
            return by.loss(loser)
    return "as good; ties go by version and name"
