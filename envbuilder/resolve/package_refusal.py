"""Why the packages of a request leave no candidate that its options allow, and the options that would do it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from envbuilder.errors import NoStackError
from envbuilder.model import Request
from envbuilder.resolve.candidate_index import CandidateIndex
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.command_line import command, context_flags
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.options import every_option
from envbuilder.resolve.package_pins import option_of
from envbuilder.resolve.package_rules import package_objections, parsed
from envbuilder.resolve.rules import Reason

_KEPT = ("platform", "flavour", "base")  # what a suggestion does not change
_NAMED = ("cuda", "torch", "python")  # options that a suggestion gives another value


def packages_error(
    request: Request,
    index: CandidateIndex,
    *,
    verb: str = "resolve",
    flags: Sequence[str] = (),
) -> NoStackError:
    """The error for packages that clash with a candidate that the options allow, or with each other."""
    culprits = _culprits(request, index)
    best = index.first(index.matching(request))
    if best is None:
        raise AssertionError("the options alone leave no candidate")
    reasons = package_objections(culprits, best)
    options = _options_in_conflict(culprits, index)
    packages = (*culprits.packages, *culprits.bounds)
    conflict = [("package", text) for text in packages]
    if culprits.requires_python:
        conflict.append(("requires-python", culprits.requires_python))
    conflict += [(item.shown_name, item.text_in(request)) for item in options]
    every_flag = list(dict.fromkeys([*context_flags(index.catalog), *flags]))
    suggestions = []
    for changed in _requests_to_try(request, index):
        again = command(changed, verb, instead_of=request, flags=every_flag)
        suggestions.append(again)
    advice = ""
    if not suggestions:
        advice = _advice(culprits, request)
    plain_reasons = _other_than(reasons, culprits)
    return NoStackError(
        _message(culprits, request, best),
        conflict=conflict,
        reasons=[reason.with_sources for reason in reasons],
        plain_reasons=[reason.text for reason in plain_reasons],
        suggestions=suggestions,
        advice=advice,
    )


def _name(candidate: Candidate) -> str:
    if candidate.cpu:
        return candidate.name
    return f"torch {candidate.build.torch} for CUDA {candidate.cuda_line}"


def _message(culprits: Request, request: Request, best: Candidate) -> str:
    """`numpy>=2 (requirements.txt:3) cannot be installed with torch 2.1.0 for CUDA 12.1 on Python >=3.12`."""
    places = dict(request.places)
    names = []
    every_package = (*culprits.packages, *culprits.bounds)
    for text in every_package:
        name = text
        if text in places:
            name += f" ({places[text]})"
        names.append(name)
    bounds = culprits.requires_python
    stack = _name(best)
    if not names:
        return f"{stack} is not available for Python {bounds}"
    packages = " and ".join(names)
    message = f"{packages} cannot be installed with {stack}"
    if bounds:
        message += f" on Python {bounds}"
    return message


def _other_than(reasons: Sequence[Reason], culprits: Request) -> list[Reason]:
    """The reasons without the beginning that the message has said already, if there is one package."""
    texts = []
    for reason in reasons:
        text = reason.text
        for package in (*culprits.packages, *culprits.bounds):
            text = text.removeprefix(f"{package} is requested; ")
        texts.append(Reason(text, reason.sources))
    return texts


def _advice(culprits: Request, request: Request) -> str:
    packages = (*culprits.packages, *culprits.bounds)
    for text in packages:
        requirement = parsed(text)
        option = option_of(requirement.name)
        if option:
            return f"choose the version of {option} with `--{option}`, or change {text}"
    if packages:
        names = " or ".join(packages)
        return f"change or leave out {names}"
    bounds = request.requires_python
    return f"choose a Python with `--python X.Y`: {bounds} has no stack here"


def _culprits(request: Request, index: CandidateIndex) -> Request:
    """A smallest set of packages and bounds of Python that leaves no candidate: drop any one and some are left."""
    needed = request
    if request.requires_python:
        fewer = replace(needed, requires_python="")
        if index.best(fewer) is None:
            needed = fewer
    for text in request.packages:
        others = tuple(other for other in needed.packages if other != text)
        fewer = replace(needed, packages=others)
        if index.best(fewer) is None:
            needed = fewer
    for text in request.bounds:
        others = tuple(other for other in needed.bounds if other != text)
        fewer = replace(needed, bounds=others)
        if index.best(fewer) is None:
            needed = fewer
    return needed


def _options_in_conflict(request: Request, index: CandidateIndex) -> list[Option]:
    """The options without which the packages could be installed."""
    options = []
    for option in every_option(request):
        if not option.is_set(request) or option.name in _KEPT:
            continue
        without = option.set_in(request, option.default)
        if index.best(without) is None:
            request = without
        else:
            options.append(option)
    return options


def _requests_to_try(request: Request, index: CandidateIndex) -> list[Request]:
    """The request with the fewest options changed to what its packages need; empty if no option helps."""
    changeable = [
        option
        for option in every_option(request)
        if option.is_set(request) and option.name not in _KEPT
    ]
    for number in range(1, len(changeable) + 1):
        found = []
        for some in combinations(changeable, number):
            changed = _changed(request, some, index)
            if changed is not None:
                found.append(changed)
        if found:
            return found[:2]
    return []


def _changed(
    request: Request, options: Sequence[Option], index: CandidateIndex
) -> Request | None:
    """The request with other values of these options, if that resolves."""
    loosened = request
    for option in options:
        loosened = option.set_in(loosened, option.default)
    best = index.best(loosened)
    if best is None:
        return None
    mask = index.matching(loosened) & index.mask_for_packages(loosened)
    nearest = _nearest(request, index.candidates_in(mask))
    for option in options:
        if option.name in _NAMED and option.version_of:
            changed = option.set_in(loosened, option.version_of(nearest))
            loosened = changed if index.best(changed) else loosened
    return loosened


def _nearest(request: Request, candidates: Sequence[Candidate]) -> Candidate:
    """The candidate whose torch is the next newer one than requested, else the best."""
    if request.torch is None:
        return candidates[0]
    nearest: Candidate | None = None
    for candidate in candidates:
        torch = candidate.build.torch
        is_newer = torch > request.torch
        if not is_newer:
            continue
        # Of the same torch, the first is the best.
        if nearest is None or torch < nearest.build.torch:
            nearest = candidate
    return nearest or candidates[0]
