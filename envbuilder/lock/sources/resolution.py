"""Stack → answer of the index, with wheels that are built of sources where the index has none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from envbuilder.errors import EngineError, EnvbuilderError, LockError, UsageError
from envbuilder.lock.index_answer import IndexAnswer, ask_index
from envbuilder.lock.known_sources import KnownSources, packages_without_wheel
from envbuilder.lock.project_page import project_page
from envbuilder.lock.release_age import (
    OldRelease,
    old_releases,
    why_not,
)
from envbuilder.lock.sources.location import is_located
from envbuilder.lock.sources.sdist_file import SdistFile, sdists_in
from envbuilder.lock.sources.workshop import Prepared, SourceWorkshop, known_of
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack

_ROUNDS = 4  # releases of a package that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedAnswer:
    """What the index has, what it was asked with, and the sources that were prepared for it."""

    answer: IndexAnswer
    known: KnownSources
    prepared: tuple[Prepared, ...] = ()
    notes: tuple[str, ...] = ()
    """Which of the user's packages are locked in an older release than the newest one, and why."""


def ask_with_sources(
    uv: Uv, stack: Stack, workshop: SourceWorkshop | None
) -> SourcedAnswer:
    """Ask the index; a package of which it has no wheel is built from its source package, and it is asked again."""
    requirements = [*stack.requirements, *stack.extras]
    if workshop is None:
        if any(is_located(line) for line in stack.extras):
            raise UsageError("packages that are not on the index cannot be locked here")
        answer = ask_index(
            uv,
            stack,
            requirements,
        )
        sourced = SourcedAnswer(answer=answer, known=known_of(stack))
        return with_newest(uv, stack, sourced, None)
    prepared = workshop.prepare(stack)
    known = _with(known_of(stack), prepared)
    while True:
        answer = ask_index(
            uv,
            stack,
            requirements,
            known=known,
        )
        built = []
        if answer.document is None:
            found = _missing_sdists(
                uv,
                stack,
                answer,
                known,
            )
            built = _built(uv, found, stack, workshop)
        if not built:
            sourced = SourcedAnswer(
                answer=answer,
                known=known,
                prepared=tuple(prepared),
            )
            return with_newest(uv, stack, sourced, workshop)
        known = _with(known, built)
        prepared += built


def with_newest(
    uv: Uv, stack: Stack, sourced: SourcedAnswer, workshop: SourceWorkshop | None
) -> SourcedAnswer:
    """The answer without releases that are far older than the newest one for want of a wheel.

    Where the newest release has none, its source package is built. Raises `LockError` if that cannot be done.
    """
    if uv.client is None:
        return sourced
    ruled_out: dict[str, Version] = {}
    notes: dict[str, str] = {}
    for _ in range(_ROUNDS):
        document = sourced.answer.document
        if document is None:
            return sourced
        old = old_releases(uv, stack, document, sourced.known, ruled_out)
        rivals = [release for release in old if not release.lacks_wheel]
        more = _with_dependencies(uv, stack, sourced, rivals, workshop)
        if more is not None:
            sourced = more
            continue
        reasons = why_not(rivals, stack, document, uv.client.network)
        for release in rivals:
            ruled_out[release.name] = release.newest.version
            sentence = release.sentence(reasons[release.name])
            notes.setdefault(release.name, sentence)
        lacking = [release for release in old if release.lacks_wheel]
        for release in lacking:
            if not release.is_far:
                ruled_out[release.name] = release.newest.version
                notes[release.name] = release.sentence("that has no wheel for it")
                continue
            more = _with_sdist(uv, stack, sourced, release, workshop)
            if more is None:
                ruled_out[release.name] = release.newest.version
                sentence = release.sentence("that does not go with the other packages")
                notes.setdefault(release.name, sentence)
            else:
                sourced = more
        if not old:
            break
    return replace(sourced, notes=tuple(notes.values()))


def _with_dependencies(
    uv: Uv,
    stack: Stack,
    sourced: SourcedAnswer,
    old: Sequence[OldRelease],
    workshop: SourceWorkshop | None,
) -> SourcedAnswer | None:
    """The answer with what keeps a far newer release from being chosen built of sources: a dependency without a wheel.

    None if nothing of the kind does.
    """
    if workshop is None:
        return None
    requirements = [*stack.requirements, *stack.extras]
    for release in old:
        if not release.is_far:
            continue
        newest = f"{release.name}=={release.newest.version}"
        answer = ask_index(uv, stack, [*requirements, newest], known=sourced.known)
        changed = replace(stack, extras=(*stack.extras, newest))
        found = _missing_sdists(uv, changed, answer, sourced.known)
        found = [sdist for sdist in found if sdist.name != release.name]
        if not found:
            continue
        try:
            built = [workshop.prepare_sdist(sdist, stack) for sdist in found]
        except EngineError:
            raise
        except EnvbuilderError:  # the older release is locked, and its note says why
            continue
        known = _with(sourced.known, built)
        answer = ask_index(uv, stack, requirements, known=known)
        if answer.document is not None:
            prepared = (*sourced.prepared, *built)
            return replace(sourced, answer=answer, known=known, prepared=prepared)
    return None


def _with_sdist(
    uv: Uv,
    stack: Stack,
    sourced: SourcedAnswer,
    old: OldRelease,
    workshop: SourceWorkshop | None,
) -> SourcedAnswer | None:
    """The answer with the newest release of a package built from its source package; None if it fits nothing."""
    message = f"{old.name} {old.locked.text} is the newest release that has a wheel, and {old.newest.text} has none"
    hint = f"name a wheel by its address: `--package '{old.name} @ URL'`"
    sdist = old.newest.sdist
    if workshop is None or sdist is None:
        raise LockError(message, hint=hint)
    try:
        built = workshop.prepare_sdist(sdist, stack)
    except EngineError:
        raise
    except EnvbuilderError as error:
        problems = [error.message, *error.problems]
        raise LockError(message, problems=problems, hint=error.hint or hint) from error
    known = _with(sourced.known, [built])
    requirements = [*stack.requirements, *stack.extras]
    answer = ask_index(
        uv,
        stack,
        requirements,
        known=known,
    )
    if answer.document is None:
        return None
    return replace(
        sourced,
        answer=answer,
        known=known,
        prepared=(*sourced.prepared, built),
    )


def _with(known: KnownSources, prepared: Sequence[Prepared]) -> KnownSources:
    for item in prepared:
        known = known.with_wheel(item.source.name, item.path)
    return known


def _missing_sdists(
    uv: Uv, stack: Stack, answer: IndexAnswer, known: KnownSources
) -> list[SdistFile]:
    """The source packages of what uv found no wheel of; none if they do not help."""
    requirements = [*stack.requirements, *stack.extras]
    missing: set[str] = set()
    # uv names one package at a time.
    while answer.document is None:
        more = packages_without_wheel(answer.stderr) - missing - set(known.wheels)
        if not more:
            return []
        missing |= more
        allowed = replace(known, sdists=frozenset(missing))
        answer = ask_index(
            uv,
            stack,
            requirements,
            known=allowed,
        )
    sdists = []
    for sdist in sdists_in(answer.document):
        if sdist.name in missing and not _has_wheel(uv, stack, sdist):
            sdists.append(sdist)
    return sdists


def _built(
    uv: Uv, sdists: Sequence[SdistFile], stack: Stack, workshop: SourceWorkshop
) -> list[Prepared]:
    """Wheels of these; none if one cannot be built and has a wheel for another Python, for which the stack can change.

    Raises `LockError` if one cannot be built and has none.
    """
    built = []
    for sdist in sdists:
        try:
            prepared = workshop.prepare_sdist(sdist, stack)
        except LockError:
            if _has_wheel_for_some_python(uv, sdist):
                return []
            raise
        built.append(prepared)
    return built


def _has_wheel_for_some_python(uv: Uv, sdist: SdistFile) -> bool:
    try:
        page = project_page(uv, sdist.name)
    except EngineError:
        return False
    if page is None:
        return False
    return any(file.is_wheel for file in page.files_of(sdist.version))


def _has_wheel(uv: Uv, stack: Stack, sdist: SdistFile) -> bool:
    """Whether the release has a wheel for the stack: it clashes with something then, and so would a build of it."""
    try:
        page = project_page(uv, sdist.name)
    except EngineError:  # the source package is tried, and tells more
        return False
    return page is not None and any(
        file.fits(stack) for file in page.files_of(sdist.version)
    )
