"""Every combination that did not win, with its reason; and why the winner did."""

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.grammar import PLATFORMS
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Flavour, Request
from envbuilder.resolve.candidate_index import Choice
from envbuilder.resolve.candidates import PREFERENCES, Candidate, features, index_of
from envbuilder.resolve.rules import named, objections_to


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
    """What was weighed for a request."""

    winner: str | None
    because: str
    alternatives: tuple[Alternative, ...]


def explain(request: Request, choice: Choice) -> Explanation:
    """Weigh every candidate on a base of the wanted kind; those of another kind were never in question."""
    catalog, best = choice.catalog, choice.best(request)
    grouped: dict[tuple[int, bool, tuple[str, ...]], list[Candidate]] = {}
    fitting = []
    for candidate in _in_question(request, choice):
        against = tuple(objections_to(request, candidate, catalog))
        if not against:
            fitting.append(candidate)
        if candidate is not best:
            reasons = against or (_loss(candidate, best, catalog),)
            grouped.setdefault((id(candidate.build), not against, reasons), []).append(candidate)
    return Explanation(
        winner=f"{named(best)} on Python {best.python}, {best.base.reference or request.base}" if best else None,
        because=_because(fitting, catalog),
        alternatives=tuple(
            _alternative(some, reasons, request, catalog, fits=fits) for (_, fits, reasons), some in grouped.items()
        ),
    )


def _in_question(request: Request, choice: Choice) -> Iterator[Candidate]:
    custom = request.base not in (BASE_AUTO, BASE_BOOTSTRAP)
    cpu = request.flavour is Flavour.CPU
    alike = (c for c in choice.candidates if c.custom == custom and c.cpu == cpu)
    return (c for c in alike if c.platform == request.platform or request.platform not in _platforms(c))


def _platforms(candidate: Candidate) -> tuple[str, ...]:
    """The platforms that the same build is a candidate for: one that has the wanted one is weighed there."""
    return PLATFORMS if candidate.cpu else candidate.build.platforms


def _alternative(
    some: list[Candidate], reasons: tuple[str, ...], request: Request, catalog: Catalog, *, fits: bool
) -> Alternative:
    return Alternative(
        build=named(some[0]),
        index=index_of(some[0], catalog),
        pythons=tuple(sorted({c.python for c in some})),
        bases=tuple(sorted({c.base.reference or request.base for c in some})),
        fits=fits,
        reasons=reasons,
    )


def _because(fitting: list[Candidate], catalog: Catalog) -> str:
    if not fitting:
        return "nothing fits"
    order = ", ".join(catalog.policy.preference)
    if len(fitting) == 1:
        return "it alone fits"
    second = fitting[1]
    return (
        f"{len(fitting)} fit, and policy prefers by {order}; the next best, {named(second)} on Python {second.python}, "
        f"loses: {_loss(second, fitting[0], catalog)}"
    )


_LOSSES = {
    "torch": "an older torch",
    "cuda": "an older CUDA",
    "registry": "its base would have to be made here",
    "python": "an older Python",
}


def _loss(loser: Candidate, winner: Candidate | None, catalog: Catalog) -> str:
    """What policy holds against a candidate that fits: the first preference in which it is behind."""
    for word in catalog.policy.preference if winner else ():
        prefer = PREFERENCES[word]
        if winner is None or prefer(loser, catalog) == prefer(winner, catalog):
            continue
        if word == "features":
            return "; ".join(f"no {feature.name}: {feature.reason}" for feature in features(loser) if feature.reason)
        if word == "index":
            return f"its wheels are on the index {index_of(loser, catalog)}, which `envbuilder lock` does not ask"
        return _LOSSES[word]
    return "as good; ties go by version and name"
