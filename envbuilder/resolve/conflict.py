"""Why nothing fits a request: the fewest of its options that clash, the facts behind it, and what works instead."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from packaging.version import Version

from envbuilder.errors import NoStackError
from envbuilder.grammar import PLATFORMS
from envbuilder.model import PYPI, Flavour, Request
from envbuilder.resolve.base_check import base_name_of
from envbuilder.resolve.candidate_index import CandidateIndex
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.command_line import command, context_flags, texts_of_set_options
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.options import (
    diagnose_unknown,
    every_option,
    objections_to,
)
from envbuilder.resolve.refusal import Diagnosis
from envbuilder.resolve.request_rows import RequestRows, look_up
from envbuilder.resolve.rules import (
    Objection,
    Reason,
    driver_gpu_mismatch,
    glibc_objection,
    has_wheels_for,
)
from envbuilder.versions import listed

Diagnoses = Mapping[str, Diagnosis]
"""Name of an option → why the catalog cannot judge its value."""


def no_stack_error(
    request: Request,
    index: CandidateIndex,
    *,
    verb: str = "resolve",
    flags: Sequence[str] = (),
) -> NoStackError:
    """The error for a request that no candidate matches; it suggests `envbuilder VERB … FLAGS`."""
    rows = look_up(request, index.catalog)
    diagnoses = diagnose_unknown(rows)
    conflict = smallest_conflict(request, index, diagnoses)
    suggestions = []
    for changed in _suggestions(request, conflict, index, diagnoses):
        if _lines_lost(request, changed):
            continue
        suggestions.append(
            command(
                changed,
                verb,
                instead_of=request,
                flags=list(dict.fromkeys([*context_flags(index.catalog), *flags])),
            )
        )
    values = [(option.shown_name, option.text_in(request)) for option in conflict]
    places = "" if suggestions else _places_of(request, conflict)
    if len(conflict) == 1 and conflict[0].name in diagnoses:
        error = _error_of_unknown_value(conflict[0], values, suggestions, diagnoses)
        error.hint = places or error.hint
        return error
    # With the options of the conflict alone: an objection to any other is no reason for this conflict.
    conflict_only = _only(request, conflict)
    reasons = _reasons(conflict_only, conflict, index)
    for diagnosis in diagnoses.values():
        reasons.append(Reason(diagnosis.text))
    reasons += _why_this_platform(rows, conflict)
    message = _message(request, conflict)
    advice = ""
    if len(conflict) == 1:
        advice = conflict[0].advice
        if reasons:
            message = reasons[0].text  # "driver 390 is too old: …" says it all
    advice = places or advice
    return NoStackError(
        message,
        conflict=values,
        reasons=[reason.with_sources for reason in reasons],
        plain_reasons=[reason.text for reason in reasons],
        suggestions=suggestions,
        advice=advice,
    )


def _lines_lost(request: Request, changed: Request) -> list[str]:
    """The companions of the project's files that a request lacks: no command drops them, the files are read again."""
    places = dict(request.places)
    lost = []
    for text in request.companions:
        if text in places and text not in changed.companions:
            lost.append(text)
    return lost


def _places_of(request: Request, conflict: Sequence[Option]) -> str:
    """What to do about lines of the project's own files: `change vllm in requirements.txt:3`."""
    places = dict(request.places)
    lines = []
    for option in conflict:
        text = option.text_in(request)
        if text in places:
            place = places[text]
            lines.append(f"change {text} in {place}")
    return " or ".join(lines)


def _why_this_platform(rows: RequestRows, conflict: Sequence[Option]) -> list[Reason]:
    """Where the platform is to blame, and the GPU, which is not, may have decided on it."""
    names = [option.name for option in conflict]
    gpu = rows.gpu
    if gpu is None or not rows.arm64:
        return []
    if "platform" not in names or "gpu" in names:
        return []
    text = f"{rows.gpu_name} comes with an arm64 processor"
    return [Reason(text, (gpu.source,))]


def _message(request: Request, conflict: Sequence[Option]) -> str:
    if not conflict:
        return "no stack has anything: the catalog has no candidate"
    phrases = [option.phrase_in(request) for option in conflict]
    return f"no stack has {' and '.join(phrases)}"


def _error_of_unknown_value(
    option: Option,
    values: Sequence[tuple[str, str]],
    suggestions: Sequence[str],
    diagnoses: Diagnoses,
) -> NoStackError:
    """A value that the catalog cannot judge; other such values of the request are reported with it."""
    diagnosis = diagnoses[option.name]
    others = [other.text for name, other in diagnoses.items() if name != option.name]
    alternatives = [diagnosis.alternatives_text] if diagnosis.alternatives_text else []
    return NoStackError(
        diagnosis.problem,
        conflict=values,
        reasons=[diagnosis.text, *others],
        problems=alternatives + others,
        suggestions=suggestions,
        advice=diagnosis.advice,
    )


# --- the conflict --------------------------------------------------------------------------------------------------


def smallest_conflict(
    request: Request,
    index: CandidateIndex,
    unknown: Collection[str] = (),
) -> list[Option]:
    """The fewest options that no candidate satisfies together; what is unknown comes first among as few.

    The platform, set or not, is one of them if the others fit on another one.
    """
    # A request always has a platform, so each subset is tried on it, and the platform is blamed only where it decides.
    anywhere = _on_any_platform(request)
    for names in _subsets(request, unknown):
        if index.matching(request, names):
            continue
        if not index.matching(anywhere, names):
            # These options clash on every platform.
            names.remove("platform")
        return [option for option in every_option(request) if option.name in names]
    raise AssertionError("a request that some candidate matches has no conflict")


def _subsets(request: Request, unknown: Collection[str]) -> Iterator[set[str]]:
    """Names of options that are set, the fewest first, each time with the platform, which always holds."""
    options = []
    for option in every_option(request):
        if option.is_set(request) and option.name != "platform":
            options.append(option)
    options.sort(key=lambda option: option.name not in unknown)
    for number in range(len(options) + 1):
        for some in combinations(options, number):
            names = {option.name for option in some}
            names.add("platform")
            yield names


def _only(request: Request, options: Collection[Option]) -> Request:
    """The request with no other option set; the platform is what it is, in the conflict or not."""
    for option in every_option(request):
        if option not in options and option.name != "platform":
            request = option.set_in(request, option.default)
    return request


def _without(request: Request, *options: Option) -> Request:
    for option in options:
        request = option.set_in(request, option.default)
    return request


def _on_any_platform(request: Request) -> Request:
    """Only for the index, where None asks for nothing: the default of the option is one of the platforms."""
    return replace(request, platform=None)  # type: ignore[arg-type]


# --- the reasons ---------------------------------------------------------------------------------------------------


def _reasons(
    conflict_only: Request, conflict: Sequence[Option], index: CandidateIndex
) -> list[Reason]:
    """Why the options of a conflict clash, first what a person would say first."""
    rows = look_up(conflict_only, index.catalog)
    mismatch = driver_gpu_mismatch(rows)
    if mismatch:
        return [mismatch]
    unavailable = _unavailable(rows, conflict)
    if unavailable:
        return [unavailable]
    # An option with values in an order says what there is instead ("works with CUDA 12.1 or newer"), which makes sense
    # once it is clear what is wrong; so the other options' objections ("needs sm_90") come first.
    reasons: list[Reason] = []
    for option in sorted(conflict, key=lambda option: option.version_of is not None):
        reasons += _reasons_of(option, conflict_only, conflict, index)
    too_old = _too_old_glibc(conflict_only, index)
    if too_old:
        reasons.append(too_old)
    return list(dict.fromkeys(reasons))


def _unavailable(rows: RequestRows, conflict: Sequence[Option]) -> Objection:
    """What is wrong with the only option of a conflict."""
    if len(conflict) != 1:
        return None
    diagnose = conflict[0].diagnose_unavailable
    return diagnose(rows) if diagnose else None


def _reasons_of(
    option: Option,
    conflict_only: Request,
    conflict: Sequence[Option],
    index: CandidateIndex,
) -> list[Reason]:
    """Why the candidates that the other options of a conflict allow do not satisfy this one."""
    others = _without(conflict_only, option)
    is_about_platform = any(other.name == "platform" for other in conflict)
    if option.name == "platform" or not is_about_platform:
        others = _on_any_platform(others)
    is_custom = option.name == "base" and base_name_of(conflict_only) is not None
    allowed = index.candidates_in(index.matching(_on_any_base(others, is_custom)))
    if is_custom:
        allowed = [candidate for candidate in allowed if candidate.custom]
    if not allowed:
        return []
    if not is_about_platform:
        # What keeps wheels for another processor from this GPU is no reason for somebody who has this one.
        allowed = _of_platform(allowed, conflict_only.platform) or allowed
    if option.version_of and len(conflict) > 1:
        phrases = [
            other.phrase_in(conflict_only) for other in conflict if other is not option
        ]
        return [_works_with(" with ".join(phrases), option, allowed, index)]
    nearest = option.nearest(allowed, look_up(conflict_only, index.catalog))
    if option.name == "platform" and has_wheels_for(nearest, conflict_only.platform):
        return []  # another option rejects those, and gives its reason
    if not is_about_platform:
        conflict_only = replace(conflict_only, platform=nearest.platform)
    rows = look_up(conflict_only, index.catalog)
    return objections_to(rows, nearest)


def _of_platform(candidates: Sequence[Candidate], platform: str) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.platform == platform]


def _on_any_base(request: Request, custom: bool) -> Request:
    """Only for the index, as `_on_any_platform`; a request for an image of its own says nothing of other bases."""
    return replace(request, base=None) if custom else request  # type: ignore[arg-type]


def _works_with(
    subject: str,
    option: Option,
    allowed: Sequence[Candidate],
    index: CandidateIndex,
) -> Reason:
    """`GPU H100 works with CUDA 12.1 or newer, or CUDA 11.8 from the index pytorch-cu118`."""
    known = _versions_by_package_index(option, index.candidates)
    by_package_index = _versions_by_package_index(option, allowed)
    on_pypi = by_package_index.get(PYPI, set())
    parts = []
    if on_pypi:
        text = _range_text(on_pypi, known[PYPI])
        parts.append(option.phrase.format(text))
    for name in sorted(by_package_index):
        further = _outside(by_package_index[name], on_pypi)
        if further:
            text = _range_text(further, known[name])
            parts.append(f"{option.phrase.format(text)} from the index {name}")
    versions = ", or ".join(parts)
    source = allowed[0].build.source
    return Reason(f"{subject} works with {versions}", (source,))


Versions = dict[str, set[Version]]
"""Name of an index → the versions that it has."""


def _versions_by_package_index(
    option: Option, candidates: Iterable[Candidate]
) -> Versions:
    versions: Versions = defaultdict(set)
    if option.version_of is None:
        return versions
    for candidate in candidates:
        version = option.version_of(candidate)
        versions[candidate.package_index].add(version)
    return versions


def _outside(versions: set[Version], on_pypi: set[Version]) -> set[Version]:
    """Those that are older or newer than all that PyPI has: what lies between is no reason to use another index."""
    if not on_pypi:
        return versions
    oldest = min(on_pypi)
    newest = max(on_pypi)
    between = {version for version in versions if oldest <= version <= newest}
    return versions - between


def _range_text(versions: Collection[Version], known: Collection[Version]) -> str:
    """One or two versions, or those with a gap among the known ones, as a list; others as a range.

    `12.1 or newer` if these are all the known ones from 12.1 on, `12.1 to 12.8` if the known go on at both ends.
    """
    first = min(versions)
    last = max(versions)
    between = [version for version in known if first <= version <= last]
    has_gaps = len(between) > len(versions)
    if has_gaps or len(versions) < 3:
        return listed(sorted(versions))
    if last == max(known):
        return f"{first} or newer"
    if first == min(known):
        return f"{last} or older"
    return f"{first} to {last}"


def _too_old_glibc(conflict_only: Request, index: CandidateIndex) -> Objection:
    """What satisfies every option and still cannot run: it needs a newer glibc than its base has."""
    best = index.first(index.matching_on_any_glibc(conflict_only))
    if best is None:
        return None
    rows = look_up(conflict_only, index.catalog)
    return glibc_objection(rows, best)


# --- what works instead --------------------------------------------------------------------------------------------


def _suggestions(
    request: Request,
    conflict: Sequence[Option],
    index: CandidateIndex,
    diagnoses: Diagnoses,
) -> list[Request]:
    """Requests that resolve: each has one clashing option changed or dropped, and as much kept as can be."""
    requests: list[Request] = []
    if any(option.name == "platform" for option in conflict):
        requests += _on_other_platforms(request, conflict, index)
    for option in conflict:
        if option.name != "platform":
            requests += _changed(request, option, index, diagnoses)
    # What keeps all options, with one of them changed, comes before what drops one.
    requests.sort(key=_options_kept, reverse=True)
    complete = [_with_python(changed, index) for changed in requests]
    return list(dict.fromkeys(complete))


def _options_kept(request: Request) -> int:
    return len(texts_of_set_options(request)) + len(request.companions)


def _on_other_platforms(
    request: Request,
    conflict: Sequence[Option],
    index: CandidateIndex,
) -> Iterator[Request]:
    """The request on each platform that has the rest of the conflict, without what does not fit there either."""
    for platform in PLATFORMS:
        if platform == request.platform:
            continue
        other = replace(request, platform=platform)
        part = _matching_part(other, index, keep=conflict)
        if index.matching(part):
            yield part


def _changed(
    request: Request,
    option: Option,
    index: CandidateIndex,
    diagnoses: Diagnoses,
) -> list[Request]:
    """The request with another value of the option: what was probably meant, or what the rest of it resolves to."""
    diagnosis = diagnoses.get(option.name)
    if diagnosis and diagnosis.on_cpu:
        return _on_cpu(request, index)
    loosened = _loosened(request, option, index)
    changed = []
    for value in _values_to_try(request, option, loosened, index, diagnosis):
        other = option.set_in(loosened, value)
        if index.matching(other):
            changed.append(other)
    if not changed:
        return [loosened]
    if diagnosis and diagnosis.is_choice:
        return changed
    return changed[:1]


def _on_cpu(request: Request, index: CandidateIndex) -> list[Request]:
    """The request without a GPU, and without what only makes sense with one."""
    without = replace(request, gpu=None, driver=None, cuda=None, cudnn=None)
    part = _matching_part(replace(without, flavour=Flavour.CPU), index)
    return [part] if part.flavour is Flavour.CPU else []


def _values_to_try(
    request: Request,
    option: Option,
    loosened: Request,
    index: CandidateIndex,
    diagnosis: Diagnosis | None,
) -> Iterator[object]:
    if diagnosis:
        yield from diagnosis.instead
    allowed = index.candidates_in(index.matching(loosened))
    if allowed and option.try_instead:
        rows = look_up(request, index.catalog)
        nearest = option.nearest(allowed, rows)
        yield from option.try_instead(rows, nearest)


def _loosened(request: Request, option: Option, index: CandidateIndex) -> Request:
    """The request without the option and, if that is not enough, without as few others as possible."""
    return _matching_part(_without(request, option), index)


def _matching_part(
    request: Request,
    index: CandidateIndex,
    keep: Collection[Option] = (),
) -> Request:
    """The request without the fewest options that have to go; without all but `keep` if that is not enough."""
    droppable = [
        option
        for option in every_option(request)
        if option.is_set(request) and option not in keep
    ]
    for number in range(len(droppable) + 1):
        for dropped in combinations(droppable, number):
            loosened = _without(request, *dropped)
            if index.matching(loosened):
                return loosened
    return _without(request, *droppable)


def _with_python(request: Request, index: CandidateIndex) -> Request:
    """Puts `--python` back: `parse_request` requires it with a custom base."""
    base = base_name_of(request)
    if base is None or not base.needs_python:
        return request
    best = index.best(request)
    if best is None or request.python is not None:
        return request
    return replace(request, python=best.python)
