"""The project's own files that a request is read from: `--requirements`, `requirements` in the settings, `init --from`.

Files are read here, with bounds, and never from outside of the project, unless the command line names them itself.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.local_packages import with_local_name
from envbuilder.cli.settings import (
    Options,
    find_settings,
    is_from_environment,
    origin_of,
    working_folder,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.catalog.rows import Catalog
    from envbuilder.model import Request, Stack
    from envbuilder.render.settings_file import SettingsSource
    from envbuilder.resolve.project_files.combination import ProjectRequest
    from envbuilder.resolve.project_files.statements import FileStatement

LARGEST = 2 * 1024 * 1024  # bytes of a file
_MOST_FILES = 50  # that include each other
_MOST_STATEMENTS = 20_000
_CHOSEN = re.compile(r"(.+?)\[([A-Za-z0-9._, -]*)\]")
_PROJECT = "envbuilder.project"
"""Where the context keeps what the project's files said, for the answer of the command."""
_NEIGHBOURS = ("pyproject.toml", "requirements.txt")
_HINT = "name a file of the project, such as requirements.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFiles:
    """The files that a request is read from, and where they may lead."""

    paths: tuple[str, ...]
    folder: Path  # that the paths are relative to
    root: Path  # that files which they include must be below
    are_settings: bool = (
        False  # named by the settings: they must be in the project, too
    )


def named_files(options: Options) -> NamedFiles | None:
    """The files of the command line, else those of the settings, relative to their file; None if there are none."""
    given = options.get("requirements")
    if given:
        folder = working_folder()
        return NamedFiles(paths=tuple(given), folder=folder, root=folder)
    found = find_settings()
    if found is None or not found[1].get("requirements"):
        return None
    folder = found[0].parent
    return NamedFiles(
        paths=tuple(found[1]["requirements"]),
        folder=folder,
        root=folder,
        are_settings=True,
    )


# --- reading -------------------------------------------------------------------------------------------------------


def read_statements(files: NamedFiles) -> "list[FileStatement]":
    """What the files say, those that they include in their place. Raises `UsageError` with file and line."""
    reading = _Reading(files)
    for text in files.paths:
        name, chosen = _name_and_chosen(text)
        reading.add(name, chosen)
    return reading.statements


def _name_and_chosen(text: str) -> tuple[str, list[str]]:
    """`pyproject.toml` and train, dev of `pyproject.toml[train,dev]`."""
    match = _CHOSEN.fullmatch(text)
    if match is None:
        return text, []
    name, words = match.groups()
    chosen = []
    for word in words.split(","):
        extra = word.strip()
        if not extra:
            continue
        chosen.append(extra)
    return name, chosen


class _Reading:
    """The files that have been read so far."""

    def __init__(self, files: NamedFiles) -> None:
        self.statements: list[FileStatement] = []
        self._files = files
        self._open: list[Path] = []
        self._count = 0

    def add(self, name: str, chosen: Sequence[str]) -> None:
        path = self._files.folder / name
        root = self._files.root
        is_outside = not _is_below(root, path)
        if is_outside and self._files.are_settings:
            raise UsageError(
                f"{name} leads out of {root}",
                hint="put the file itself there, or name it on the command line: `--requirements FILE`",
            )
        if is_outside:
            # The user names it; what it includes must be next to it or below.
            root = path.parent
        self._read(path, name, root, chosen=chosen, constraints=False)

    def _read(
        self,
        path: Path,
        name: str,
        root: Path,
        *,
        chosen: Sequence[str],
        constraints: bool,
    ) -> None:
        from envbuilder.resolve.project_files.kinds import (
            read_constraints,
            read_project_file,
        )
        from envbuilder.resolve.project_files.statements import (
            FileProblem,
            StatementKind,
        )

        real = path.resolve()
        if real in self._open:
            raise UsageError(f"{name} includes itself", hint="remove the line")
        self._count += 1
        if self._count > _MOST_FILES:
            raise UsageError(f"more than {_MOST_FILES} files include each other")
        text = read_any_text(path, name)
        try:
            statements = (
                read_constraints(text, name)
                if constraints
                else read_project_file(text, name, chosen)
            )
        except FileProblem as error:
            raise UsageError(str(error), hint="fix the line and try again") from error
        self._open.append(real)
        for line in statements:
            statement = with_local_name(line, path, self._files.folder, root)
            self.statements.append(statement)
            if len(self.statements) > _MOST_STATEMENTS:
                raise UsageError(f"{name} has more than {_MOST_STATEMENTS} packages")
            if statement.kind in (
                StatementKind.INCLUDE,
                StatementKind.INCLUDE_CONSTRAINTS,
            ):
                self._include(statement, path, name, root, constraints=constraints)
        self._open.pop()

    def _include(
        self,
        statement: "FileStatement",
        path: Path,
        name: str,
        root: Path,
        *,
        constraints: bool,
    ) -> None:
        """The lines of a file that a line names, behind that line."""
        from envbuilder.resolve.project_files.statements import (
            StatementKind,
            left_out,
        )

        other = statement.value
        if "://" in other:
            self.statements[-1] = left_out(
                statement.line, "an address: only files of the project are read"
            )
            return
        included = _find(path, other, is_in_image=statement.overrides)
        if included is None:
            if statement.overrides:
                self.statements[-1] = left_out(
                    statement.line, "no such file in the project"
                )
                return
            raise UsageError(
                f"{statement.line.place}: {other} does not exist", hint="fix the line"
            )
        if not _is_below(root, included):
            raise UsageError(
                f"{statement.line.place}: {other} leads out of {root}",
                hint="name that file itself: `--requirements FILE`",
            )
        prefix = Path(name).parent
        shown = (prefix / _relative(included, path.parent)).as_posix()
        of_constraints = statement.kind is StatementKind.INCLUDE_CONSTRAINTS
        self._read(
            included,
            shown,
            root,
            chosen=(),
            constraints=constraints or of_constraints,
        )


def _relative(path: Path, folder: Path) -> Path:
    try:
        return path.relative_to(folder)
    except ValueError:
        return Path(path.name)


def _is_below(root: Path, path: Path) -> bool:
    from envbuilder.files import is_below

    return is_below(root, path)


def _find(path: Path, other: str, *, is_in_image: bool) -> Path | None:
    """The file that a line of `path` names; a command of a Dockerfile names it by its place in the image."""
    from envbuilder.files import is_file

    candidates = [path.parent / other]
    if is_in_image:
        parts = [part for part in Path(other).parts if part not in ("/", "..", "~")]
        candidates = [path.parent.joinpath(*parts[n:]) for n in range(len(parts))]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    return None


def read_any_text(path: Path, name: str) -> str:
    """The text of a file in UTF-8 or UTF-16, as editors on every system write it."""
    from envbuilder.console import clean
    from envbuilder.files import is_folder, read_bytes

    if is_folder(path):
        raise UsageError(f"{clean(name)} is a folder", hint=_HINT)
    try:
        content = read_bytes(path, limit=LARGEST, hint=_HINT)
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UsageError(f"{clean(name)} does not exist", hint=_HINT) from error
        raise
    encoding = "utf-8-sig"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{clean(name)} is not text in UTF-8 or UTF-16: byte {error.start} is invalid",
            hint="save it as UTF-8",
        ) from error
    if "\0" in text:
        raise UsageError(f"{clean(name)} is not text: it has a NUL", hint=_HINT)
    return text.replace("\r\n", "\n").replace("\r", "\n")


FOLDER_OF_INIT = "folder_of_init"
"""The parameter with which `init` names its folder."""


# --- what the files ask for ----------------------------------------------------------------------------------------


def project_request(
    options: Options, values: Mapping[str, Any], packages: Sequence[str]
) -> "ProjectRequest":
    """What the project's files ask for, next to what is given; prints what contradicts that. Empty without files."""
    from envbuilder.resolve.project_files.combination import ProjectRequest, combine
    from envbuilder.resolve.project_files.statements import FileProblem

    files = named_files(options)
    if files is None:
        return _neighbours(options, values, packages) or ProjectRequest()
    statements = statements_of(files)
    given = _given(options, values, packages)
    try:
        project = combine(statements, given)
    except FileProblem as error:
        problems = str(error).splitlines()
        message = "the project's files contradict each other"
        if len(problems) == 1:
            message = problems.pop()
        raise UsageError(
            message,
            problems=problems,
            hint="change one of the lines, or decide on the command line, such as `--torch 2.0.1`",
        ) from error
    _print_contradictions(project)
    if project.is_empty:
        _say_once(f"{', '.join(files.paths)}: no package and no version is in it")
    return project


def statements_of(files: NamedFiles) -> "list[FileStatement]":
    """As `read_statements`, once a command."""
    context = click.get_current_context(silent=True)
    cache = context.meta if context else {}
    key = f"{_PROJECT}.statements"
    if cache.get(key, (None,))[0] != files:
        cache[key] = (files, read_statements(files))
    statements: list[FileStatement] = cache[key][1]
    return statements


def index_of_files(options: Options) -> str | None:
    """The address of the package index that the project's files name."""
    from envbuilder.resolve.project_files.statements import StatementKind

    files = named_files(options)
    if files is None:
        return None
    for statement in statements_of(files):
        if statement.kind is StatementKind.INDEX:
            return statement.value
    return None


def _neighbours(
    options: Options, values: Mapping[str, Any], packages: Sequence[str]
) -> "ProjectRequest | None":
    """What the project's own files next to the settings say of Python and torch; nothing of them is installed.

    `requirements = []` in the settings says that they do not describe the image. Before there are settings, `init`
    names the folder that will have them.
    """
    from envbuilder.resolve.project_files.combination import combine, only_bounds
    from envbuilder.resolve.project_files.statements import FileProblem

    found = find_settings()
    if found and "requirements" in found[1]:
        return None
    folder = found[0].parent if found else options.get(FOLDER_OF_INIT)
    if folder is None:
        return None
    names = [name for name in _NEIGHBOURS if _is_readable(folder / name)]
    if not names:
        return None
    files = NamedFiles(
        paths=tuple(names), folder=folder, root=folder, are_settings=True
    )
    try:
        project = combine(
            only_bounds(statements_of(files)), _given(options, values, packages)
        )
    except (UsageError, FileProblem) as error:
        _say_once(f"{' and '.join(names)}: not compared with the request: {error}")
        return None
    _print_contradictions(project)
    # They are no answer to anything that was asked.
    project.answers.clear()
    project.is_neighbour = True
    project.bounds = project.packages
    project.packages = {}
    project.constraints = {}
    return project


def _is_readable(path: Path) -> bool:
    """Whether there is such a file, and TOML is TOML: of a broken one, the project's own tools say so."""
    from envbuilder.files import is_file
    from envbuilder.resolve.project_files.project_toml import parsed_toml
    from envbuilder.resolve.project_files.statements import FileProblem

    if not is_file(path):
        return False
    if path.suffix != ".toml":
        return True
    try:
        parsed_toml(read_any_text(path, path.name), path.name)
    except (UsageError, FileProblem):
        return False
    return True


def _say_once(sentence: str) -> None:
    """Print a note; a command can read its request several times."""
    from envbuilder.console import clean, complain

    context = click.get_current_context(silent=True)
    said = context.meta.setdefault(f"{_PROJECT}.said", set()) if context else set()
    if sentence not in said:
        complain(f"note: {clean(sentence)}")
    said.add(sentence)


def _given(options: Options, values: Mapping[str, Any], packages: Sequence[str]) -> Any:
    from envbuilder.model import Request
    from envbuilder.resolve.parsers import parse_platform
    from envbuilder.resolve.project_files.combination import Given

    origins = {}
    texts = {}
    found = find_settings()
    for name, value in values.items():
        if value is None:
            continue
        texts[name] = str(value)
        if options.get(name) is not None or is_from_environment(name):
            origins[name] = origin_of(name)
        elif found:
            origins[name] = f"{found[0].name}: {name}"
    index_url = options.get("index_url") or (found and found[1].get("index_url"))
    if index_url:
        texts["index_url"] = str(index_url)
    platform = Request().platform
    if texts.get("platform"):
        # Whoever parses the request says what is wrong with it.
        with suppress(ValueError):
            platform = parse_platform(texts["platform"])
    return Given(
        options=texts,
        origins=origins,
        packages=_parsable(packages),
        platform=platform,
    )


def _parsable(packages: Sequence[str]) -> list[str]:
    """The packages that are valid: whoever parses the request reports the others."""
    from envbuilder.resolve.parsers import parse_package

    valid = []
    for text in packages:
        try:
            valid.append(parse_package(text))
        except ValueError:
            continue
    return valid


def _print_contradictions(project: "ProjectRequest") -> None:
    for sentence in project.contradictions:
        _say_once(sentence)


def with_soft_options(
    project: "ProjectRequest", parse: Any, facts: "Catalog"
) -> "tuple[ProjectRequest, Request]":
    """The project and its request, without the options that only say what a file happens to have, if they do not fit.

    An image with CUDA 12.2 runs a torch for CUDA 12.1, which brings its own. `parse` makes a request of a project.
    """
    from envbuilder.resolve.candidate_index import index_for

    index = index_for(facts)
    if project.is_neighbour:
        return _yielding(project, parse, facts)
    soft = project.soft_options
    subsets = chain.from_iterable(
        combinations(soft, count) for count in range(len(soft) + 1)
    )
    for names in subsets:
        changed = project.without(names, _NOT_FITTING)
        request = parse(changed)
        if index.best(request) is not None:
            return changed, request
    changed = project.without(soft, _NOT_FITTING)
    return changed, parse(changed)


def _yielding(
    project: "ProjectRequest", parse: Any, facts: "Catalog"
) -> "tuple[ProjectRequest, Request]":
    """What files that nobody named say of Python and torch holds if it can; if not, a note says so."""
    from envbuilder.resolve.candidate_index import index_for
    from envbuilder.resolve.project_files.combination import ProjectRequest

    index = index_for(facts)
    request = parse(project)
    if index.best(request) is not None:
        return project, request
    alone = parse(ProjectRequest())
    if index.best(alone) is None:
        return ProjectRequest(), alone
    for sentence in project.sentences():
        _say_once(
            f"{sentence}, which does not go together with this request: it is not obeyed "
            "(`requirements = []` in the settings: those files do not describe the image)"
        )
    return ProjectRequest(), alone


_NOT_FITTING = "no stack has it with the rest; torch brings its own CUDA and cuDNN"


def files_for_settings(options: Options) -> "SettingsSource":
    """The files of the command line as the settings refer to them, and what they decide.

    A file outside of the project cannot be referred to: what it says is written into the settings.
    """
    from envbuilder.render.settings_file import SettingsSource
    from envbuilder.resolve.option_row import option_name

    project = remembered_project()
    given = options.get("requirements") or ()
    if project is None or not given:
        return SettingsSource()
    folder = working_folder()
    paths = []
    for name in given:
        match = _CHOSEN.fullmatch(name)
        path = folder / (match[1] if match else name)
        if not _is_below(folder, path) or ".." in path.parts:
            if project.constraints:
                _say_once(
                    f"{name} is not in this folder: its {len(project.constraints)} constraints are not written to the "
                    "settings; copy the file here to keep them"
                )
            return SettingsSource()
        relative = path.relative_to(folder).as_posix()
        paths.append(f"{relative}[{match[2]}]" if match else relative)
    options_decided = {option_name(name) for name in project.options}
    return SettingsSource(
        paths=tuple(paths),
        options=frozenset(options_decided),
        packages=frozenset(project.packages),
        apt=frozenset(project.system_packages),
    )


# --- what a command says about them ----------------------------------------------------------------------------------


def remember_project(project: "ProjectRequest") -> None:
    """Keep what the files said, for the answer of this command."""
    context = click.get_current_context(silent=True)
    if context is not None and not project.is_empty:
        context.meta[_PROJECT] = project


def remembered_project() -> "ProjectRequest | None":
    """What the files of this command's request said; None if there are none."""
    context = click.get_current_context(silent=True)
    found: ProjectRequest | None = context.meta.get(_PROJECT) if context else None
    return found


def answers_document(stack: "Stack") -> dict[str, Any]:
    """What became of each line, as a part of a document for `--json`; empty if no file was read."""
    project = remembered_project()
    if project is None:
        return {}
    documents = []
    for answer in project.answers_for(stack.platform, stack.python):
        documents.append(
            {
                "file": answer.file,
                "line": answer.line or None,
                "text": answer.text,
                "outcome": answer.outcome.value,
                "detail": answer.detail,
            }
        )
    return {"requirements": documents}


def say_answers(stack: "Stack | None" = None, *, only_left_out: bool = False) -> None:
    """Print what became of each line, to stderr."""
    from envbuilder.console import complain
    from envbuilder.format.answers_text import answers_lines, summary_line

    project = remembered_project()
    if project is None:
        return
    answers = project.answers
    if stack is not None:
        answers = project.answers_for(stack.platform, stack.python)
    for line in answers_lines(answers, only_left_out=only_left_out):
        complain(line)
    complain(summary_line(answers))
