"""Dockerfiles: what the image they make is based on, and what their commands install.

A closed reader of the few instructions that say so. Nothing of a Dockerfile is run, and a variable is only replaced by
the value that the file itself gives it.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from envbuilder import grammar
from envbuilder.resolve.project_files.conda_environment import read_dependency
from envbuilder.resolve.project_files.requirements_txt import option_words, takes_value
from envbuilder.resolve.project_files.statements import (
    ITSELF,
    FileLine,
    FileProblem,
    FileStatement,
    StatementKind,
    file_line,
    include,
    is_address,
    left_out,
    option,
    package,
    problem,
)

_INSTRUCTION = re.compile(r"([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_VARIABLE = re.compile(
    r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_OPERATORS = frozenset({"&&", "||", ";", "|", "&", "(", ")", "{", "}", "\n"})
_NUMBER = r"([0-9]+\.[0-9]+)(?:\.[0-9]+)?"
_CUDA_IMAGE = re.compile(
    rf"{_NUMBER}(?:-cudnn([0-9]*))?-(base|runtime|devel)-([a-z0-9.]+)"
)
_PYTORCH_IMAGE = re.compile(
    r"([0-9]+\.[0-9]+\.[0-9]+)-cuda([0-9]+\.[0-9]+)-cudnn([0-9]+)-(runtime|devel)"
)
_PYTHON_IMAGE = re.compile(r"([0-9]+\.[0-9]+)(?:\.[0-9]+)?(?:-.*)?")
_SYSTEM_PYTHON = re.compile(
    r"python[0-9.]*(?:-(?:dev|pip|venv|distutils|setuptools|wheel|is-python3))?|python-is-python3"
)
_WITH_JOINED_VALUE = ("-r", "-c", "-e", "-i", "-f")
_SYNCED = {"uv": "uv.lock", "poetry": "pyproject.toml", "pipenv": "Pipfile"}
_CONDA_WITH_VALUE = ("-c", "--channel", "-n", "--name", "-p", "--prefix", "--solver")
_UNKNOWN = "it depends on a variable without a value"
_SKIPPED = {
    "CMD": "an image's command is its own",
    "ENTRYPOINT": "an image's entrypoint is its own",
    "COPY": "the project's files are mounted, not copied",
    "ADD": "the project's files are mounted, not copied",
    "WORKDIR": "an image has its own folder",
    "USER": "an image has its own user",
}


@dataclass(slots=True)
class Stage:
    """One stage of a Dockerfile: its name, what it is based on, and what it says."""

    name: str
    base: str
    statements: list[FileStatement] = field(default_factory=list)


def read_dockerfile(text: str, file: str) -> Iterator[FileStatement]:
    """What the last stage of a Dockerfile, and those it is based on, say. Raises `FileProblem` without a FROM."""
    stages = _stages(text, file)
    if not stages:
        raise FileProblem(f"{file}: it has no FROM")
    used = _used(stages)
    for stage in stages:
        if id(stage) in used:
            for statement in stage.statements:
                yield replace(statement, overrides=True)
        else:
            lines = [statement.line for statement in stage.statements]
            for line in dict.fromkeys(lines):
                yield left_out(line, "of another stage than the last one")


def _used(stages: Sequence[Stage]) -> set[int]:
    """The last stage and those that it is made from."""
    used: set[int] = set()
    wanted = stages[-1].name
    for stage in reversed(stages):
        is_last = not used
        if is_last or stage.name == wanted:
            number = id(stage)
            used.add(number)
            wanted = stage.base
    return used


def _stages(text: str, file: str) -> list[Stage]:
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    before_from: list[FileStatement] = []
    for number, instruction, rest in _instructions(text, file):
        line = file_line(file, number, f"{instruction} {rest}")
        if instruction == "FROM":
            stage = _from(line, rest, arguments, stages)
            stage.statements = [*before_from, *stage.statements]
            before_from = []
            stages.append(stage)
            continue
        said = list(_said(line, instruction, rest, arguments))
        if stages:
            stages[-1].statements += said
        else:
            before_from += said
    return stages


def _instructions(text: str, file: str) -> Iterator[tuple[int, str, str]]:
    """Number of the first line, name and rest of each instruction; continued lines and heredocs are joined."""
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        start = position
        joined, position = _continued(lines, position)
        content = joined.strip()
        if not content:
            continue
        match = _INSTRUCTION.fullmatch(content)
        if not match:
            line = file_line(file, start + 1, content)
            raise problem(line, "is no instruction")
        rest = match[2] or ""
        for _, word in _HEREDOC.findall(rest):
            body, position = _heredoc(lines, position, word)
            rest = _HEREDOC.sub("", rest, count=1) + "\n" + body
        yield start + 1, match[1].upper(), rest


def _continued(lines: Sequence[str], position: int) -> tuple[str, int]:
    """A line with those that continue it, without comments, and the position behind them."""
    parts: list[str] = []
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.lstrip().startswith("#"):
            if parts:
                continue  # a comment between continued lines
            return "", position
        stripped = line.rstrip()
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        if not stripped and parts:
            continue  # Docker skips empty lines there
        parts.append(stripped)
        break
    return " ".join(parts), position


def _heredoc(lines: Sequence[str], position: int, word: str) -> tuple[str, int]:
    body = []
    count = len(lines)
    while position < count:
        line = lines[position]
        position += 1
        content = line.strip()
        if content == word:
            break
        body.append(line)
    text = "\n".join(body)
    return text, position


def _said(
    line: FileLine, instruction: str, rest: str, arguments: dict[str, str]
) -> Iterator[FileStatement]:
    if instruction in ("ARG", "ENV"):
        _remember(rest, arguments)
        yield left_out(line, "a variable of the build")
    elif instruction == "RUN":
        yield from _run(line, rest, arguments)
    else:
        reason = _SKIPPED.get(instruction, "an image has its own")
        yield left_out(line, reason)


def _remember(rest: str, arguments: dict[str, str]) -> None:
    first, _, others = rest.partition(" ")
    if others and "=" not in first:  # the old form: ENV NAME value
        arguments[first] = others.strip()
        return
    for word in _words(rest):
        name, sign, value = word.partition("=")
        if sign:
            text, _ = _substituted(value, arguments)
            arguments[name] = text


def _substituted(text: str, arguments: Mapping[str, str]) -> tuple[str, bool]:
    """Text with the variables that the file sets, and whether there is one that it does not set."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        name = match[1] or match[3]
        if name in arguments:
            return arguments[name]
        if match[2] is not None:
            return match[2]
        unknown = True
        return match[0]

    # A value of a value could grow without end.
    return _VARIABLE.sub(value, text)[: 4 * grammar.LONGEST_TEXT], unknown


def _words(text: str) -> list[str]:
    """The words and operators of a shell command; those of one with an open quote as they are."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return text.split()


# --- FROM ----------------------------------------------------------------------------------------------------------


def _from(
    line: FileLine, rest: str, arguments: Mapping[str, str], stages: Sequence[Stage]
) -> Stage:
    words = [word for word in rest.split() if not word.startswith("--")]
    if not words:
        raise FileProblem(f"{line.place}: FROM has no image")
    image, is_unknown = _substituted(words[0], arguments)
    name = words[2].lower() if len(words) == 3 and words[1].upper() == "AS" else ""
    stage = Stage(name=name, base=image.lower())
    if any(image.lower() == other.name for other in stages):
        stage.statements = [left_out(line, "the stage above")]
    elif is_unknown:
        stage.statements = [
            left_out(line, "its image depends on a variable without a value")
        ]
    else:
        stage.statements = list(_image(line, image))
    return stage


def _image(line: FileLine, image: str) -> Iterator[FileStatement]:
    reference = image.split("@", maxsplit=1)[0]
    repository, _, tag = reference.rpartition(":")
    if not repository or "/" in tag:
        repository, tag = reference, ""
    steps = repository.split("/")
    if steps[-2:] == ["nvidia", "cuda"] or steps[-1] == "cuda":
        yield from _cuda_image(line, tag)
    elif steps[-2:] == ["nvidia", "pytorch"]:
        yield left_out(
            line,
            "NVIDIA's own build of torch is on no index: choose with `--torch` and `--cuda`",
        )
    elif steps[-2:] == ["pytorch", "pytorch"]:
        yield from _pytorch_image(line, tag)
    elif steps[-1] == "python":
        yield from _python_image(line, tag)
    else:
        yield left_out(
            line, "envbuilder chooses a base; yours: `--base IMAGE --python X.Y`"
        )


def _cuda_image(line: FileLine, tag: str) -> Iterator[FileStatement]:
    match = _CUDA_IMAGE.fullmatch(tag)
    if not match:
        yield left_out(line, "its tag names no CUDA that is known")
        return
    cuda, cudnn, kind, system = match.groups()
    yield option(line, "cuda", cuda, soft=True)
    if cudnn:
        yield option(line, "cudnn", cudnn, soft=True)
    reason = f"its {system}: wheels bring CUDA to a Python image"
    if kind == "devel":
        reason = (
            f"its nvcc and its {system}: wheels bring CUDA; with nvcc: `--flavor devel`"
        )
    yield left_out(line, reason)


def _pytorch_image(line: FileLine, tag: str) -> Iterator[FileStatement]:
    match = _PYTORCH_IMAGE.fullmatch(tag)
    if not match:
        yield left_out(line, "its tag names no torch")
        return
    torch, cuda, cudnn, kind = match.groups()
    yield option(line, "torch", torch)
    yield option(line, "cuda", cuda, soft=True)
    yield option(line, "cudnn", cudnn, soft=True)
    if kind == "devel":
        yield left_out(line, "its nvcc: with nvcc is `--flavor devel`")


def _python_image(line: FileLine, tag: str) -> Iterator[FileStatement]:
    match = _PYTHON_IMAGE.fullmatch(tag)
    if match:
        yield option(line, "python", match[1])
    else:
        yield left_out(line, "its tag names no version of Python")


# --- RUN -----------------------------------------------------------------------------------------------------------


def _run(
    line: FileLine, rest: str, arguments: Mapping[str, str]
) -> Iterator[FileStatement]:
    said = False
    for command in _commands(_exec_form(rest) or _words(rest)):
        for statement in _command(line, command, arguments):
            said = True
            yield statement
    if not said:
        yield left_out(line, "not a package: commands are not run")


def _exec_form(rest: str) -> list[str]:
    """The words of `["pip", "install", "x"]`; empty for a line of a shell."""
    if not rest.lstrip().startswith("["):
        return []
    try:
        words = json.loads(rest)
    except (ValueError, RecursionError):
        return []
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return words
    return []


def _commands(words: Sequence[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word.strip(";&|()\n") == "" or word in _OPERATORS:
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def _command(
    line: FileLine, words: Sequence[str], arguments: Mapping[str, str]
) -> Iterator[FileStatement]:
    """What one command installs; nothing for a command that installs nothing."""
    words = _without_prefixes(words)
    if len(words) < 2:
        return
    program = words[0].rsplit("/", maxsplit=1)[-1]
    rest = words[1:]
    if program in ("apt-get", "apt", "aptitude"):
        yield from _system_packages(line, rest, arguments)
    elif re.fullmatch(r"pip[0-9.]*", program):
        yield from _pip(line, rest, arguments)
    elif re.fullmatch(r"python[0-9.]*", program) and rest[:2] == ["-m", "pip"]:
        yield from _pip(line, rest[2:], arguments)
    elif program == "uv" and rest[0] == "pip":
        yield from _pip(line, rest[1:], arguments)
    elif program in ("conda", "mamba", "micromamba"):
        yield from _conda(line, rest, arguments)
    elif program in _SYNCED and rest[0] in ("sync", "install"):
        yield include(line, _SYNCED[program])


def _conda(
    line: FileLine, words: Sequence[str], arguments: Mapping[str, str]
) -> Iterator[FileStatement]:
    """`conda install …`, and `conda env create -f environment.yml`."""
    for verb in ("install", "create", "update"):
        if verb in words:
            rest = list(words[words.index(verb) + 1 :])
            break
    else:
        return
    while rest:
        word, is_unknown = _substituted(rest.pop(0), arguments)
        own = file_line(line.file, line.number, word)
        if word in ("-f", "--file") and rest:
            yield include(line, rest.pop(0))
        elif word in _CONDA_WITH_VALUE and rest:
            rest.pop(0)
        elif word.startswith("-"):
            continue
        elif is_unknown:
            yield left_out(own, _UNKNOWN)
        else:
            yield from _conda_package(own, word)


def _conda_package(line: FileLine, word: str) -> Iterator[FileStatement]:
    try:
        yield from read_dependency(line, word)
    except FileProblem:
        yield left_out(line, "not a package of conda's")


def _without_prefixes(words: Sequence[str]) -> list[str]:
    """A command without assignments, sudo and options of RUN such as `--mount=…`."""
    rest = list(words)
    while rest:
        first = rest[0]
        is_option = first.startswith("--")
        if (
            is_option
            or first in ("sudo", "env", "exec", "set", "-E")
            or _ASSIGNMENT.fullmatch(first)
        ):
            rest.pop(0)
        else:
            break
    return rest


def _system_packages(
    line: FileLine, words: Sequence[str], arguments: Mapping[str, str]
) -> Iterator[FileStatement]:
    if "install" not in words:
        return
    for word in words[words.index("install") + 1 :]:
        if word.startswith("-"):
            continue
        text, is_unknown = _substituted(word, arguments)
        name = text.split("=")[0]
        own = FileLine(
            file=line.file, number=line.number, text=grammar.one_line(text, 80)
        )
        if is_unknown or not grammar.matches(grammar.DebianPackage, name):
            yield left_out(own, "no name of a Debian package")
        elif _SYSTEM_PYTHON.fullmatch(name):
            yield left_out(own, "the base has its Python")
        else:
            yield FileStatement(line=own, kind=StatementKind.SYSTEM_PACKAGE, value=name)


def _pip(
    line: FileLine, words: Sequence[str], arguments: Mapping[str, str]
) -> Iterator[FileStatement]:
    if not words or "install" not in words:
        return
    rest = list(words[words.index("install") + 1 :])
    while rest:
        word = rest.pop(0)
        text, is_unknown = _substituted(word, arguments)
        if word.startswith("-"):
            option_line = [text]
            has_value = takes_value(word)
            if has_value and rest:
                value, unknown_value = _substituted(rest.pop(0), arguments)
                option_line.append(value)
                is_unknown = is_unknown or unknown_value
            own = file_line(line.file, line.number, " ".join(option_line))
            if is_unknown:
                yield left_out(own, _UNKNOWN)
            elif has_value or "=" in word or word.startswith(_WITH_JOINED_VALUE):
                yield from option_words(own, option_line)
            continue
        own = file_line(line.file, line.number, text)
        if is_unknown:
            yield left_out(own, _UNKNOWN)
        elif text in (".", "./") or text.startswith(".["):
            yield left_out(own, ITSELF)
        elif text in ("pip", "setuptools", "wheel", "uv"):
            yield left_out(own, "an image is installed with uv")
        else:
            yield _pip_package(own, text)


def _pip_package(line: FileLine, text: str) -> FileStatement:
    """One package of a command; what a shell would have made of it is not known."""
    try:
        return package(line, text)
    except FileProblem:
        return left_out(line, "not a package" if not is_address(text) else "an address")
