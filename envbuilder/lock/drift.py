"""Lock × index → what changed since: does the index still give the files that were locked?

A lock holds for years, but an index does not stand still: a file is yanked, removed or replaced, or shows up late under
an earlier date. None of that is a fault of the lock; it is reported, so that a person can decide.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.pylock import Pylock
from packaging.utils import canonicalize_name

from envbuilder.errors import EngineError
from envbuilder.lock.index_answer import ask_index, yanked_releases
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Lock, Wheel

_MISSING = re.compile(r"no version of ([A-Za-z0-9._-]+)(?:\[[^]]*\])?==")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One package for which the index no longer gives what was locked."""

    package: str
    problem: str  # "fsspec 2026.9.0 was yanked: broken on Windows"


def find_drift(lock: Lock, uv: Uv) -> list[Drift]:
    """How the index differs from a lock, sorted by package; empty if it gives the same files again.

    Two questions to uv: whether every locked file can still be had, and whether the stack, resolved as of its own day,
    comes out the same. Raises `EngineError` if the index cannot be reached.
    """
    found: dict[str, str] = {}
    for drift in _lost(lock, uv):
        found.setdefault(drift.package, drift.problem)
    for drift in _changed(lock, uv):
        found.setdefault(drift.package, drift.problem)
    return [Drift(package=name, problem=found[name]) for name in sorted(found)]


# --- can every locked file still be had ----------------------------------------------------------------------------


def _lost(lock: Lock, uv: Uv) -> Iterator[Drift]:
    """Locked releases that were yanked or are gone, and locked files that the index replaced."""
    pins = {wheel.name: wheel for wheel in lock.wheels}
    while pins:
        lines = [f"{wheel.name}=={wheel.version}" for wheel in pins.values()]
        answer = ask_index(uv, lock.stack, lines, alone=True)
        if answer.document is not None:
            yield from _yanked(answer.stderr, pins)
            yield from _replaced(answer.document, pins)
            return
        missing = _missing(answer.stderr, pins)
        if missing is None:
            raise EngineError("the package index gave no answer about the locked files", problems=answer.causes[:6])
        yield Drift(package=missing.name, problem=f"{missing.name} {missing.version} is no longer on the index")
        # uv names one missing release at a time
        del pins[missing.name]


def _missing(stderr: str, pins: Mapping[str, Wheel]) -> Wheel | None:
    """The locked release that uv found no wheel of."""
    text = " ".join(stderr.split())  # uv wraps its sentences
    named = [canonicalize_name(name) for name in _MISSING.findall(text)]
    for name in [*named, *pins]:
        wheel = pins.get(name)
        if wheel and (name in named or f"{wheel.name}=={wheel.version}" in text):
            return wheel
    return None


def _yanked(stderr: str, pins: Mapping[str, Wheel]) -> Iterator[Drift]:
    for name, because in yanked_releases(stderr).items():
        if name in pins:
            yield Drift(package=name, problem=f"{name} {pins[name].version} {because}")


def _replaced(document: Mapping[str, Any], pins: Mapping[str, Wheel]) -> Iterator[Drift]:
    """Locked files that are gone from their release, or have another hash under the same name."""
    hashes = _hashes(document)
    for wheel in pins.values():
        sha256 = hashes.get(wheel.file)
        if sha256 is None:
            yield Drift(package=wheel.name, problem=f"{wheel.file} is no longer on the index")
        elif sha256 != wheel.sha256:
            problem = f"{wheel.file} was replaced: sha256 {wheel.sha256[:12]}… is locked, the index has {sha256[:12]}…"
            yield Drift(package=wheel.name, problem=problem)


def _hashes(document: Mapping[str, Any]) -> dict[str, str]:
    """File name → sha256 of every wheel that uv was offered."""
    hashes: dict[str, str] = {}
    for package in Pylock.from_dict(document).packages:
        for file in package.wheels or ():
            hashes[file.filename] = file.hashes.get("sha256", "")
    return hashes


# --- does the stack come out the same ------------------------------------------------------------------------------


def _changed(lock: Lock, uv: Uv) -> Iterator[Drift]:
    """Packages for which the index, as of the stack's day, now gives another release."""
    stack = lock.stack
    answer = ask_index(uv, stack, [*stack.requirements, *stack.extras])
    if answer.document is None:
        problem = f"the index no longer has a complete set of wheels: {' '.join(answer.causes[:2])}"
        yield Drift(package="torch", problem=problem)
        return
    now = {wheel.name: wheel for wheel in select_wheels(answer.document, stack)}
    for wheel in lock.wheels:
        other = now.pop(wheel.name, None)
        if other is None:
            yield Drift(package=wheel.name, problem=f"{wheel.name} {wheel.version} is locked and no longer needed")
        elif other.file != wheel.file:
            yield Drift(package=wheel.name, problem=_difference(wheel, other, lock))
    for other in now.values():
        yield Drift(package=other.name, problem=f"{other.name} {other.version} is needed now and not locked")


def _difference(wheel: Wheel, other: Wheel, lock: Lock) -> str:
    if other.version == wheel.version:
        return f"{wheel.file} is locked; the index now gives {other.file}"
    day = lock.stack.as_of
    return f"{wheel.name} {wheel.version} is locked; as of {day} the index now gives {other.version}"
