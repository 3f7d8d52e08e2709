"""pyproject.toml, as PEP 621, Poetry, PDM and uv write it, and Pipfile: what a project depends on."""

import re
import tomllib
from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from envbuilder.resolve.project_files.statements import (
    FileLine,
    FileProblem,
    FileStatement,
    StatementKind,
    file_line,
    include,
    index_statements,
    left_out,
    line_numbers,
    package,
    problem,
    requires_python,
)

_CARET = re.compile(r"(\^|~)\s*([0-9]+(?:\.[0-9]+)*)")
_SHORT_SSH = re.compile(r"([A-Za-z0-9._-]+@[A-Za-z0-9.-]+):([^/:][^:]*)")
_BARE = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:\.\*|[A-Za-z0-9.]*(?:\+[A-Za-z0-9.]+)?)")
_OTHER_GROUP = (
    "of a group or extra that was not chosen: name it, such as `{file}[{name}]`"
)


def parsed_toml(text: str, file: str) -> dict[str, Any]:
    """The document. Raises `FileProblem` for what is no TOML."""
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise FileProblem(f"{file}: {error}") from None
    except RecursionError:
        raise FileProblem(f"{file}: it is nested too deeply") from None


class TomlFile:
    """A TOML document whose values can be found in its text again."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.document = parsed_toml(text, file)
        self._text = text

    def table(self, *names: str) -> dict[str, Any]:
        """A table of the document; empty if it is missing. Raises `FileProblem` for another kind of value."""
        place: Any = self.document
        for name in names:
            place = place.get(name, {})
            if not isinstance(place, dict):
                raise FileProblem(f"{self.file}: {'.'.join(names)} must be a table")
        found: dict[str, Any] = place
        return found

    def texts(self, value: object, label: str) -> list[str]:
        """A list of strings."""
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise FileProblem(f"{self.file}: {label} must be a list of strings")

    def line(self, text: str, *needles: str) -> FileLine:
        """The line that `text` is on: the first that has one of these."""
        every_needle = [*needles, f'"{text}"', f"'{text}'", text]
        numbers = line_numbers(self._text, every_needle)
        for number in numbers.values():
            if number:
                return file_line(self.file, number, text)
        return file_line(self.file, 0, text)


def read_pyproject(
    text: str, file: str, chosen: Collection[str] = ()
) -> Iterator[FileStatement]:
    """What a pyproject.toml says; `chosen`: extras and groups to take in addition."""
    toml = TomlFile(text, file)
    names: Names = {canonicalize_name(name) for name in chosen}
    known = yield from _project(toml, names)
    known |= yield from _groups(toml, names)
    known |= yield from _poetry(toml, names)
    yield from _uv(toml)
    for source in tables(toml, "tool", "pdm", "source"):
        yield from _source(toml, source)
    unknown = sorted(names - known)
    if unknown:
        raise FileProblem(f"{file}: it has no extra and no group {unknown[0]!r}")


# --- [project] and [dependency-groups] -------------------------------------------------------------------------------

Names = set[str]
Found = Generator[FileStatement, None, Names]
"""Statements; in the end, the names of the extras and groups that there are."""


def _project(toml: TomlFile, chosen: Names) -> Found:
    project = toml.table("project")
    requires = project.get("requires-python")
    if isinstance(requires, str) and requires:
        line = toml.line(f"requires-python = {requires}", "requires-python")
        yield requires_python(line, requires)
    for spec in toml.texts(project.get("dependencies", []), "dependencies"):
        yield package(toml.line(spec), spec)
    if "dependencies" in toml.texts(project.get("dynamic", []), "dynamic"):
        yield from _dynamic(toml)
    extras = toml.table("project", "optional-dependencies")
    known: Names = set()
    for name, specs in extras.items():
        known.add(canonicalize_name(name))
        for spec in toml.texts(specs, f"the extra {name}"):
            line = toml.line(spec)
            if canonicalize_name(name) in chosen:
                yield package(line, spec)
            else:
                yield left_out(line, _OTHER_GROUP.format(file=toml.file, name=name))
    return known


def _dynamic(toml: TomlFile) -> Iterator[FileStatement]:
    """`dependencies = {file = ["requirements.txt"]}`, as setuptools and hatch read them."""
    sources = toml.table("tool", "setuptools", "dynamic", "dependencies")
    files = sources.get("file", [])
    hatch = toml.table("tool", "hatch", "metadata", "hooks", "requirements_txt")
    files = files or hatch.get("files", [])
    if isinstance(files, str):
        files = [files]
    for name in toml.texts(files, "the files of dynamic dependencies"):
        line = toml.line(name)
        yield include(line, name)
    if not files:
        line = toml.line("dynamic", "dynamic")
        yield left_out(line, "the build decides its dependencies: name their file")


def _groups(toml: TomlFile, chosen: Names) -> Found:
    known: Names = set()
    groups = toml.table("dependency-groups")
    taken = _with_included(toml, groups, chosen)
    for name, items in groups.items():
        known.add(canonicalize_name(name))
        for item in _group_items(toml, name, items):
            if not isinstance(item, str):
                continue  # the group that it includes is taken, or not, by itself
            if canonicalize_name(name) in taken:
                yield package(toml.line(item), item)
            else:
                line = toml.line(item)
                yield left_out(line, _OTHER_GROUP.format(file=toml.file, name=name))
    return known


def _group_items(toml: TomlFile, name: str, items: object) -> list[Any]:
    if isinstance(items, list):
        return items
    raise FileProblem(f"{toml.file}: the group {name} must be a list")


def _with_included(toml: TomlFile, groups: Mapping[str, Any], chosen: Names) -> Names:
    """The groups that are chosen, and those that they include, `{include-group = "test"}`."""
    included: dict[str, Names] = {}
    for name, items in groups.items():
        others = included.setdefault(canonicalize_name(name), set())
        for item in _group_items(toml, name, items):
            if isinstance(item, dict) and isinstance(item.get("include-group"), str):
                others.add(canonicalize_name(item["include-group"]))
    taken = set(chosen)
    waiting = list(chosen)
    while waiting:
        for other in included.get(waiting.pop(), ()):
            if other not in taken:
                taken.add(other)
                waiting.append(other)
    return taken


# --- Poetry, uv and Pipfile ----------------------------------------------------------------------------------------


def _poetry(toml: TomlFile, chosen: Names) -> Found:
    known: Names = set()
    for name, value in toml.table("tool", "poetry", "dependencies").items():
        yield from _poetry_dependency(toml, name, value)
    groups = {"dev": toml.table("tool", "poetry", "dev-dependencies")}
    for name in toml.table("tool", "poetry", "group"):
        groups[name] = toml.table("tool", "poetry", "group", name, "dependencies")
    for group, table in groups.items():
        if table:
            known.add(canonicalize_name(group))
        for name, value in table.items():
            if canonicalize_name(group) in chosen:
                yield from _poetry_dependency(toml, name, value)
            else:
                line = toml.line(f"{name} = {value}", f"{name} =")
                yield left_out(line, _OTHER_GROUP.format(file=toml.file, name=group))
    for source in tables(toml, "tool", "poetry", "source"):
        yield from _source(toml, source)
    return known


def _poetry_dependency(
    toml: TomlFile, name: str, value: object
) -> Iterator[FileStatement]:
    line = toml.line(f"{name} = {_shown(value)}", f"{name} =", f'"{name}" =')
    if isinstance(value, list):
        for item in value:
            yield from _poetry_dependency(toml, name, item)
        return
    table = {"version": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise problem(line, "is neither a version nor a table")
    version = table.get("version", "*")
    if not isinstance(version, str):
        raise FileProblem(f"{line.place}: the version of {name} must be a string")
    if name == "python":
        bounds = _bounds(version)
        if bounds:
            yield requires_python(line, bounds)
        return
    if table.get("optional"):
        yield left_out(line, "it is optional: add it with `--package`")
        return
    try:
        condition = _condition(table)
    except InvalidSpecifier:
        raise problem(line, "has no valid bounds of Python") from None
    extras = table.get("extras", [])
    suffix = (
        f"[{','.join(toml.texts(extras, f'the extras of {name}'))}]" if extras else ""
    )
    place = _address(table)
    if place:
        yield package(line, f"{name}{suffix} @ {place}{condition}")
        return
    yield package(line, f"{name}{suffix}{_bounds(version)}{condition}")


def _condition(table: Mapping[str, Any]) -> str:
    """Poetry's `markers`, `python` and `platform` as one marker; "" without."""
    clauses = []
    marker = table.get("markers")
    if isinstance(marker, str) and marker:
        clauses.append(f"({marker})")
    platform = table.get("platform")
    if isinstance(platform, str):
        clauses.append(f"sys_platform == '{platform}'")
    python = table.get("python")
    if isinstance(python, str):
        for bound in SpecifierSet(_bounds(python)):
            clauses.append(f"python_version {bound.operator} '{bound.version}'")
    return f" ; {' and '.join(clauses)}" if clauses else ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _address(table: Mapping[str, Any]) -> str:
    """A git repository, a folder or a file, as PEP 508 writes it; "" for a package of an index."""
    git = table.get("git")
    if isinstance(git, str):
        ref = (
            table.get("rev")
            or table.get("tag")
            or table.get("branch")
            or table.get("ref")
        )
        return git_address(git, ref, table.get("subdirectory"))
    for key in ("url", "path", "file"):
        value = table.get(key)
        if isinstance(value, str):
            return value if key == "url" else relative_path(value)
    return ""


def git_address(repository: str, ref: object, subdirectory: object) -> str:
    """A repository as pip writes it; `git@host:owner/name` is short for an address of ssh."""
    short = _SHORT_SSH.fullmatch(repository)
    if short:
        repository = f"ssh://{short[1]}/{short[2]}"
    address = f"git+{repository}"
    if isinstance(ref, str) and ref:
        address += f"@{ref}"
    if isinstance(subdirectory, str) and subdirectory:
        address += f"#subdirectory={subdirectory}"
    return address


def relative_path(path: str) -> str:
    """`libs/mine` as `./libs/mine`, which tells a path from a name."""
    return path if path.startswith((".", "/")) else f"./{path}"


def _bounds(version: str) -> str:
    """Poetry's bounds as PEP 440 has them: `^2.0` is `>=2.0,<3`, `~2.0` is `>=2.0,<2.1`, `2.0` is `==2.0`."""
    clauses = []
    for part in version.split(","):
        text = part.strip()
        short = _CARET.fullmatch(text)
        if short:
            clauses += _range(short[1], short[2])
        elif _BARE.fullmatch(text):
            clauses.append(f"=={text}")
        elif text not in ("", "*"):
            clauses.append(text)
    return ",".join(clauses)


def _range(sign: str, version: str) -> list[str]:
    numbers = [int(number) for number in version.split(".")]
    last = _fixed_place(sign, numbers)
    upper = numbers[:last]
    upper.append(numbers[last] + 1)
    text = ".".join(map(str, upper))
    return [f">={version}", f"<{text}"]


def _fixed_place(sign: str, numbers: list[int]) -> int:
    """The place of the number that may not change."""
    last = len(numbers) - 1
    if sign == "~":
        return min(1, last)
    for place, number in enumerate(numbers):
        if number:
            return place
    return last


def _uv(toml: TomlFile) -> Iterator[FileStatement]:
    """`[tool.uv]`: the index that torch is from, and where other packages are from instead of an index."""
    indexes = {}
    for table in tables(toml, "tool", "uv", "index"):
        name, url = table.get("name"), table.get("url")
        if isinstance(url, str):
            indexes[name] = url
            if not table.get("explicit") and not table.get("default"):
                yield from _source(toml, {"url": url})
    for name, value in toml.table("tool", "uv", "sources").items():
        line = toml.line(f"{name} = {_shown(value)}", f"{name} =")
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise FileProblem(f"{line.place}: a source of uv must be a table")
            yield from _uv_source(toml, line, name, source, indexes)
    for spec in toml.texts(
        toml.table("tool", "uv").get("constraint-dependencies", []),
        "constraint-dependencies",
    ):
        yield package(toml.line(spec), spec, StatementKind.CONSTRAINT)
    overrides = toml.table("tool", "uv").get("override-dependencies", [])
    for spec in toml.texts(overrides, "override-dependencies"):
        yield left_out(
            toml.line(spec), "an override would break what its package requires"
        )


def _uv_source(
    toml: TomlFile,
    line: FileLine,
    name: str,
    source: Mapping[str, Any],
    indexes: Mapping[Any, str],
) -> Iterator[FileStatement]:
    marker = source.get("marker")
    if isinstance(marker, str) and "linux" not in marker and "platform" in marker:
        yield left_out(line, f"only where {marker}")
        return
    url = indexes.get(source.get("index"))
    if url:
        yield from index_statements(line, url, is_extra=True)
    elif source.get("workspace"):
        yield left_out(line, "of this workspace: its code is mounted")
    elif _address(source):
        yield package(line, f"{name} @ {_address(source)}")


def tables(toml: TomlFile, *names: str) -> list[dict[str, Any]]:
    """An array of tables; empty if it is missing."""
    *outer, last = names
    value = toml.table(*outer).get(last, [])
    label = ".".join(names)
    problem = f"{toml.file}: {label} must be an array of tables"
    if not isinstance(value, list):
        raise FileProblem(problem)
    for item in value:
        if not isinstance(item, dict):
            raise FileProblem(problem)
    return value


def _source(toml: TomlFile, source: Mapping[str, Any]) -> Iterator[FileStatement]:
    url = source.get("url")
    if isinstance(url, str):
        yield from index_statements(toml.line(url), url, is_extra=True)


def read_pipfile(text: str, file: str) -> Iterator[FileStatement]:
    """What a Pipfile says; its development packages are left out."""
    toml = TomlFile(text, file)
    for source in tables(toml, "source"):
        yield from _source(toml, source)
    for name, value in toml.table("packages").items():
        yield from _poetry_dependency(toml, name, value)
    for name in toml.table("dev-packages"):
        line = toml.line(name, f"{name} =")
        yield left_out(line, "for development only")
    requires = toml.table("requires")
    python = requires.get("python_version") or requires.get("python_full_version")
    if isinstance(python, str):
        line = toml.line(f"python_version = {python}", "python_version", "python_full")
        minor = ".".join(python.split(".")[:2])
        yield FileStatement(
            line=line, kind=StatementKind.OPTION, name="python", value=minor
        )
