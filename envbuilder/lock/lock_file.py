"""A lock as a file: its name, and reading one that somebody gives us."""

import re

import msgspec

from envbuilder import grammar, serialize
from envbuilder.errors import UsageError
from envbuilder.lock.validation import find_problems
from envbuilder.model import Lock

LOCK_FILE = "envbuilder.lock"
_WHEEL_ROW = re.compile(r"\$\.wheels\[([0-9]+)\]")


def parse_lock(text: str, *, source: str) -> Lock:
    """Read a lock. Raises `UsageError` that names the file (`source`) and the field at fault."""
    hint = f"create it again: `envbuilder lock --output {source}`"
    try:
        lock = serialize.loads(text, Lock)
    except msgspec.ValidationError as error:
        problem = _with_wheel_name(text, grammar.explained(str(error)))
        raise UsageError(
            f"{source} is not a lock of envbuilder's: {problem}", hint=hint
        ) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{source} cannot be read as a lock: {error}", hint=hint
        ) from error
    problems = list(find_problems(lock))
    if problems:
        raise UsageError(f"{source} is damaged", problems=problems, hint=hint)
    return lock


def _with_wheel_name(text: str, message: str) -> str:
    """Add the wheel's name to a message that only has its number (`$.wheels[17]`)."""
    row = _WHEEL_ROW.search(message)
    if not row:
        return message
    try:
        wheel = msgspec.json.decode(text)["wheels"][int(row[1])]
    except msgspec.DecodeError:  # a number that no field may hold
        return message
    name = wheel.get("name") if isinstance(wheel, dict) else None
    if not isinstance(name, str) or not grammar.matches(grammar.Project, name):
        return message
    return f"{message} (the wheel of {name})"
