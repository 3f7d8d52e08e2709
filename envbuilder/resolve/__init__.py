"""From a request to a stack, or to the fewest options that clash.

How a request becomes an answer, each step in the module of its name:

    options             one table: how each option is parsed, written, judged, diagnosed and replaced
    parsers             text → value, by a closed grammar
    command_line        command-line options → `Request`, and back to a command that can be pasted
    request_rows        the GPU, the system and the versions that its values mean, looked up once
    candidates          every torch build × Python × base, with its facts, best first; once per catalog
    rules               what a request asks of a candidate: a reason against it, or none
    candidate_index     which candidates each value allows, as bits: a request is an AND, its answer the lowest bit
    stack               that candidate in full, as a `Stack`
    conflict            where no bit is left: the fewest options that clash, why, and commands that work
    companion_*         `--with vllm`: rules and masks as for options, and the release that the stack gets
    pin_days            the day of the packages that nobody pinned
    package_pins        the options that a package means: torch==2.0.1+cu117
    package_rules       what a range of torch, numpy or Python asks of a candidate; `package_refusal`: why none is left
    project_files/      requirements.txt, Dockerfile and the like → options, packages, an answer for each line
    refusal             what is wrong with a single value: unknown, ambiguous, malformed, unavailable
    suggest             the values worth trying in its place
    explain             why each of the others did not win, for `--explain`

Pure: no clock, no network, no environment.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from envbuilder.catalog import GONE_PACKAGES, own_folder, read
from envbuilder.catalog.rows import Advisory, Catalog
from envbuilder.errors import NoStackError
from envbuilder.model import Request, Stack
from envbuilder.resolve.base_check import check_base_options, check_compiler
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_stack import (
    add_companions,
    companion_spans,
    note_of_change,
)
from envbuilder.resolve.companion_table import with_companions
from envbuilder.resolve.conflict import no_stack_error
from envbuilder.resolve.implied_options import complete_request
from envbuilder.resolve.options import objections_to
from envbuilder.resolve.package_refusal import packages_error
from envbuilder.resolve.package_rules import package_objections
from envbuilder.resolve.pin_days import PinSpan, pin_day
from envbuilder.resolve.request_rows import look_up
from envbuilder.resolve.stack import make_stack
from envbuilder.resolve.system_packages import check_system_packages
from envbuilder.versions import listed

_FEW = 10  # packages that a message lists in full

__all__ = ["NoStackError", "advisories", "dated", "objections", "resolve", "winner"]


def resolve(
    request: Request,
    catalog: Catalog,
    *,
    verb: str = "resolve",
    flags: Sequence[str] = (),
) -> Stack:
    """The best stack for a request. Raises `NoStackError` with a minimal conflict.

    `verb`, `flags`: the command whose request it is, and its other options, for the commands that are suggested.
    """
    request = complete_request(with_companions(request, catalog), catalog)
    check_base_options(request, catalog)
    best = winner(request, catalog, verb=verb, flags=flags)
    rows = look_up(request, catalog)
    stack = add_companions(make_stack(rows, best), rows, best)
    if request.companions:
        plain = index_for(catalog).best(replace(request, companions=()))
        note = note_of_change(stack, rows, best, plain)
        if note:
            stack = replace(stack, notes=(note, *stack.notes))
    check_compiler(request, stack)
    if request.apt:
        gone = read(GONE_PACKAGES, own=own_folder(catalog))
        check_system_packages(request, stack, gone, verb=verb, flags=flags)
    return stack


def dated(
    stack: Stack, request: Request, catalog: Catalog, spans: Iterable[PinSpan]
) -> tuple[Stack, tuple[str, ...]]:
    """The stack as of the time of what the request pins, and what there is to say of it.

    `spans`: the days of the packages that it pins.
    """
    request = complete_request(with_companions(request, catalog), catalog)
    candidate = _candidate_of(stack, request, catalog)
    if candidate is None:
        return stack, ()
    rows = look_up(request, catalog)
    alone = pin_day(rows, candidate)
    every = list(spans)
    if not every:
        return stack, tuple(note for note in alone.notes if note in stack.notes)
    if request.companions:
        every += companion_spans(rows, candidate, stack.as_of)
    pins = pin_day(rows, candidate, every)
    notes = [note for note in stack.notes if note not in alone.notes]
    stack = replace(
        stack,
        as_of=pins.day,
        notes=(*notes, *pins.notes),
        package_days=tuple(pins.package_days(request.packages)),
    )
    return stack, pins.notes


def winner(
    request: Request,
    catalog: Catalog,
    *,
    verb: str = "resolve",
    flags: Sequence[str] = (),
) -> Candidate:
    """The candidate that becomes the stack. Raises `NoStackError` with a minimal conflict."""
    index = index_for(catalog)
    best = index.best(request)
    if best is not None:
        return best
    if index.matching(request):
        raise packages_error(request, index, verb=verb, flags=flags)
    raise no_stack_error(request, index, verb=verb, flags=flags)


def advisories(stack: Stack, catalog: Catalog) -> list[Advisory]:
    """The vulnerabilities that are known of a stack's torch."""
    return [
        row
        for row in catalog.advisories
        if row.package == "torch" and stack.torch < row.fixed
    ]


def objections(request: Request, stack: Stack, catalog: Catalog) -> list[str]:
    """Why a stack that was locked before does not answer a request; empty if it does."""
    request = with_companions(request, catalog)
    reasons = _differences(request, stack)
    candidate = _candidate_of(stack, request, catalog)
    if candidate is None:
        reasons.append(f"the catalog has no {_combination_text(stack)}")
        return reasons
    rows = look_up(request, catalog)
    for reason in objections_to(rows, candidate):
        reasons.append(reason.text)
    for reason in package_objections(request, candidate):
        reasons.append(reason.text)
    return reasons


def _differences(request: Request, stack: Stack) -> list[str]:
    """Where the request differs from the stack."""
    differences = []
    if stack.platform != request.platform:
        differences.append(f"it is for {stack.platform}, not {request.platform}")
    if stack.flavour != request.flavour:
        differences.append(f"its flavour is {stack.flavour}, not {request.flavour}")
    differences += _package_differences("packages", stack.own_extras, request.packages)
    differences += _package_differences(
        "companions", stack.companion_requests, request.companions
    )
    differences += _package_differences(
        "constraints", stack.constraints, request.constraints
    )
    differences += _system_package_differences(request, stack)
    day = request.as_of or stack.as_of
    if day != stack.as_of:
        differences.append(f"its packages are as of {stack.as_of}, not {day}")
    return differences


def _package_differences(
    label: str, locked: Sequence[str], requested: Sequence[str]
) -> list[str]:
    """Nothing, or one line; of a project's many packages only those that differ."""
    if sorted(locked) == sorted(requested):
        return []
    if len(locked) + len(requested) <= _FEW:
        had = listed(locked) or "none"
        wanted = listed(requested) or "none"
        return [f"its {label} are {had}, not {wanted}"]
    missing = set(requested).difference(locked)
    further = set(locked).difference(requested)
    lacking = listed(sorted(missing)) or "none"
    surplus = listed(sorted(further)) or "none"
    text = f"its {label} lack {lacking}, and have {surplus} in addition"
    return [text]


def _system_package_differences(request: Request, stack: Stack) -> list[str]:
    if stack.own_apt == request.apt:
        return []
    locked = listed(stack.own_apt) or "none"
    requested = listed(request.apt) or "none"
    return [f"its system packages are {locked}, not {requested}"]


def _candidate_of(stack: Stack, request: Request, catalog: Catalog) -> Candidate | None:
    """The candidate that became this stack."""
    index = index_for(catalog)
    for candidate in index.candidates:
        if _is_of(candidate, stack, request):
            return candidate
    return None


def _combination_text(stack: Stack) -> str:
    """All that `_is_of` compares."""
    cuda = f"for CUDA {stack.cuda}" if stack.cuda else "without CUDA"
    return f"torch {stack.torch} {cuda} on Python {stack.python} for {stack.platform}, on {stack.base.reference}"


def _is_of(candidate: Candidate, stack: Stack, request: Request) -> bool:
    """Whether the candidate is the stack's; a custom base has the name that the request gives it."""
    build = candidate.build
    if build.torch != stack.torch:
        return False
    cuda = None if candidate.cpu else build.cuda
    if cuda != stack.cuda:
        return False
    if candidate.python != stack.python:
        return False
    if candidate.platform != stack.platform:
        return False
    if candidate.custom != stack.base.own:
        return False  # policy's own image, named by the user, is on a custom base
    reference = candidate.base.reference or request.base
    return reference == stack.base.reference
