"""The companions of a request in its stack: one release each, pinned, what it needs in addition, its day, and notes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.rows import Evidence
from envbuilder.model import PackageDay, Request, Stack, StackCompanion
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_facets import subject_of
from envbuilder.resolve.companion_rules import CompanionJudge, first_together
from envbuilder.resolve.companion_table import (
    is_of_torch,
    is_pre_release,
    names_of,
    parsed,
    range_of,
    releases_meant,
)
from envbuilder.resolve.package_pins import exact_pin
from envbuilder.resolve.pin_days import PinSpan, day_before, pin_day
from envbuilder.resolve.request_rows import RequestRows

_SOURCE_KINDS = {
    CompanionKind.PURE_SOURCE: "has no wheel: it is built from its source archive, which needs no compiler",
    CompanionKind.CUDA_SOURCE: "has no wheel: its CUDA sources are compiled against this torch, which takes long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionChoice:
    """A companion of a request, and the row whose newest release it gets."""

    text: str
    row: Companion


def choose(
    rows: RequestRows, candidate: Candidate, day: date
) -> tuple[CompanionChoice, ...]:
    """The newest releases that fit the candidate and each other; what came after `day` only where nothing else fits."""
    fitting = CompanionJudge(rows.request, rows.catalog).releases_on(candidate)
    for releases in fitting:
        releases.sort(key=lambda row: _is_after(row, day))
    chosen = first_together(fitting)
    if chosen is None:
        raise AssertionError(
            "the index found a candidate that its companions do not fit"
        )
    pairs = zip(rows.request.companions, chosen, strict=True)
    return tuple(CompanionChoice(text=text, row=row) for text, row in pairs)


def _is_after(row: Companion, day: date) -> bool:
    return bool(row.released and row.released > day)


def add_companions(stack: Stack, rows: RequestRows, candidate: Candidate) -> Stack:
    """The stack with the companions of its request."""
    request = rows.request
    if not request.companions:
        return stack
    choices = choose(rows, candidate, stack.as_of)
    pins = pin_day(rows, candidate, _spans(choices))
    day = pins.day
    taken = names_of(request.companions) | {
        canonicalize_name(Requirement(line).name)
        for line in (*stack.requirements, *stack.extras)
    }
    judge = CompanionJudge(request, rows.catalog)
    companions = []
    for choice in choices:
        row = choice.row
        needs = tuple(_needs(row, candidate, judge, day, taken))
        taken |= names_of(needs)
        needs_apt = [name for name in row.needs_apt if name not in stack.apt]
        companion = StackCompanion(
            request=choice.text,
            requirement=_requirement(choice, candidate, day),
            needs=needs,
            needs_apt=tuple(needs_apt),
        )
        companions.append(companion)
    extras = list(stack.extras)
    apt = set(stack.apt)
    for companion in companions:
        extras += [companion.requirement, *companion.needs]
        apt.update(companion.needs_apt)
    alone = pin_day(rows, candidate)
    notes = [note for note in stack.notes if note not in alone.notes]
    return replace(
        stack,
        as_of=day,
        extras=tuple(sorted(extras)),
        apt=tuple(sorted(apt)),
        companions=tuple(companions),
        notes=(*notes, *pins.notes, *_notes(choices)),
        package_days=without_companions(pins.package_days(request.packages), request),
        evidence=_weakest(stack, choices),
    )


def companion_spans(rows: RequestRows, candidate: Candidate) -> Iterator[PinSpan]:
    """The days on which the companions of a request were the newest, so that what is of their time goes with them."""
    if not rows.request.companions:
        return
    alone = pin_day(rows, candidate)
    yield from _spans(choose(rows, candidate, alone.day))


def _spans(choices: Sequence[CompanionChoice]) -> Iterator[PinSpan]:
    for choice in choices:
        row = choice.row
        last = None
        if row.next_released and not is_of_torch(row.name):
            last = day_before(row.next_released)
        yield PinSpan(
            pin=f"{row.name} {row.last}",
            first=row.released or date.min,
            last=last,
        )


def without_companions(
    days: Iterable[PackageDay], request: Request
) -> tuple[PackageDay, ...]:
    """The packages with a day of their own; a companion has the release that was chosen for it."""
    names = names_of(request.companions)
    return tuple(day for day in days if day.name not in names)


def _requirement(choice: CompanionChoice, candidate: Candidate, day: date) -> str:
    """`vllm==0.33.0`; where the newest release may be younger than the day, the row's bounds: uv knows the days."""
    row = choice.row
    wanted = parsed(choice.text)
    extras = set(wanted.extras) | set(_own_extras(row, candidate))
    name = row.name
    if extras:
        name += f"[{','.join(sorted(extras))}]"
    bounds = str(wanted.specifier)
    if exact_pin(wanted) and not bounds.endswith(".*"):
        return f"{name}{bounds}"
    if row.last is None or row.first is None:
        raise AssertionError("a row without releases was chosen")
    is_allowed = wanted.specifier.contains(row.last, prereleases=True)
    if is_allowed and _has_last(row, day):
        return f"{name}=={row.last}"
    both = SpecifierSet(range_of(row)) & wanted.specifier
    requirement = Requirement(f"{name}{both}")
    return str(requirement)


def _has_last(row: Companion, day: date) -> bool:
    """Whether the index of a day has the last release of a row."""
    if row.first == row.last:
        return True
    if row.next_released:
        eve = row.next_released - timedelta(days=1)
        return day >= eve
    return day >= row.checked


def _own_extras(row: Companion, candidate: Candidate) -> Iterator[str]:
    """The extras of a meta package that bring what it is about: that for the candidate's CUDA."""
    for line in _lines_of(row, candidate):
        needed = parsed(line)
        name = canonicalize_name(needed.name)
        if name != row.name:
            continue
        yield from needed.extras


def _needs(
    row: Companion,
    candidate: Candidate,
    judge: CompanionJudge,
    day: date,
    taken: set[str],
) -> Iterator[str]:
    """The packages to install next to a companion, without those that are there anyway; companions are pinned too."""
    for line in _lines_of(row, candidate):
        needed = parsed(line)
        name = canonicalize_name(needed.name)
        if name == row.name or name in taken:
            continue
        choice = _choice_for(line, candidate, judge)
        yield _requirement(choice, candidate, day) if choice else line


def _choice_for(
    line: str, candidate: Candidate, judge: CompanionJudge
) -> CompanionChoice | None:
    """The newest release of what another companion needs; None for a package that is none, or where none fits."""
    releases = releases_meant(line, judge.catalog)
    row = judge.newest(releases, candidate)
    if row is None:
        return None
    return CompanionChoice(text=line, row=row)


def _lines_of(row: Companion, candidate: Candidate) -> Sequence[str]:
    """What the catalog says that a row needs on the candidate's CUDA."""
    if candidate.cpu:
        return row.needs
    major = str(candidate.build.cuda.major)
    return (*row.needs, *row.needs_for.get(major, ()))


# --- notes and evidence --------------------------------------------------------------------------------------------


def _notes(choices: Sequence[CompanionChoice]) -> Iterator[str]:
    for choice in choices:
        row = choice.row
        name = row.name
        says = row.says
        if says and not is_pre_release(row):
            if not says.startswith(name):
                says = f"{name}: {says}"
            yield says
        elif row.kind in _SOURCE_KINDS:
            yield f"{subject_of(row)} {_SOURCE_KINDS[row.kind]}"


def _weakest(stack: Stack, choices: Sequence[CompanionChoice]) -> str:
    statuses = [Evidence(stack.evidence)]
    for choice in choices:
        row = choice.row
        of_fields = row.field_status.values()
        statuses.append(row.status)
        statuses += of_fields
    order = list(Evidence)
    return max(statuses, key=order.index).value


def note_of_change(
    stack: Stack, rows: RequestRows, best: Candidate, plain: Candidate | None
) -> str:
    """Why the stack is not the one that the request would get without companions; "" if it is."""
    if plain is None:
        return ""
    if plain is best:
        return ""
    catalog = rows.catalog
    judge = CompanionJudge(rows.request, catalog)
    reasons = []
    for companion in stack.companions:
        pinned = releases_meant(companion.requirement, catalog)
        for row in pinned:
            problem = judge.problem(row, plain)
            reason, _, _ = problem.partition(";")
            if reason:
                reasons.append(reason)
    each_once = list(dict.fromkeys(reasons))
    why = " and ".join(each_once) or "the companions need it"
    difference = _difference(best, plain)
    return f"{difference}: {why}"


def _difference(best: Candidate, plain: Candidate) -> str:
    if best.build is not plain.build:
        here = _torch_text(best)
        other = _torch_text(plain)
        return f"{here}, not {other}"
    if best.python != plain.python:
        return f"Python {best.python}, not {plain.python}"
    here = best.base.os
    other = plain.base.os
    return f"{here}, not {other}"


def _torch_text(candidate: Candidate) -> str:
    if candidate.cpu:
        return candidate.name
    return f"torch {candidate.build.torch} for CUDA {candidate.cuda_line}"
