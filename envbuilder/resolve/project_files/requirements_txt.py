"""pip's requirements files: https://pip.pypa.io/en/stable/reference/requirements-file-format/.

Lines are taken apart here; what a package is, `packaging` says.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from envbuilder.resolve.project_files.statements import (
    ITSELF,
    FileLine,
    FileStatement,
    StatementKind,
    file_line,
    include,
    index_statements,
    left_out,
    package,
    problem,
)

_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_LINE_OPTION = re.compile(r"\s+--?[a-z][a-z-]*(?:[ =]|$)")
_NAMES_INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|(?:^|\s)-[fi]\s")
_SHORT = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-i": "--index-url",
    "-f": "--find-links",
    "-e": "--editable",
}
_OTHER_NAMES = {"--pypi-url": "--index-url", "--requirements": "--requirement"}
_OF_PIP = "an option of pip; uv locks the packages"


def read_requirements(
    text: str, file: str, *, constraints: bool = False
) -> Iterator[FileStatement]:
    """What each line of a requirements file says. Raises `FileProblem` for one that pip would not accept either."""
    kind = StatementKind.CONSTRAINT if constraints else StatementKind.PACKAGE
    for number, logical in _logical_lines(text):
        line = file_line(file, number, logical)
        if _VARIABLE.search(logical):
            yield left_out(line, "it depends on an environment variable")
        elif logical.startswith("-"):
            yield from _option_line(line, logical)
        else:
            start = _LINE_OPTION.search(logical)
            end = start.start() if start else len(logical)
            content = logical[:end]
            if is_itself(content):
                yield left_out(line, ITSELF)
            else:
                statement = package(line, content, kind)
                yield replace(statement, has_hash="--hash" in logical[end:])
            rest = logical[end:].strip()
            if _NAMES_INDEX.search(rest):
                yield from _option_line(line, rest)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined where one ends with a backslash, without comments; with the number of the first."""
    start = 0
    joined = ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        # A comment ends the line that is continued, as with pip.
        is_comment = _COMMENT.match(line)
        if line.endswith("\\") and not is_comment:
            joined += line[:-1]
            continue
        joined += line
        yield from _stripped(start, joined)
        start = 0
        joined = ""
    if joined:
        yield from _stripped(start, joined)


def _stripped(number: int, line: str) -> Iterator[tuple[int, str]]:
    content = _COMMENT.sub("", line).strip()
    if content:
        yield number, content


def _option_line(line: FileLine, text: str) -> Iterator[FileStatement]:
    try:
        words = shlex.split(text)
    except ValueError:
        raise problem(line, "has an open quote") from None
    yield from option_words(line, words)


def option_words(line: FileLine, words: Sequence[str]) -> Iterator[FileStatement]:
    """What options of pip say, on a line of a file or of a command; packages between them are for the caller."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, value = _split(word)
        read = _READERS.get(name)
        if read is None:
            # `--trusted-host example` has a value that is no option.
            has_value = name in _WITH_VALUE
            if has_value and not value and rest:
                rest.pop(0)
            yield left_out(line, _OF_PIP)
            continue
        if not value and rest:
            value = rest.pop(0)
        if not value:
            raise problem(line, "lacks a value")
        yield from read(line, value)


def _split(word: str) -> tuple[str, str]:
    """Name and value of `--name=value`, `-rvalue` or a name alone."""
    if word.startswith("--"):
        name, _, value = word.partition("=")
        name = _OTHER_NAMES.get(name, name)
        return name, value
    letter = word[:2]
    value = word[2:]
    name = _SHORT.get(letter, word)
    return name, value.removeprefix("=")


def takes_value(word: str) -> bool:
    """Whether an option of pip has its value in the next word."""
    name, value = _split(word)
    return not value and (name in _READERS or name in _WITH_VALUE)


_WITH_VALUE = frozenset(
    {
        "--trusted-host", "--no-binary", "--only-binary", "--use-feature", "--platform", "--python-version", "--target",
        "--prefix", "--root", "--timeout", "--retries", "--cache-dir", "--cert", "--progress-bar", "--upgrade-strategy",
        "--config-settings", "--global-option", "--src", "--log", "--proxy", "--report", "--extra", "--group",
        "--index-strategy", "--python", "--torch-backend", "-t", "-C", "-p",
    }
)  # fmt: skip


def _requirement(line: FileLine, value: str) -> Iterator[FileStatement]:
    yield include(line, value)


def _constraint(line: FileLine, value: str) -> Iterator[FileStatement]:
    yield FileStatement(line=line, kind=StatementKind.INCLUDE_CONSTRAINTS, value=value)


def _index(line: FileLine, value: str) -> Iterator[FileStatement]:
    yield from index_statements(line, value, is_extra=False)


def _extra_index(line: FileLine, value: str) -> Iterator[FileStatement]:
    yield from index_statements(line, value, is_extra=True)


def is_itself(text: str) -> bool:
    """Whether a line names the project that its file is in: `.`, `.[train]`."""
    folder, _, _ = text.partition("[")
    return folder.strip() in (".", "./")


def _editable(line: FileLine, value: str) -> Iterator[FileStatement]:
    if is_itself(value):
        yield left_out(line, ITSELF)
        return
    if "://" not in value:
        value = _as_path(value)
    yield package(line, value)


def _as_path(value: str) -> str:
    return value if value.startswith((".", "/", "~")) else f"./{value}"


_READERS: dict[str, Callable[[FileLine, str], Iterator[FileStatement]]] = {
    "--requirement": _requirement,
    "--constraint": _constraint,
    "--index-url": _index,
    "--extra-index-url": _extra_index,
    "--find-links": _extra_index,
    "--editable": _editable,
}
