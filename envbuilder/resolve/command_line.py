"""Command-line options → `Request` → a command that can be pasted."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date

from packaging.requirements import Requirement

from envbuilder.catalog.rows import Catalog
from envbuilder.errors import UsageError
from envbuilder.model import ANY, BASE_AUTO, BASE_BOOTSTRAP, Request
from envbuilder.resolve.base_name import read_base_name
from envbuilder.resolve.companion_table import merged_companions
from envbuilder.resolve.option_row import DEFAULT_REQUEST, option_name
from envbuilder.resolve.options import OPTIONS, find_option
from envbuilder.resolve.package_pins import (
    decided_by_stack,
    options_meant,
    package_beside,
    with_options,
)
from envbuilder.resolve.parsers import parse_apt, parse_companion, parse_package

_LONGEST_QUOTE = 60
NO_COMPANION = "none"
"""What `--with` takes against companions in `envbuilder.toml`."""


# --- text → request ------------------------------------------------------------------------------------------------


def quoted(value: object) -> str:
    """A value for a message: quoted, without control characters, and short enough to read."""
    text = _literal(value)
    if len(text) <= _LONGEST_QUOTE:
        return text
    if not isinstance(value, str):
        start = text[: _LONGEST_QUOTE - 4]
        return f"{start}…"
    # Cut the value, not its literal, which may break an escape; the quote behind it need not be an apostrophe.
    value_start = value[:_LONGEST_QUOTE]
    while len(_literal(value_start)) > _LONGEST_QUOTE - 3:
        value_start = value_start[:-1]
    text = _literal(value_start)
    start = text[:-1]
    quote = text[-1]
    length = len(value)
    return f"{start}…{quote} ({length} characters)"


def _literal(value: object) -> str:
    return repr(value) if str(value).isprintable() else ascii(value)


def parse_option(name: str, text: str) -> object:
    """The value of one option of a request; raises `ValueError` that says what it takes."""
    option = find_option(name)
    if option is None:
        raise KeyError(name)
    return option.parse(text)


def parse_request(
    options: Mapping[str, str | None],
    packages: Sequence[str] = (),
    apt: Sequence[str] = (),
    companions: Sequence[str] = (),
) -> Request:
    """The request that options describe, `any` leaving one open; raises one `UsageError` with every problem in it."""
    requirements, package_problems = _parse_packages(packages)
    requirements, options, more_problems = _options_of_packages(requirements, options)
    values, problems = _parse_options(options)
    system_packages, apt_problems = _parse_apt(apt)
    with_these, companion_problems = _parse_companions(companions)
    problems += package_problems + more_problems + companion_problems + apt_problems
    if not problems:
        request = Request(
            **values,  # type: ignore[arg-type]
            packages=requirements,
            companions=with_these,
            apt=system_packages,
        )
        if request.python is not None or not _needs_python(request.base):
            return request
        problems.append(
            f"--base {request.base} needs --python X.Y: the version inside the image cannot be known"
        )
    message = "the request has several errors"
    if len(problems) == 1:
        message = problems.pop()
    raise UsageError(
        message,
        problems=problems,
        hint="see `envbuilder resolve --help` for what each option takes",
    )


def _needs_python(base: str) -> bool:
    """Whether the name of a base does not tell which Python an image on it has."""
    if base in (BASE_AUTO, BASE_BOOTSTRAP):
        return False
    return read_base_name(base).needs_python


def check_day(request: Request, today: date) -> None:
    """Raise `UsageError` for a day in the future: nobody knows the packages of that day."""
    if request.as_of and request.as_of > today:
        raise UsageError(
            f"--as-of {request.as_of} is in the future",
            hint="use a day that has passed",
        )


def _parse_options(
    options: Mapping[str, str | None],
) -> tuple[dict[str, object], list[str]]:
    """The values by field, and one line for each option that cannot be parsed."""
    values: dict[str, object] = {}
    problems = []
    for name, text in options.items():
        option = find_option(name)
        if option is None:
            raise KeyError(name)
        if text is None or text == ANY:
            continue
        flag = f"--{option_name(name)}"
        if option.name in values:
            problems.append(f"{flag} and {option.flag} are the same option: give one")
            continue
        try:
            values[option.name] = option.parse(text)
        except ValueError as error:
            problems.append(f"{flag} {quoted(text)}: {error}")
    return values, problems


def _parse_packages(packages: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The requirements in their order, and one line for each invalid one.

    Unlike a value, `any` is a legal package name.
    """
    requirements = []
    problems = []
    for text in packages:
        try:
            requirements.append(parse_package(text))
        except ValueError as error:
            problems.append(f"--package {quoted(text)}: {error}")
    return tuple(requirements), problems


def _parse_companions(texts: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The companions by name, each once, and one line for each invalid one; `none` asks for none."""
    companions = []
    problems = []
    for text in texts:
        if text == NO_COMPANION:
            continue
        try:
            companions.append(parse_companion(text))
        except ValueError as error:
            problems.append(f"--with {quoted(text)}: {error}")
    return merged_companions(companions), problems


def _options_of_packages(
    packages: Sequence[str], options: Mapping[str, str | None]
) -> tuple[tuple[str, ...], Mapping[str, str | None], list[str]]:
    """The packages that are not the stack's own, the options with what the others mean, and one line for each clash.

    `torch==2.0.1+cu117` means `--torch 2.0.1 --cuda 11.7`.
    """
    kept = []
    problems = []
    values = {name: text for name, text in options.items() if text not in (None, ANY)}
    for package in packages:
        requirement = Requirement(package)
        reason = decided_by_stack(requirement)
        if reason:
            problems.append(f"--package {quoted(package)}: {reason}")
            continue
        try:
            meant = {} if requirement.marker else options_meant(requirement)
        except ValueError as error:
            problems.append(f"--package {quoted(package)}: {error}")
            continue
        values, disagreeing = with_options(values, meant)
        for name in disagreeing:
            problems.append(
                f"--package {package} and --{option_name(name)} {values[name]} are different versions: give one"
            )
        if not meant:
            kept.append(package)
        elif beside := package_beside(requirement):
            kept.append(beside)
    return tuple(kept), {**options, **values}, problems


def has_pins(packages: Sequence[str]) -> bool:
    """Whether one of the packages means an option; invalid ones are reported by `parse_request`."""
    for package in packages:
        with suppress(ValueError):
            if options_meant(Requirement(package)):
                return True
    return False


def _parse_apt(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The system packages, each once and sorted, and one line for each invalid name."""
    valid = set()
    problems = []
    for text in names:
        try:
            valid.add(parse_apt(text))
        except ValueError as error:
            problems.append(f"--apt {quoted(text)}: {error}")
    return tuple(sorted(valid)), problems


# --- request → text ------------------------------------------------------------------------------------------------


def texts_of_set_options(request: Request) -> dict[str, str]:
    """The options that narrow the choice, by field, as the command line takes them."""
    texts = {}
    for option in OPTIONS:
        if not option.is_set(request):
            continue
        text = option.text_in(request)
        texts[option.name] = text
    return texts


def context_flags(catalog: Catalog) -> tuple[str, ...]:
    """What a command needs in addition to the request, to be answered by this catalog."""
    return (f"--catalog {shlex.quote(catalog.own)}",) if catalog.own else ()


def command(
    request: Request,
    verb: str = "resolve",
    *,
    instead_of: Request = DEFAULT_REQUEST,
    flags: Sequence[str] = (),
) -> str:
    """The request as a command that can be pasted, with further flags behind it.

    What `instead_of` sets and the request does not is given its default, because `envbuilder.toml` may set it.
    """
    given = []
    dropped = []
    for option in OPTIONS:
        if option.is_set(request):
            text = option.text_in(request)
            given.append(f"{option.flag} {shlex.quote(text)}")
        elif option.is_set(instead_of):
            dropped.append(f"{option.flag} {option.default_text}")
    words = ["envbuilder", verb]
    words += given
    words += dropped
    words += _companion_words(request, instead_of)
    of_files = {package for package, _ in request.places}
    for package in request.packages:
        if package not in of_files:
            words.append(f"--package {shlex.quote(package)}")
    words += [f"--apt {name}" for name in request.apt if name not in of_files]
    words += flags
    return " ".join(words)


def _companion_words(request: Request, instead_of: Request) -> list[str]:
    """`--with vllm`; a companion of the project's files is in them, and cannot be dropped by a command."""
    of_files = {text for text, _ in request.places}
    words = []
    for text in request.companions:
        if text not in of_files:
            words.append(f"--with {shlex.quote(text)}")
    if instead_of.companions and not request.companions:
        words.append(f"--with {NO_COMPANION}")
    return words
