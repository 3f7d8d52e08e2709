"""Why nothing fits a request: the fewest of its options that clash, the facts behind it, and what works instead."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from packaging.version import Version

from envbuilder.catalog.rows import PYPI
from envbuilder.errors import NoStackError
from envbuilder.grammar import PLATFORMS
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Request
from envbuilder.resolve.candidate_index import CandidateIndex
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.command_line import command, context_flags
from envbuilder.resolve.options import OPTIONS, Option, diagnose_unknown, objections_to
from envbuilder.resolve.refusal import Diagnosis
from envbuilder.resolve.resolved_request import look_up
from envbuilder.resolve.rules import Reason, driver_gpu_mismatch, glibc_is_new_enough
from envbuilder.versions import listed

Diagnoses = Mapping[str, Diagnosis]
"""Name of an option → why the catalog cannot judge its value."""


def no_stack_error(request: Request, index: CandidateIndex) -> NoStackError:
    """The error for a request that no candidate matches."""
    diagnoses = diagnose_unknown(look_up(request, index.catalog))
    conflict = smallest_conflict(request, index, diagnoses)
    suggestions = _suggestions(request, conflict, index, diagnoses)
    values = [(option.hyphenated, option.text_in(request)) for option in conflict]
    if len(conflict) == 1 and conflict[0].name in diagnoses:
        return _error_of_one_value(conflict[0], values, suggestions, diagnoses)
    reasons = _reasons(_only(request, conflict), conflict, index)
    reasons += [Reason(diagnosis.text) for diagnosis in diagnoses.values()]
    phrases = [option.phrase_in(request) for option in conflict]
    message = f"no stack has {' and '.join(phrases) or 'anything: the catalog has no candidate'}"
    return NoStackError(
        # "driver 390 is too old: …" says it all.
        reasons[0].text if len(conflict) == 1 else message,
        conflict=values,
        reasons=[reason.with_sources for reason in reasons],
        plain_reasons=[reason.text for reason in reasons],
        suggestions=suggestions,
        advice=conflict[0].advice if len(conflict) == 1 else "",
    )


def _error_of_one_value(
    option: Option,
    values: Sequence[tuple[str, str]],
    suggestions: Sequence[str],
    diagnoses: Diagnoses,
) -> NoStackError:
    """A value that the catalog cannot judge; other such values of the request are reported with it."""
    diagnosis = diagnoses[option.name]
    others = [other.text for name, other in diagnoses.items() if name != option.name]
    known = [diagnosis.known] if diagnosis.known else []
    return NoStackError(
        diagnosis.problem,
        conflict=values,
        reasons=[diagnosis.text, *others],
        problems=known + others,
        suggestions=suggestions,
        advice=diagnosis.advice,
    )


# --- the conflict --------------------------------------------------------------------------------------------------


def smallest_conflict(request: Request, index: CandidateIndex, unknown: Collection[str] = ()) -> list[Option]:
    """The fewest options that no candidate satisfies together; what is unknown comes first among as few.

    The platform, set or not, is one of them if the others fit on another one.
    """
    options = [option for option in OPTIONS if option.is_set(request) and option.name != "platform"]
    options.sort(key=lambda option: option.name not in unknown)
    anywhere = replace(request, platform=None)  # type: ignore[arg-type]
    for number in range(len(options) + 1):
        for some in combinations(options, number):
            names = {option.name for option in some} | {"platform"}
            if index.matching(request, names):
                continue
            if not index.matching(anywhere, names):
                names.remove("platform")
            return [option for option in OPTIONS if option.name in names]
    raise AssertionError("a request that some candidate matches has no conflict")


def _only(request: Request, options: Collection[Option]) -> Request:
    """The request with no other option set; the platform is what it is, in the conflict or not."""
    return _without(request, *(option for option in OPTIONS if option not in options and option.name != "platform"))


def _without(request: Request, *options: Option) -> Request:
    defaults = {option.name: option.default for option in options}
    return replace(request, **defaults)  # type: ignore[arg-type]


# --- the reasons ---------------------------------------------------------------------------------------------------


def _reasons(core: Request, conflict: Sequence[Option], index: CandidateIndex) -> list[Reason]:
    """Why the options of a conflict clash, first what a person would say first."""
    wanted = look_up(core, index.catalog)
    mismatch = driver_gpu_mismatch(wanted)
    if mismatch:
        return [mismatch]
    if len(conflict) == 1 and conflict[0].diagnose_unavailable:
        unavailable = conflict[0].diagnose_unavailable(wanted)
        if unavailable:
            return [unavailable]
    # An option with values in an order says what there is instead ("works with CUDA 12.1 or newer"), which makes sense
    # once it is clear what is wrong; so the other options' objections ("needs sm_90") come first.
    reasons: dict[Reason, None] = {}
    for option in sorted(conflict, key=lambda option: option.version_of is not None):
        for reason in _reasons_of(option, core, conflict, index):
            reasons[reason] = None
    too_old = _too_old_glibc(core, index)
    if too_old:
        reasons[too_old] = None
    return list(reasons)


def _reasons_of(
    option: Option,
    core: Request,
    conflict: Sequence[Option],
    index: CandidateIndex,
) -> list[Reason]:
    """What speaks for one option of a conflict against the stacks that the others allow."""
    is_about_platform = any(other.name == "platform" for other in conflict)
    others = _without(core, option)
    if not is_about_platform:
        others = replace(others, platform=None)  # type: ignore[arg-type]
    allowed = index.candidates_in(index.matching(others))
    if not allowed:
        return []
    if option.version_of and len(conflict) > 1:
        subject = " with ".join(other.phrase_in(core) for other in conflict if other is not option)
        return [_works_with(subject, option, allowed, index)]
    nearest = option.nearest(allowed)
    here = core if is_about_platform else replace(core, platform=nearest.platform)
    return objections_to(look_up(here, index.catalog), nearest)


def _works_with(subject: str, option: Option, allowed: Sequence[Candidate], index: CandidateIndex) -> Reason:
    """`GPU H100 works with CUDA 12.1 or newer, or CUDA 11.8 from the index pytorch-cu118`."""
    by_index = _versions_by_index(option, allowed)
    known = _versions_by_index(option, index.candidates)
    on_pypi = by_index.pop(PYPI, set())
    parts = []
    if on_pypi:
        parts.append(option.phrase.format(_range_text(on_pypi, known[PYPI])))
    for name, versions in sorted(by_index.items()):
        # What another index has between two versions that PyPI has helps nobody.
        further = {version for version in versions if not on_pypi or not min(on_pypi) <= version <= max(on_pypi)}
        if further:
            parts.append(f"{option.phrase.format(_range_text(further, known[name]))} from the index {name}")
    return Reason(
        f"{subject} works with {', or '.join(parts)}",
        (allowed[0].build.source,),
    )


def _versions_by_index(option: Option, candidates: Iterable[Candidate]) -> dict[str, set[Version]]:
    versions: dict[str, set[Version]] = {}
    for candidate in candidates:
        if option.version_of:
            versions.setdefault(candidate.index, set()).add(option.version_of(candidate))
    return versions


def _range_text(versions: Collection[Version], known: Collection[Version]) -> str:
    """`12.1 or newer` if these are all the known ones from 12.1 on; else as short as can be."""
    first, last = min(versions), max(versions)
    between = {version for version in known if first <= version <= last}
    if len(versions) < 3 or len(between) > len(versions):
        return listed(sorted(versions))
    if last == max(known):
        return f"{first} or newer"
    if first == min(known):
        return f"{last} or older"
    return f"{first} to {last}"


def _too_old_glibc(core: Request, index: CandidateIndex) -> Reason | None:
    """What satisfies every option and still cannot run: it needs a newer glibc than its base has."""
    mask = -1
    for option in OPTIONS:
        mask &= index.mask_for(option, option.value_in(core))
    best = index.first(mask)
    return glibc_is_new_enough(look_up(core, index.catalog), best) if best else None


# --- what works instead --------------------------------------------------------------------------------------------


def _suggestions(
    request: Request,
    conflict: Sequence[Option],
    index: CandidateIndex,
    diagnoses: Diagnoses,
) -> list[str]:
    """Commands that resolve: each has one clashing option changed or dropped, and as much kept as can be."""
    requests: list[Request] = []
    names = {option.name for option in conflict}
    if "platform" in names:
        requests += _on_other_platforms(request, index)
    for option in conflict:
        if option.name != "platform" or not requests:
            requests += _changed(request, option, index, diagnoses)
    flags = context_flags(index.catalog)
    commands: dict[str, None] = {}
    for changed in requests:
        complete = _with_python(changed, index)
        commands[command(complete, instead_of=request, flags=flags)] = None
    return list(commands)


def _on_other_platforms(request: Request, index: CandidateIndex) -> Iterator[Request]:
    for platform in PLATFORMS:
        other = replace(request, platform=platform)
        if index.matching(other):
            yield other


def _changed(request: Request, option: Option, index: CandidateIndex, diagnoses: Diagnoses) -> list[Request]:
    """The request with another value of the option: what was probably meant, or what the rest of it resolves to."""
    loosened = _loosened(request, option, index)
    diagnosis = diagnoses.get(option.name)
    changed = []
    for value in _values_to_try(request, option, loosened, index, diagnosis):
        other = replace(loosened, **{option.name: value})  # type: ignore[arg-type]
        if index.matching(other):
            changed.append(other)
    if diagnosis and diagnosis.is_choice:
        return changed or [loosened]
    return changed[:1] or [loosened]


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
        wanted = look_up(request, index.catalog)
        yield from option.try_instead(wanted, option.nearest(allowed))


def _loosened(request: Request, option: Option, index: CandidateIndex) -> Request:
    """The request without the option, and without as few others as can be if there is another conflict in it."""
    others = [other for other in OPTIONS if other.is_set(request) and other is not option]
    for number in range(len(others) + 1):
        for dropped in combinations(others, number):
            fewer = _without(request, option, *dropped)
            if index.matching(fewer):
                return fewer
    return _without(request, *OPTIONS)


def _with_python(request: Request, index: CandidateIndex) -> Request:
    """A custom base goes with a Python: which one it has cannot be known."""
    if request.base in (BASE_AUTO, BASE_BOOTSTRAP) or request.python is not None:
        return request
    best = index.best(request)
    return replace(request, python=best.python) if best else request
