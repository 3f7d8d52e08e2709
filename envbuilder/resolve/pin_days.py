"""The day of the packages that nobody pinned: they are of the time of what was pinned.

Packages do not declare the upper bounds that would keep them working, so that what is not pinned has to be as old as
what is. A version that is pinned is the newest of its package for some days; the index is read on the last day on
which all of them were, or else on the first day that has them all. docs/decisions/0039 says why.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.catalog.rows import TransformersRelease
from envbuilder.model import PackageDay
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.request_rows import RequestRows

FOLLOWERS = (
    "accelerate",
    "adapters",
    "optimum",
    "peft",
    "sentence-transformers",
    "setfit",
    "trl",
)
"""Packages that use what is inside transformers, or that it uses so: their metadata has no upper bounds."""
_LINE = 2  # numbers of a version that are its minor line


@dataclass(frozen=True, slots=True, kw_only=True)
class PinSpan:
    """The days on which a pinned version was the newest of its package."""

    pin: str  # "transformers 4.36.2"
    first: date  # on which it was released
    last: date | None  # None: it still is the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class PinDay:
    """The day that follows from pins, and what to say of it."""

    day: date
    notes: tuple[str, ...] = ()  # none: no pin has moved it
    followers: date | None = None
    """The day of `FOLLOWERS`, where `day` is too new for the transformers that is pinned."""

    def package_days(self, packages: Iterable[str]) -> Iterator[PackageDay]:
        """The followers with a day of their own: those of which the user has not pinned a version."""
        if self.followers is None:
            return
        pinned = _pinned(packages)
        for name in FOLLOWERS:
            if name not in pinned:
                yield PackageDay(name=name, as_of=self.followers)


def day_of_pins(spans: Sequence[PinSpan], newest: date) -> PinDay:
    """The last day, up to `newest`, on which every pin was the newest of its package; else the first that has all."""
    day = newest
    note = ""
    for span in spans:
        if span.last is not None and span.last < day:
            day = span.last
            note = (
                f"packages are as of {day}, the last day on which {span.pin} was the newest; "
                "`--as-of DATE` reads the index on another"
            )
    for span in spans:
        if span.first > day:
            day = span.first
            note = f"packages are as of {day}, for {span.pin} is not older; `--as-of DATE` reads the index on another"
    return PinDay(day=day, notes=(note,) if note else ())


def pin_day(
    rows: RequestRows, candidate: Candidate, spans: Iterable[PinSpan] = ()
) -> PinDay:
    """The day for a candidate; `spans` are those of packages, which only an index knows."""
    request = rows.request
    if request.as_of:
        return PinDay(day=request.as_of)
    build = candidate.build
    newest = _newest_day(rows, candidate)
    of_transformers = list(_spans_of_transformers(rows))
    every = [_span_of_torch(rows, candidate, newest), *of_transformers, *spans]
    found = day_of_pins(every, newest)
    if found.day == max(newest, build.released):
        # The day of the torch alone: pins have not moved it.
        found = PinDay(day=found.day)
    return _with_followers(found, rows, of_transformers)


def first_day(rows: RequestRows, candidate: Candidate) -> date:
    """The first day that has the torch and the transformers of a stack."""
    day = candidate.build.released
    for span in _spans_of_transformers(rows):
        day = max(day, span.first)
    return day


def _newest_day(rows: RequestRows, candidate: Candidate) -> date:
    """The day before the first transformers that may not work, or the newest settled day, if that is earlier."""
    run = candidate.transformers_run
    settle = _settle_time(rows)
    day = rows.catalog.date - settle
    if run and run.next_released:
        before = day_before(run.next_released)
        day = min(day, before)
    return day


def _span_of_torch(rows: RequestRows, candidate: Candidate, newest: date) -> PinSpan:
    """From when what goes with a torch has followed it. Its last day is that of the newest transformers on it."""
    build = candidate.build
    released = build.released
    settle = _settle_time(rows)
    # A row of a catalog can have any day.
    latest = date.max - settle
    followed = min(released, latest) + settle
    first = min(followed, newest)
    return PinSpan(
        pin=f"torch {build.torch}",
        first=max(first, released),
        last=None,
    )


def _settle_time(rows: RequestRows) -> timedelta:
    days = rows.catalog.policy.as_of.settle_days
    return timedelta(days=days)


def day_before(day: date) -> date:
    """The day before; a row of a catalog can have any day, and the first of all has none before it."""
    if day == date.min:
        return day
    return day - timedelta(days=1)


# --- transformers, whose days the catalog knows --------------------------------------------------------------------


def _spans_of_transformers(rows: RequestRows) -> Iterator[PinSpan]:
    """Of the minor line that is pinned; a major version alone leaves it open."""
    version = rows.request.transformers
    if version is None or len(version.release) < _LINE:
        return
    for row in rows.transformers:
        yield _span_of(row, version, rows.catalog.transformers_releases)


def _span_of(
    row: TransformersRelease, version: Version, releases: Sequence[TransformersRelease]
) -> PinSpan:
    """From the newest patch of a line to the day before the next line. Of other patches no days are known."""
    following: TransformersRelease | None = None
    for other in releases:
        if other.transformers <= row.transformers:
            continue
        if following is None or other.transformers < following.transformers:
            following = other
    last = None
    if following is not None:
        began = following.began or following.released
        last = day_before(began)
    return PinSpan(
        pin=f"transformers {version}",
        first=row.released,
        last=last,
    )


def _with_followers(
    found: PinDay, rows: RequestRows, spans: Sequence[PinSpan]
) -> PinDay:
    """The day of the followers too, where something newer has moved the day behind transformers' last one."""
    for span in spans:
        if span.last is None or found.day <= span.last:
            continue
        day = max(span.first, span.last)
        note = (
            f"what uses the insides of transformers (accelerate, peft, …) is as of {day}, with {span.pin}; "
            f"everything else as of {found.day}"
        )
        return replace(found, notes=(*found.notes, note), followers=day)
    return found


def _pinned(packages: Iterable[str]) -> set[str]:
    names: set[str] = set()
    for text in packages:
        requirement = Requirement(text)
        if not is_pinned(requirement):
            continue
        name = canonicalize_name(requirement.name)
        names.add(name)
    return names


def is_pinned(requirement: Requirement) -> bool:
    """Whether a package has one version: `==1.2`, `==1.2.*`, or a file of its own."""
    if requirement.url:
        return True
    for clause in requirement.specifier:
        if clause.operator in ("==", "==="):
            return True
    return False
