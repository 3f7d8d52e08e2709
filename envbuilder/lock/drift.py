"""Lock × index → what changed since: does the index still give the files that were locked?

A lock holds for years, but an index does not stand still: a file is yanked, removed or replaced, or shows up late under
an earlier date. None of that is an error in the lock; it is reported, so that a person can decide.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from packaging.pylock import Pylock
from packaging.utils import canonicalize_name

from envbuilder.errors import EngineError
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index, yanked_releases
from envbuilder.lock.known_sources import NO_SOURCES, KnownSources
from envbuilder.lock.sources.workshop import SourceWorkshop
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Lock, Wheel

_MISSING = re.compile(r"no version of ([A-Za-z0-9._-]+)(?:\[[^]]*\])?==")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One package for which the index no longer gives what was locked."""

    package: str
    problem: str  # "fsspec 2026.9.0 was yanked: broken on Windows"


def find_drift(
    lock: Lock, uv: Uv, workshop: SourceWorkshop | None = None
) -> list[Drift]:
    """How the index differs from a lock, sorted by package; empty if it gives the same files again.

    Two questions to uv: whether every locked file is still available, and whether the stack, resolved as of its own
    day, comes out the same. Raises `EngineError` if the index cannot be reached.
    """
    drifts: dict[str, Drift] = {}
    for drift in _lost(lock, uv):
        drifts.setdefault(drift.package, drift)
    # A package that is lost has changed as well; the first problem explains the second.
    known: KnownSources | None = NO_SOURCES
    if lock.sources and workshop:
        for package, problem in workshop.changes(lock):
            drifts.setdefault(package, Drift(package=package, problem=problem))
        known = workshop.known(lock)
    if known is not None:
        for drift in _changed(lock, uv, known):
            drifts.setdefault(drift.package, drift)
    return [drifts[package] for package in sorted(drifts)]


# --- is every locked file still available --------------------------------------------------------------------------


def _lost(lock: Lock, uv: Uv) -> Iterator[Drift]:
    """Locked releases that were yanked or are gone, and locked files that the index replaced."""
    pins = {wheel.name: wheel for wheel in lock.wheels}
    for source in lock.sources:  # their wheels are on no index
        pins.pop(source.name, None)
    while pins:
        lines = [f"{wheel.name}=={wheel.version}" for wheel in pins.values()]
        answer = ask_index(uv, lock.stack, lines, alone=True)
        if answer.document is not None:
            yield from _yanked(answer.stderr, pins)
            yield from _replaced(answer.document, pins)
            return
        missing = _missing(answer.stderr, pins)
        if missing is None:
            raise EngineError(
                "the package index gave no answer about the locked files",
                problems=answer.causes[:6],
            )
        problem = f"{missing.name} {missing.version} is no longer on the index"
        yield Drift(package=missing.name, problem=problem)
        # uv names one missing release at a time: ask again without it.
        del pins[missing.name]


def _missing(stderr: str, pins: Mapping[str, Wheel]) -> Wheel | None:
    """The locked release that uv found no wheel of."""
    text = " ".join(stderr.split())  # uv wraps its sentences
    for match in _MISSING.finditer(text):
        name = canonicalize_name(match[1])
        if name in pins:
            return pins[name]
    for wheel in pins.values():
        if f"{wheel.name}=={wheel.version}" in text:
            return wheel
    return None


def _yanked(stderr: str, pins: Mapping[str, Wheel]) -> Iterator[Drift]:
    for name, because in yanked_releases(stderr).items():
        if name in pins:
            yield Drift(package=name, problem=f"{name} {pins[name].version} {because}")


def _replaced(document: JsonObject, pins: Mapping[str, Wheel]) -> Iterator[Drift]:
    """Locked files that are gone from their release, or have another hash under the same name."""
    hashes = _hashes(document)
    for wheel in pins.values():
        sha256 = hashes.get(wheel.file)
        if sha256 is None:
            problem = f"{wheel.file} is no longer on the index"
            yield Drift(package=wheel.name, problem=problem)
        elif sha256 != wheel.sha256:
            locked = wheel.sha256[:12]
            current = sha256[:12]
            problem = f"{wheel.file} was replaced: sha256 {locked}… is locked, the index has {current}…"
            yield Drift(package=wheel.name, problem=problem)


def _hashes(document: JsonObject) -> dict[str, str]:
    """File name → sha256 of every wheel that uv was offered."""
    hashes = {}
    pylock = Pylock.from_dict(document)
    for package in pylock.packages:
        for file in package.wheels or ():
            sha256 = file.hashes.get("sha256", "")
            hashes[file.filename] = sha256
    return hashes


# --- does the stack come out the same ------------------------------------------------------------------------------


def _changed(lock: Lock, uv: Uv, known: KnownSources) -> Iterator[Drift]:
    """Packages for which the index, as of the stack's day, now gives another release."""
    stack = lock.stack
    lines = [*stack.requirements, *stack.extras]
    answer = ask_index(uv, stack, lines, known=known)
    if answer.document is None:
        causes = " ".join(answer.causes[:2])
        problem = f"the index no longer has a complete set of wheels: {causes}"
        yield Drift(package="torch", problem=problem)
        return
    selected = select_wheels(answer.document, stack, built=_built_wheels(lock))
    now = {wheel.name: wheel for wheel in selected}
    for wheel in lock.wheels:
        other = now.pop(wheel.name, None)
        if other is None:
            problem = f"{wheel.name} {wheel.version} is locked and no longer needed"
            yield Drift(package=wheel.name, problem=problem)
        elif other.file != wheel.file:
            problem = _difference(wheel, other, stack.as_of)
            yield Drift(package=wheel.name, problem=problem)
    for other in now.values():
        problem = f"{other.name} {other.version} is needed now and not locked"
        yield Drift(package=other.name, problem=problem)


def _built_wheels(lock: Lock) -> dict[str, Wheel | None]:
    """The wheels of the lock's sources, by package; None for what is compiled in the image."""
    sources = {source.name for source in lock.sources}
    built: dict[str, Wheel | None] = {source.name: None for source in lock.compiled}
    for wheel in lock.wheels:
        if wheel.name in sources:
            built[wheel.name] = wheel
    return built


def _difference(wheel: Wheel, other: Wheel, as_of: date) -> str:
    if other.version == wheel.version:
        locked, current = wheel.file, other.file
        return f"{locked} is locked; the index now gives {current}"
    locked = f"{wheel.name} {wheel.version}"
    current = str(other.version)
    return f"{locked} is locked; as of {as_of} the index now gives {current}"
