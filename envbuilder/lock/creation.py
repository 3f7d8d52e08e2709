"""Stack → Lock: resolve, select, check."""

from collections.abc import Callable, Iterator

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envbuilder.errors import EngineError, LockError
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.index_page import ListedWheel, parse_page
from envbuilder.lock.package_conflict import CommandFor, unresolved_error
from envbuilder.lock.target_platform import accepted_tags
from envbuilder.lock.torch_index import FAMILY, TorchIndex
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.validation import find_problems
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import SCHEMA, Lock, Stack

Say = Callable[[str], None]


def create_lock(
    stack: Stack,
    *,
    uv: Uv,
    catalog: str,
    command_for: CommandFor,
    base_digest: str | None = None,
    note: Say | None = None,
    on_locked: Callable[[Lock, JsonObject], None] | None = None,
) -> Lock:
    """Resolve and pin the whole stack; `note` tells people what takes long.

    `on_locked` gets the lock, and the document that has the wheels' addresses.

    Raises `NoStackError` naming the culprits when the user's packages clash with the stack, `EngineError` when the
    index cannot be reached, `LockError` when the stack itself has no complete set of wheels.
    """
    index = uv.index_for(stack)
    if index and note:
        _note_missing_hashes(stack, index, uv, note)
    answer = ask_index(uv, stack, [*stack.requirements, *stack.extras])
    if answer.document is None:
        raise unresolved_error(uv, stack, answer, command_for)
    size_of = uv.client.size if uv.client else None
    lock = Lock(
        schema=SCHEMA,
        catalog=catalog,
        stack=stack,
        base_digest=base_digest,
        wheels=select_wheels(answer.document, stack, size_of),
    )
    problems = list(find_problems(lock))
    if problems:
        raise LockError(
            "the resolved wheels do not make up the requested stack", problems=problems
        )
    if on_locked:
        on_locked(lock, answer.document)
    return lock


def _note_missing_hashes(stack: Stack, index: TorchIndex, uv: Uv, note: Say) -> None:
    """Say for which wheels the index gives no sha256: uv downloads them to compute one, which can take minutes."""
    if uv.client is None:
        return
    for project in FAMILY:
        for wheel in _listed(stack, project, index, uv.client):
            if wheel.sha256:
                continue
            text = f"{index.text} gives no sha256 of {wheel.file}"
            note(f"{text}: it is downloaded to compute one")


def _listed(
    stack: Stack, project: str, index: TorchIndex, client: IndexClient
) -> Iterator[ListedWheel]:
    """The wheels that can become the project's locked one."""
    pins = [Requirement(line) for line in stack.requirements]
    pinned = [pin for pin in pins if pin.name == project]
    if not pinned:
        return
    page = index.page_of(project)
    try:
        text = client.page(page)
    except EngineError:
        return  # uv explains it, and may know a way
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
