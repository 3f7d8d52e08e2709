"""`BASE`: the one variable that selects on which of its bases a repository's image is built and run.

Compose, the dev container, the Makefile of this repository and `envbuilder build` all read it: from the environment,
else from `.env`. Its value is the part of a stack's name that depends on the base, as `py3.9-debian11`; without it,
the base is that of the repository's own lock. `envbuilder build` writes it if no registry has that base.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from envbuilder.errors import UsageError
from envbuilder.files import exists, read_text, refuse_links, write_file
from envbuilder.model import BASE_BOOTSTRAP, BaseSource, Lock

NAME = "BASE"
FILE = ".env"
_MARK = "# set by `envbuilder build`:"
_OURS = re.compile(rf"^{re.escape(_MARK)}.*\n{NAME}=.*\n?", re.MULTILINE)
_LINE = re.compile(rf"^(?:export[ \t]+)?{NAME}[ \t]*=(.*)$", re.MULTILINE)


def chosen(environ: Mapping[str, str], folder: Path) -> str:
    """The value that a person has given: in the environment, or in `.env` on a line not ours; "" without one."""
    value = environ.get(NAME, "")
    if value:
        return value
    text = _text_of(folder)
    return _value_in(_OURS.sub("", text))


def _unquoted(text: str) -> str:
    """A value of `.env` as Compose reads it: without quotes and comment."""
    without_comment = re.sub(r"(^|[ \t])#.*", "", text)
    return without_comment.strip().strip("\"'")


def find_lock(value: str, main: Lock, locks: Mapping[str, Lock]) -> Lock:
    """The lock that a value of `BASE` selects among a repository's. Raises `UsageError` if there is none."""
    siblings = on_other_bases(main, locks)
    if value == BASE_BOOTSTRAP:
        lock = fallback_of(main, locks)
        if lock:
            return lock
    for lock in (main, *siblings):
        if lock.stack.base_name == value:
            return lock
    names = [lock.stack.base_name for lock in (main, *siblings)]
    raise UsageError(
        f"{NAME} is {value!r}, and no lock of this repository is for that base",
        hint=f"set {NAME} to one of: {', '.join(names)}; or unset it",
    )


def on_other_bases(main: Lock, locks: Mapping[str, Lock]) -> list[Lock]:
    """The locks of the same torch for the same CUDA, flavour and platform on other bases."""
    siblings = []
    for lock in locks.values():
        stack = lock.stack
        is_other = stack.name != main.stack.name
        if is_other and main.stack.name_on(stack.base_name) == stack.name:
            siblings.append(lock)
    return siblings


def fallback_of(main: Lock, locks: Mapping[str, Lock]) -> Lock | None:
    """The lock to build where no registry has the base: the same on a base made here from Debian's packages."""
    for lock in (main, *on_other_bases(main, locks)):
        if lock.stack.base.source is BaseSource.BOOTSTRAP:
            return lock
    return None


def is_current(lock: Lock, main: Lock) -> bool:
    """Whether a lock has the packages of the repository's: settings may have changed since a fallback was made."""
    packages = sorted(lock.stack.extras) == sorted(main.stack.extras)
    return packages and sorted(lock.stack.apt) == sorted(main.stack.apt)


def outdated_fallbacks(main: Lock, locks: Mapping[str, Lock]) -> list[Lock]:
    """The locks on bases made here that were made for other packages than the repository's lock."""
    outdated = []
    for lock in on_other_bases(main, locks):
        if not _is_of_registry(lock) and not is_current(lock, main):
            outdated.append(lock)
    return outdated


def without_fallbacks(locks: Sequence[Lock]) -> list[Lock]:
    """The locks without those that are there only for want of a registry: another one has the base from a registry."""
    by_name = {lock.stack.name: lock for lock in locks}
    kept = []
    for lock in locks:
        others = on_other_bases(lock, by_name)
        in_registry = any(_is_of_registry(other) for other in others)
        if _is_of_registry(lock) or not in_registry:
            kept.append(lock)
    return kept


def _is_of_registry(lock: Lock) -> bool:
    return lock.stack.base.source is BaseSource.REGISTRY


def record(main: Lock, built: Lock, folder: Path) -> str:
    """Make `.env` select the image that was built; every other line stays. Returns what changed, "" if nothing did."""
    before = _text_of(folder)
    after = _OURS.sub("", before)
    base_name = built.stack.base_name
    is_default = built.stack.name == main.stack.name
    if not is_default and _value_in(after) != base_name:
        if after and not after.endswith("\n"):
            after += "\n"
        after += f"{_MARK} {main.stack.base.reference} was not used\n"
        after += f"{NAME}={base_name}\n"
    if after == before:
        return ""
    refuse_links(folder, FILE)
    write_file(folder / FILE, after, keep=True)
    if is_default:
        return f"removed {NAME} from {FILE}: Compose and the dev container use {base_name} again"
    return f"set {NAME}={base_name} in {FILE}: Compose and the dev container use this image"


def _value_in(text: str) -> str:
    """The last value that the text of `.env` gives, "" without one."""
    lines = _LINE.findall(text)
    return _unquoted(lines[-1]) if lines else ""


def _text_of(folder: Path) -> str:
    path = folder / FILE
    return read_text(path) if exists(path) else ""
