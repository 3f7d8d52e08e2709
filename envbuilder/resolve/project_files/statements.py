"""What a line of a project's file says, before anybody decides what becomes of it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envbuilder import grammar

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATHS = ("./", "../", "/", "file:", "~", ".[")
_ARCHIVES = (".whl", ".tar.gz", ".tar.bz2", ".tgz", ".zip")
_LONGEST = 200  # characters of a line that an answer quotes
_TAG = re.compile(r"cu[0-9]{3}")
_OF_PYTORCH = ("torch", "torchvision", "torchaudio")
ITSELF = "the project itself: its code is mounted"
_PYTORCH = "download.pytorch.org"
_DEFAULT_INDEXES = ("org", "python.org")  # what follows "pypi." in their names


class StatementKind(StrEnum):
    """What a statement asks for."""

    PACKAGE = "package"  # install it
    CONSTRAINT = "constraint"  # only if something needs it: which version
    OPTION = "option"  # of a request: `name`, `value`
    PYTHON = "python"  # `requires-python`
    INDEX = "index"  # the address of the package index
    SYSTEM_PACKAGE = "system package"  # of the distribution
    INCLUDE = "include"  # another file; its name is relative to this one
    INCLUDE_CONSTRAINTS = "include constraints"
    NOTHING = "nothing"  # left out; `value` is why


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLine:
    """A line of a file, for answers and errors."""

    file: str
    number: int  # from 1; 0: of the whole file
    text: str  # printable, short, without a password

    @property
    def place(self) -> str:
        """`requirements.txt:12`."""
        return f"{self.file}:{self.number}" if self.number else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatement:
    """One thing that a line says; a line can say several."""

    line: FileLine
    kind: StatementKind
    value: str
    name: str = ""  # of the option
    is_soft: bool = (
        False  # of an option: what the file happens to have, not what its packages need
    )
    overrides: bool = False  # later statements win, as commands of a Dockerfile do
    has_hash: bool = False  # of a package: `--hash` stands behind it


class FileProblem(ValueError):
    """A line, or a whole file, that cannot be read; the message says where."""


def problem(line: FileLine, text: str) -> FileProblem:
    """The error for a line: `requirements.txt:12: 'a b' is not a package`."""
    return FileProblem(f"{line.place}: {line.text!r} {text}")


def file_line(file: str, number: int, text: str) -> FileLine:
    """A line whose text can be printed."""
    shown = grammar.one_line(without_secrets(text), _LONGEST)
    return FileLine(file=file, number=number, text=shown)


_LOGIN = re.compile(r"(?<=://)[^/@\s'\"]+@")
_QUERY = re.compile(r"(://[^\s?'\"]+)\?[^\s'\"#]+")


def without_secrets(text: str) -> str:
    """Text whose addresses have no login and no query, which may be a token."""
    return _QUERY.sub(r"\1?****", _LOGIN.sub("****@", text))


def left_out(line: FileLine, reason: str) -> FileStatement:
    """A statement that asks for nothing, and why."""
    return FileStatement(line=line, kind=StatementKind.NOTHING, value=reason)


def option(
    line: FileLine, name: str, value: str, *, soft: bool = False
) -> FileStatement:
    """A statement that is an option of a request."""
    return FileStatement(
        line=line,
        kind=StatementKind.OPTION,
        name=name,
        value=value,
        is_soft=soft,
    )


def requires_python(line: FileLine, bounds: str) -> FileStatement:
    """A statement that bounds the Python."""
    return FileStatement(line=line, kind=StatementKind.PYTHON, value=bounds)


def include(line: FileLine, name: str) -> FileStatement:
    """A statement that another file has more."""
    return FileStatement(line=line, kind=StatementKind.INCLUDE, value=name)


def package(
    line: FileLine, text: str, kind: StatementKind = StatementKind.PACKAGE
) -> FileStatement:
    """A package as PEP 508 writes it. Raises `FileProblem` for what is none; an address or a path is judged later."""
    text = text.strip()
    if is_address(text):
        pin = _pin_of_wheel(split_marker(text)[0])
        return FileStatement(line=line, kind=kind, value=pin or _as_path(text))
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise problem(line, "is not a package") from None
    return FileStatement(line=line, kind=kind, value=str(requirement))


def _pin_of_wheel(text: str) -> str:
    """`torch==2.0.1+cu118` of the address of such a wheel; "" for a package that is not the stack's own."""
    path, _, _ = text.partition("#")
    file = unquote(path.rsplit("/", maxsplit=1)[-1])
    try:
        name, version, _, _ = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return ""
    return f"{name}=={version}" if name in _OF_PYTORCH else ""


def split_marker(text: str) -> tuple[str, str]:
    """`./mylib` and the marker of `./mylib ; python_version < "3.9"`; the blank before the semicolon is needed."""
    place, _, marker = text.partition(" ;")
    return place.strip(), marker.strip()


def _as_path(text: str) -> str:
    """`dist/x.whl` as `./dist/x.whl`, which tells a path from a name."""
    first = text.split(" ", maxsplit=1)[0]
    is_path = "://" not in text and " @ " not in text
    if is_path and not first.startswith((".", "/", "file:", "~")):
        return f"./{text}"
    return text


def is_address(text: str) -> bool:
    """Whether it names a file, a folder or a repository rather than a package of the index."""
    if _ADDRESS.search(text):
        return True
    first = text.split(" ", maxsplit=1)[0]
    if first in (".", "..") or first.startswith(_PATHS):
        return True
    if "/" in first and "@" not in first:
        return True  # a folder, as pip has it
    name, _, _ = first.lower().partition("#")
    return name.endswith(_ARCHIVES)


def index_statements(
    line: FileLine, url: str, *, is_extra: bool
) -> Iterator[FileStatement]:
    """What the address of a package index says; PyTorch's own ones name a CUDA."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise problem(line, "has no valid address") from None
    steps = [step for step in parts.path.split("/") if step]
    last = steps[-1] if steps else ""
    if last.endswith(".html") and len(steps) > 1:
        last = steps[-2]  # whl/cu118/torch_stable.html
    if "nightly" in steps:
        yield left_out(line, "nightly builds of torch change every day")
    elif _TAG.fullmatch(last):
        yield option(line, "cuda", f"{last[2:4]}.{last[4]}", soft=is_extra)
    elif last == "cpu" and (host == _PYTORCH or "whl" in steps):
        yield option(line, "flavour", "cpu", soft=is_extra)
    elif host == _PYTORCH:
        if last.startswith(("rocm", "xpu")):
            yield left_out(line, f"{last} is no CUDA")
        else:
            yield left_out(line, "envbuilder knows where PyTorch's wheels are")
    elif _is_default_index(host):
        yield left_out(line, "packages come from there anyway")
    elif is_extra:
        yield left_out(
            line,
            "only one index is asked: name one that has all packages with `--index-url`",
        )
    elif grammar.matches(grammar.IndexUrl, url):
        yield FileStatement(line=line, kind=StatementKind.INDEX, value=url)
    else:
        raise problem(line, "has no valid address")


def _is_default_index(host: str) -> bool:
    name, _, domain = host.partition(".")
    return name == "pypi" and domain in _DEFAULT_INDEXES


def plain_url(url: str) -> str:
    """An address without its login and its query."""
    parts = urlsplit(url)
    host = parts.netloc.rsplit("@", maxsplit=1)[-1]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def line_numbers(text: str, needles: Iterable[str]) -> dict[str, int]:
    """The first line in which each of these texts is; 0 for one that is in none."""
    numbers = dict.fromkeys(needles, 0)
    lines = text.splitlines()
    for needle in numbers:
        for number, line in enumerate(lines, 1):
            if needle in line:
                numbers[needle] = number
                break
    return numbers
