"""Every error a user can meet: one class for each thing the user can do about it, one exit code each.

`message` says what is wrong, with the value in it; `hint` says what to do, with commands in backticks
that work when pasted. Only `envbuilder.cli` turns them into output and an exit code.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class EnvbuilderError(Exception):
    """Base of all errors that have a cause outside of envbuilder, never a bug. `problems` are further lines."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str = "", problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)


class UsageError(EnvbuilderError):
    """The input is malformed: a value, a name or a key that is not valid."""

    exit_code = 2


class CatalogError(EnvbuilderError):
    """The facts or the policy cannot be read; the message names file, row and field."""

    exit_code = 3


class NoStackError(EnvbuilderError):
    """No stack fits a well-formed request. Carries the minimal conflict for `resolve --json`.

    `reasons` name their sources, for `--json`; `plain_reasons` are the same for a person, and `problems` those of them
    that the message does not say already.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        conflict: Sequence[tuple[str, str]] = (),
        reasons: Sequence[str] = (),
        plain_reasons: Sequence[str] | None = None,
        problems: Sequence[str] | None = None,
        suggestions: Sequence[str] = (),
        advice: str = "",
        hint: str = "",
    ) -> None:
        plain = reasons if plain_reasons is None else plain_reasons
        further = [reason for reason in plain if reason != message]
        commands = " or ".join(f"`{command}`" for command in suggestions)
        if not hint:
            hint = f"try {commands} {advice}" if commands else advice
        super().__init__(
            message,
            hint=hint.rstrip(),
            problems=further if problems is None else problems,
        )
        self.conflict = tuple(conflict)
        self.reasons = tuple(reasons)
        self.plain_reasons = tuple(plain)
        self.suggestions = tuple(suggestions)
        # For `resolve --explain --json`.
        self.explanation: Mapping[str, Any] | None = None


class LockError(EnvbuilderError):
    """A lock cannot be created, read or trusted."""

    exit_code = 5


class EngineError(EnvbuilderError):
    """The container engine, the build or the network failed; `log` is the path of the full log, if any."""

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        problems: Sequence[str] = (),
        log: str = "",
    ) -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.log = log


class AcceptanceError(EnvbuilderError):
    """The image was built and did not pass the suite; it gets no tag."""

    exit_code = 7
