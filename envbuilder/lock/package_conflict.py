"""Which of the user's packages clash with a stack, and what to try instead."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.error import HTTPError

from packaging.requirements import Requirement

from envbuilder.errors import EngineError, LockError, NoStackError
from envbuilder.lock.index_answer import IndexAnswer, ask_index
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.known_sources import NO_SOURCES, KnownSources
from envbuilder.lock.torch_index import FIND_LINKS, TorchIndex
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack

CommandFor = Callable[[Sequence[str]], str]
"""The command that requests the same stack with these packages."""


def unresolved_error(
    uv: Uv,
    stack: Stack,
    answer: IndexAnswer,
    command_for: CommandFor,
    known: KnownSources = NO_SOURCES,
) -> LockError | NoStackError:
    """What uv's failure means for the user: the stack itself has no wheels, or some extra packages clash with it."""
    if not stack.extras or not _resolves(uv, stack, stack.requirements, known):
        index = uv.index_for(stack)
        if index and uv.client:
            _check_page(index, uv.client)
        hint = _hint(index)
        message = f"there is no complete set of wheels for torch {stack.torch} here"
        return LockError(
            message,
            problems=answer.causes,
            hint=hint,
        )
    culprits = _culprits(uv, stack, known)
    packages = " and ".join(culprits)
    return NoStackError(
        f"{packages} cannot be installed with {stack.torch_text}",
        conflict=[("package", line) for line in culprits],
        reasons=[
            *answer.causes,
            f"packages are resolved as of {stack.as_of}; torch and its family stay as they are",
        ],
        suggestions=[command_for(_packages_to_try(uv, stack, culprits, known))],
    )


def _check_page(index: TorchIndex, client: IndexClient) -> None:
    """Raise `EngineError` if the page of torch does not open: uv only says that there is no torch."""
    try:
        client.page(index.page_of("torch"))
    except EngineError as error:
        cause = error.__cause__
        if not isinstance(cause, HTTPError) or cause.code != HTTPStatus.NOT_FOUND:
            raise


def _hint(index: TorchIndex | None) -> str:
    """What may be wrong with the address, where the user gave one."""
    if index is None:
        return ""
    hint = f"torch was looked for at {index.page_of('torch')}"
    if not index.flat:
        hint += f"; if the files are on one page: `--torch-index {FIND_LINKS}URL`"
    return hint


def _resolves(
    uv: Uv, stack: Stack, requirements: Sequence[str], known: KnownSources
) -> bool:
    return ask_index(uv, stack, requirements, known=known).document is not None


def _culprits(uv: Uv, stack: Stack, known: KnownSources) -> list[str]:
    """A smallest set of the user's packages that clashes: drop any one of it and the rest resolves."""
    needed = list(stack.extras)
    for line in stack.extras:
        fewer = [other for other in needed if other != line]
        if not _resolves(uv, stack, [*stack.requirements, *fewer], known):
            needed = fewer
    return needed


def _packages_to_try(
    uv: Uv, stack: Stack, culprits: Sequence[str], known: KnownSources
) -> list[str]:
    """The packages with the culprits' version bounds dropped, if that resolves; else without the culprits."""
    kept = [line for line in stack.extras if line not in culprits]
    unbound = [_without_bounds(line) for line in culprits]
    if unbound == list(culprits):  # there was no bound to drop
        return kept
    packages = [*kept, *unbound]
    requirements = [*stack.requirements, *packages]
    if _resolves(uv, stack, requirements, known):
        return packages
    return kept


def _without_bounds(line: str) -> str:
    """`xformers[cuda]==0.0.20` → `xformers[cuda]`."""
    requirement = Requirement(line)
    if requirement.url:  # another place would be another package
        return line
    if not requirement.extras:
        return requirement.name
    return f"{requirement.name}[{','.join(sorted(requirement.extras))}]"
