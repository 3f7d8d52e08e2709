"""Stack → Lock: resolve, select, check."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envbuilder.errors import EngineError, LockError
from envbuilder.grammar import JsonObject
from envbuilder.lock.dependency_age import dependency_notes
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.index_page import ListedWheel, parse_page
from envbuilder.lock.known_sources import KnownSources
from envbuilder.lock.package_conflict import (
    CommandFor,
    PackageOrigin,
    first_that_resolves,
    unresolved_error,
)
from envbuilder.lock.python_bounds import (
    allows_python,
    metadata_of,
    python_clashes,
    python_error,
)
from envbuilder.lock.sources.resolution import ask_with_sources
from envbuilder.lock.sources.workshop import Prepared, SourceWorkshop
from envbuilder.lock.target_platform import accepted_tags
from envbuilder.lock.torch_index import FAMILY, TorchIndex
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.validation import find_problems
from envbuilder.lock.wheel_metadata import MetadataAnswer
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import SCHEMA, Lock, Source, Stack
from envbuilder.versions import listed

_FEW = 3  # packages that a note names

Say = Callable[[str], None]


def create_lock(
    stack: Stack,
    *,
    uv: Uv,
    catalog: str,
    command_for: CommandFor,
    base_digest: str | None = None,
    origin: PackageOrigin | None = None,
    note: Say | None = None,
    on_locked: Callable[[Lock, JsonObject], None] | None = None,
    workshop: SourceWorkshop | None = None,
) -> Lock:
    """Resolve and pin the whole stack; `note` tells people what takes long.

    `on_locked` gets the lock, and the document that has the wheels' addresses. `workshop` makes wheels of sources.

    Raises `NoStackError` naming the culprits when the user's packages clash with the stack, `EngineError` when the
    index cannot be reached, `LockError` when the stack itself has no complete set of wheels.
    """
    index = uv.index_for(stack)
    if index and note:
        _note_missing_hashes(stack, index, uv, note)
    sourced = ask_with_sources(uv, stack, workshop)
    answer = sourced.answer
    if answer.document is None:
        raise unresolved_error(
            uv,
            stack,
            answer,
            command_for,
            known=sourced.known,
            origin=origin or PackageOrigin(),
        )
    if note:
        for sentence in sourced.notes:
            note(sentence)
    size_of = uv.client.size if uv.client else None
    built = {item.source.name: item for item in sourced.prepared}
    built_wheels = {name: item.wheel for name, item in built.items()}
    compiled = [item.source for item in built.values() if item.wheel is None]
    lock = Lock(
        schema=SCHEMA,
        catalog=catalog,
        stack=stack,
        base_digest=base_digest,
        wheels=select_wheels(answer.document, stack, size_of, built=built_wheels),
    )
    lock = replace(lock, sources=_sources_in(lock, built))
    if workshop and compiled:
        lock = workshop.with_toolchain(lock)
    if workshop and note:
        for sentence in _not_compiled(lock, workshop.allowed):
            note(sentence)
    problems = list(find_problems(lock))
    if problems:
        raise LockError(
            "the resolved wheels do not make up the requested stack", problems=problems
        )
    if uv.client:
        paths = {name: item.path for name, item in built.items()}
        answered = metadata_of(lock.wheels, answer.document, uv.client, paths)
        stacks = origin.any_python if origin else tuple
        check_python(lock, answered, uv, sourced.known, stacks)
        for text in _notes_on(uv, stack, answer.document, answered):
            if note:
                note(text)
    if on_locked:
        on_locked(lock, answer.document)
    return lock


def _not_compiled(lock: Lock, allowed: Iterable[str]) -> Iterator[str]:
    """What was permitted to be compiled, and is not."""
    compiled = {source.name for source in lock.compiled}
    wheels = {wheel.name for wheel in lock.wheels}
    for name in sorted(set(allowed) - compiled):
        if name in wheels:
            yield f"{name} is not compiled: there is a wheel of it"
        else:
            yield f"{name} is not compiled, as it is not among the packages; add it: `--package {name}`"


def check_python(
    lock: Lock,
    answer: MetadataAnswer,
    uv: Uv,
    known: KnownSources,
    stacks: Callable[[], Iterable[tuple[str, Stack]]],
) -> None:
    """Raise `NoStackError` if a locked wheel does not allow the Python; one of `stacks` may have another."""
    clashes = list(python_clashes(lock.wheels, answer, lock.stack.python))
    if not clashes:
        return
    allowed = []
    for command, other in stacks():
        if all(allows_python(clash.bounds, other.python) for clash in clashes):
            allowed.append((command, other))
    suggestion = first_that_resolves(uv, allowed, known)
    raise python_error(clashes, lock.stack, suggestion)


def _notes_on(
    uv: Uv, stack: Stack, document: JsonObject, answer: MetadataAnswer
) -> Iterator[str]:
    yield from dependency_notes(uv, stack, document, answer)
    if answer.unread:
        yield _unread_note(answer)


def _unread_note(answer: MetadataAnswer) -> str:
    names = list(answer.unread[:_FEW])
    more = len(answer.unread) - len(names)
    if more:
        names.append(f"{more} more")
    return (
        f"which Pythons {listed(names)} can be used with is not known: {answer.reason}"
    )


def _sources_in(lock: Lock, built: Mapping[str, Prepared]) -> tuple[Source, ...]:
    """The sources that are needed: a dependency may turn out not to be, and then has no wheel in the lock."""
    names = {wheel.name for wheel in lock.wheels}
    sources = []
    for name in sorted(built):
        source = built[name].source
        if name in names or source.compiled:
            sources.append(source)
    return tuple(sources)


def _note_missing_hashes(stack: Stack, index: TorchIndex, uv: Uv, note: Say) -> None:
    """Say for which wheels the index gives no sha256: uv downloads them to compute one, which can take minutes."""
    if uv.client is None:
        return
    try:
        for project in FAMILY:
            for wheel in _listed(stack, project, index, uv.client):
                if wheel.sha256:
                    continue
                text = f"{index.text} gives no sha256 of {wheel.file}"
                note(f"{text}: it is downloaded to compute one")
    except EngineError:
        return  # uv explains it, and may know a way


def _listed(
    stack: Stack, project: str, index: TorchIndex, client: IndexClient
) -> Iterator[ListedWheel]:
    """The wheels that can become the project's locked one."""
    pins = [Requirement(line) for line in stack.requirements]
    pinned = [pin for pin in pins if pin.name == project]
    if not pinned:
        return
    page = index.page_of(project)
    text = client.page(page)
    for wheel in parse_page(text, page):
        if fits(wheel.file, pinned[0], stack):
            yield wheel


def fits(file: str, pin: Requirement, stack: Stack) -> bool:
    """Whether a file is a wheel of the pinned version, for the stack's Python and platform."""
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return False
    if name != pin.name or not pin.specifier.contains(version, prereleases=True):
        return False
    return not tags.isdisjoint(accepted_tags(stack))
