"""Why nothing fits a request: the fewest of its options that clash, the facts behind it, and what works instead."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from packaging.version import Version

from envbuilder.catalog.gpus import driver_text
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.grammar import PLATFORMS
from envbuilder.model import ANY, BASE_AUTO, BASE_BOOTSTRAP, Request
from envbuilder.resolve.candidate_index import DEFAULTS, OPTIONS, Choice
from envbuilder.resolve.command_line import option_name
from envbuilder.resolve.refusal import impossible, unknown
from envbuilder.resolve.rules import glibc_is_new_enough, objections_to, strangers
from envbuilder.resolve.suggest import values_to_try

_ANY = Request()


def given(request: Request) -> tuple[tuple[str, str], ...]:
    """The options that narrow the choice, as (name, value)."""
    values = ((name, getattr(request, name)) for name in OPTIONS)
    return tuple((name, _text(name, value)) for name, value in values if value != DEFAULTS[name])


def _text(name: str, value: object) -> str:
    return driver_text(value) if name == "driver" and isinstance(value, Version) else str(value)


def beside(catalog: Catalog) -> tuple[str, ...]:
    """What a command needs beside the request, to be answered by this catalog."""
    return (f"--catalog {shlex.quote(catalog.own)}",) if catalog.own else ()


def command(request: Request, verb: str = "resolve", *, instead_of: Request = _ANY, beside: Sequence[str] = ()) -> str:
    """The request as a command that can be pasted, with the words that stand beside it.

    What `instead_of` has and the request does not is said too, for it may stand in `envbuilder.toml`.
    """
    dropped = {name for name, _ in given(instead_of)} - {name for name, _ in given(request)}
    words = [f"--{option_name(name)} {shlex.quote(value)}" for name, value in given(request)]
    words += [f"--{option_name(name)} {DEFAULTS[name] or ANY}" for name in OPTIONS if name in dropped]
    words += [f"--package {shlex.quote(line)}" for line in request.packages]
    return " ".join(["envbuilder", verb, *words, *beside])


def refusal(request: Request, choice: Choice) -> NoStackError:
    """The error for a request that no candidate fits."""
    names = smallest_conflict(request, choice)
    core = _only(request, (*names, "platform"))  # the platform is what it is, in the conflict or not
    strange = {name: reason for name, _ in given(request) if (reason := unknown(name, request, choice.catalog))}
    conflict = tuple((option_name(name), _text(name, getattr(request, name))) for name in names)
    said = " and ".join(f"{name} {value}" for name, value in conflict) or "anything: the catalog has no candidate"
    is_unknown = len(names) == 1 and names[0] in strange
    reasons = [*([] if is_unknown else _reasons(core, names, choice)), *strange.values()]
    return NoStackError(
        f"{said} is unknown" if is_unknown else f"no stack has {said}",
        conflict=conflict,
        reasons=reasons,
        suggestions=_suggestions(request, names, choice),
    )


def smallest_conflict(request: Request, choice: Choice) -> tuple[str, ...]:
    """The fewest options that no candidate fits together; what is unknown comes first among as few.

    The platform, said or not, is one of them if the others fit on another one.
    """
    names = [name for name, _ in given(request) if name != "platform"]
    names.sort(key=lambda name: not unknown(name, request, choice.catalog))
    anywhere = replace(request, platform=None)  # type: ignore[arg-type]
    for number in range(len(names) + 1):
        for some in combinations(names, number):
            if not choice.fitting(request, (*some, "platform")):
                elsewhere = choice.fitting(anywhere, (*some, "platform"))
                return tuple(name for name in OPTIONS if name in some or (name == "platform" and elsewhere))
    raise AssertionError("a request that some candidate fits has no conflict")


def _only(request: Request, names: Sequence[str]) -> Request:
    return _without(request, *(name for name in OPTIONS if name not in names))


def _without(request: Request, *names: str) -> Request:
    return replace(request, **{name: DEFAULTS[name] for name in names})  # type: ignore[arg-type]


def _reasons(core: Request, names: Sequence[str], choice: Choice) -> list[str]:
    """For each clashing option, what speaks against the best stack that the others allow."""
    told: dict[str, None] = {}
    apart = strangers(core, choice.catalog)
    if apart:
        return [apart]
    if len(names) == 1:
        told |= dict.fromkeys(impossible(names[0], core, choice.catalog))
    for name in [] if told else names:
        fewer = _without(core, name)
        best = choice.best(fewer if "platform" in names else replace(fewer, platform=None))  # type: ignore[arg-type]
        if best is not None:
            here = core if "platform" in names else replace(core, platform=best.platform)
            told |= dict.fromkeys(objections_to(here, best, choice.catalog))
    return [*told, *(reason for reason in _of_glibc(core, choice) if reason not in told)]


def _of_glibc(core: Request, choice: Choice) -> Iterator[str]:
    """What answers every option and still cannot run: it needs a newer glibc than its base has."""
    left = -1
    for option in OPTIONS:
        left &= choice.left(option, getattr(core, option))
    best = choice.first(left)
    reason = glibc_is_new_enough(core, best, choice.catalog) if best else None
    if reason:
        yield reason


# --- what works instead --------------------------------------------------------------------------------------------


def _suggestions(request: Request, conflict: Sequence[str], choice: Choice) -> list[str]:
    """Each a request that resolves, with one clashing option changed or dropped and as much kept as can be."""
    found: dict[str, None] = {}
    words = beside(choice.catalog)
    elsewhere = [replace(request, platform=platform) for platform in PLATFORMS if "platform" in conflict]
    for other in filter(choice.fitting, elsewhere):
        found[command(_complete(other, choice), instead_of=request, beside=words)] = None
    for name in [name for name in conflict if name != "platform" or not found]:
        loosened = _loosened(request, name, choice)
        changed = _complete(_changed(loosened, name, request, choice), choice)
        found[command(changed, instead_of=request, beside=words)] = None
    return list(found)


def _loosened(request: Request, name: str, choice: Choice) -> Request:
    """`request` without `name`, and without as few others as can be if another conflict stands beside this one."""
    others = [option for option, _ in given(request) if option != name]
    for number in range(len(others) + 1):
        for dropped in combinations(others, number):
            fewer = _without(request, name, *dropped)
            if choice.fitting(fewer):
                return fewer
    return _without(request, *OPTIONS)


def _changed(loosened: Request, name: str, request: Request, choice: Choice) -> Request:
    """`loosened` with the option set again: to what looks most like what was said, or to what it resolves to."""
    best = choice.best(loosened)
    if best is None:
        return loosened
    for value in values_to_try(name, request, best, choice.catalog):
        changed = replace(loosened, **{name: value})  # type: ignore[arg-type]
        if choice.fitting(changed):
            return changed
    return loosened


def _complete(request: Request, choice: Choice) -> Request:
    """A base of one's own goes with a Python: which one it has cannot be known."""
    best = choice.best(request)
    if request.base in (BASE_AUTO, BASE_BOOTSTRAP) or request.python is not None or best is None:
        return request
    return replace(request, python=best.python)
