"""Stack → Lock: resolve, select, check."""

from envbuilder.catalog.rows import PYPI
from envbuilder.errors import LockError
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.package_conflict import (
    CommandFor,
    PackageOrigin,
    unresolved_error,
)
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.validation import find_problems
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import SCHEMA, Lock, Stack


def create_lock(
    stack: Stack,
    *,
    uv: Uv,
    catalog: str,
    command_for: CommandFor,
    base_digest: str | None = None,
    origin: PackageOrigin | None = None,
) -> Lock:
    """Resolve and pin the whole stack.

    Raises `NoStackError` naming the culprits when the user's packages clash with the stack, `EngineError` when the
    index cannot be reached, `LockError` when the stack itself has no complete set of wheels.
    """
    check_lockable(stack, index_url=uv.index_url, command_for=command_for)
    answer = ask_index(uv, stack, [*stack.requirements, *stack.extras])
    if answer.document is None:
        raise unresolved_error(
            uv, stack, answer, command_for, origin or PackageOrigin()
        )
    lock = Lock(
        schema=SCHEMA,
        catalog=catalog,
        stack=stack,
        base_digest=base_digest,
        wheels=select_wheels(answer.document, stack),
    )
    problems = list(find_problems(lock))
    if problems:
        raise LockError(
            "the resolved wheels do not make up the requested stack", problems=problems
        )
    return lock


def check_lockable(
    stack: Stack, *, index_url: str | None = None, command_for: CommandFor | None = None
) -> None:
    """Raise `LockError` for a stack that is resolved and cannot be locked, rather than lock another one."""
    if stack.index != PYPI and index_url is None:
        command = command_for(stack.extras) if command_for else "envbuilder lock"
        raise _needs_index_error(stack, command)


def _needs_index_error(stack: Stack, command: str) -> LockError:
    """The wheels are not where uv would look, and the same version there is of another CUDA."""
    built_for = (
        "another CUDA"
        if stack.cuda
        else f"CUDA on {stack.platform}; the runtime image trains on a CPU too"
    )
    return LockError(
        f"{stack.torch_text} is not on PyPI, only on PyTorch's own index ({stack.index})",
        problems=[f"PyPI's torch {stack.torch} is built for {built_for}"],
        hint="pass an index that serves those wheels and PyPI's packages, with upload times (PEP 700): "
        f"`{command} --index-url URL`",
    )
