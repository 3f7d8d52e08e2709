"""Stack → answer of the index, with wheels that are built of sources where the index has none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envbuilder.errors import UsageError
from envbuilder.lock.index_answer import IndexAnswer, ask_index
from envbuilder.lock.known_sources import KnownSources, packages_without_wheel
from envbuilder.lock.sources.location import is_located
from envbuilder.lock.sources.sdist_file import SdistFile, sdists_in
from envbuilder.lock.sources.workshop import Prepared, SourceWorkshop, known_of
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedAnswer:
    """What the index has, what it was asked with, and the sources that were prepared for it."""

    answer: IndexAnswer
    known: KnownSources
    prepared: tuple[Prepared, ...] = ()


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
        return SourcedAnswer(answer=answer, known=known_of(stack))
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
            built = [workshop.prepare_sdist(sdist, stack) for sdist in found]
        if not built:
            return SourcedAnswer(
                answer=answer,
                known=known,
                prepared=tuple(prepared),
            )
        known = _with(known, built)
        prepared += built


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
    return [sdist for sdist in sdists_in(answer.document) if sdist.name in missing]
