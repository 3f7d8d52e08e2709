"""Errors that a user can fix: what is wrong in one line, and what to change."""

from __future__ import annotations


class JobError(Exception):
    """The job cannot run; `hint` says what to change."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def first_line(error: BaseException) -> str:
    """An error's message without the details below it."""
    return str(error).strip().split("\n", maxsplit=1)[0]
