"""Which of the files that are written git would leave out of a commit: by git itself, or by reading .gitignore."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from envbuilder import processes
from envbuilder.errors import EnvbuilderError
from envbuilder.files import exists, read_text

FILE = ".gitignore"
_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Files that one pattern hides."""

    rule: str  # ".gitignore:3: docker/"
    names: tuple[str, ...]


def ignored_files(folder: Path, names: Sequence[str]) -> list[Ignored]:
    """The files among `names`, relative to `folder`, that git ignores there, by the pattern that says so.

    A file that git tracks already is not ignored, whatever the patterns say.
    """
    rules = None
    if _is_in_repository(folder):
        rules = _by_git(folder, names)
    if rules is None:
        rules = _by_patterns(folder, names)
    by_rule: dict[str, list[str]] = {}
    for name, rule in rules.items():
        by_rule.setdefault(rule, []).append(name)
    return [Ignored(rule=rule, names=tuple(by_rule[rule])) for rule in by_rule]


def _is_in_repository(folder: Path) -> bool:
    place = Path(os.path.abspath(folder))  # noqa: PTH100 - as it is named, links not followed
    return any(exists(parent / ".git") for parent in (place, *place.parents))


def _by_git(folder: Path, names: Sequence[str]) -> dict[str, str] | None:
    """Name → pattern, by `git check-ignore`; None if git is missing or does not answer."""
    # A repository's own settings may name a program that watches its files: it is not started.
    argv = ["git", "-C", str(folder), "-c", "core.fsmonitor=false"]
    argv += ["-c", "core.quotePath=false", "check-ignore", "--verbose", "--", *names]
    try:
        completed = processes.run(argv, timeout=_SECONDS)
    except EnvbuilderError:
        return None
    if completed.returncode not in (0, 1):
        return None
    rules = {}
    for line in completed.stdout.splitlines():
        rule, _, name = line.partition("\t")
        source, _, rest = rule.partition(":")
        number, _, pattern = rest.partition(":")
        # The last pattern that matches may be one that takes the file in again.
        if name and not pattern.startswith("!"):
            rules[name] = f"{source}:{number}: {pattern}"
    return rules


# --- without git ---------------------------------------------------------------------------------------------------


def _by_patterns(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Name → pattern, by the patterns of the .gitignore in this folder; those in other places are not read."""
    if not exists(folder / FILE):
        return {}
    text = read_text(folder / FILE, errors="replace")
    patterns = list(_patterns(text))
    rules = {}
    for name in names:
        found = _last_match(name, patterns)
        if found:
            rules[name] = found
    return rules


def _patterns(text: str) -> Iterator[tuple[str, str]]:
    """Each pattern, and how it is cited."""
    number = 0
    for line in text.splitlines():
        number += 1
        pattern = line.rstrip()
        if not pattern or pattern.startswith("#"):
            continue
        yield pattern, f"{FILE}:{number}: {pattern}"


def _last_match(name: str, patterns: Sequence[tuple[str, str]]) -> str:
    """How the pattern is cited that hides a file; empty if none does. A file in a hidden folder stays hidden."""
    path = PurePosixPath(name)
    places = [*reversed(path.parents), path]
    for place in places[1:]:
        found = ""
        for pattern, cited in patterns:
            plain = pattern.removeprefix("!")
            if _matches(str(place), plain, is_folder=place != path):
                found = "" if pattern.startswith("!") else cited
        if found:
            return found
    return ""


def _matches(name: str, pattern: str, *, is_folder: bool) -> bool:
    """Whether a pattern means this file or folder itself."""
    if pattern.endswith("/"):
        if not is_folder:
            return False
        pattern = pattern.rstrip("/")
    if "/" not in pattern:
        return fnmatchcase(name.rpartition("/")[2], pattern)
    pattern = pattern.removeprefix("/")
    if pattern.startswith("**/"):
        tail = pattern.removeprefix("**/")
        return fnmatchcase(name, tail) or fnmatchcase(name, f"*/{tail}")
    # Here a star does not cross a slash.
    same_depth = name.count("/") == pattern.count("/")
    return same_depth and fnmatchcase(name, pattern)
