"""uv.lock, pylock.toml (PEP 751) and poetry.lock: which versions a project has settled on.

What the project itself depends on is installed in its locked version; the rest bounds what those bring along. Packages
of torch's own, such as NVIDIA's libraries, follow the stack.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from packaging.utils import canonicalize_name

from envbuilder.resolve.project_files.project_toml import (
    TomlFile,
    git_address,
    relative_path,
    tables,
)
from envbuilder.resolve.project_files.statements import (
    FileLine,
    FileProblem,
    FileStatement,
    StatementKind,
    file_line,
    include,
    left_out,
    package,
    requires_python,
)

_OF_WORKSPACE = (
    "an editable folder: its code is mounted; to install it, name it with `--package`"
)
_NAME_LINE = re.compile(r"name = [\"']([^\"']*)[\"']\s*")
Package = Mapping[str, Any]


class LockedPackages:
    """The packages of a lock file, and the lines that they are on."""

    def __init__(self, toml: TomlFile, key: str, text: str) -> None:
        self.file = toml.file
        self._toml = toml
        self.packages = self._packages(key)
        self.counts: Counter[str] = Counter()
        for item in self.packages:
            name = canonicalize_name(item["name"])
            self.counts[name] += 1
        self._numbers: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            match = _NAME_LINE.fullmatch(line)
            if match:
                name = canonicalize_name(match[1])
                self._numbers.setdefault(name, number)

    def _packages(self, key: str) -> Sequence[Package]:
        packages = tables(self._toml, key)
        for item in packages:
            name = item.get("name")
            if isinstance(name, str):
                continue
            raise FileProblem(f"{self.file}: a package has no name")
        return packages

    def line(self, item: Package) -> FileLine:
        """Where a package is, and its name and version."""
        name = str(item["name"])
        version = item.get("version")
        pin = f"=={version}"
        text = name
        if version:
            text += pin
        normal = canonicalize_name(name)
        number = self._numbers.get(normal, 0)
        return file_line(self.file, number, text)

    def is_forked(self, item: Package) -> bool:
        """Whether there is another version of it, for another platform or Python."""
        return self.counts[canonicalize_name(str(item["name"]))] > 1


def _requires_python(toml: TomlFile, value: object) -> Iterator[FileStatement]:
    if isinstance(value, str) and value:
        line = toml.line(
            f"requires-python = {value}", "requires-python", "python-versions"
        )
        yield requires_python(line, value)


def read_uv_lock(text: str, file: str) -> Iterator[FileStatement]:
    """The project's own dependencies in their locked versions; everything else as a constraint."""
    toml = TomlFile(text, file)
    locked = LockedPackages(toml, "package", text)
    yield from _requires_python(toml, toml.document.get("requires-python"))
    by_name: dict[str, list[Package]] = {}
    roots = []
    for item in locked.packages:
        by_name.setdefault(canonicalize_name(item["name"]), []).append(item)
        if _is_own(item):
            roots.append(item)
    direct: dict[str, str] = {}
    for root in roots:
        for edge in _edges(root):
            name = canonicalize_name(str(edge.get("name", "")))
            if name in by_name:
                yield from _direct(edge, by_name[name], locked)
                direct[name] = name
    for item in locked.packages:
        if canonicalize_name(item["name"]) not in direct and not _is_own(item):
            yield _constraint(item, locked)


def _is_own(item: Package) -> bool:
    """Whether it is the project, or a member of its workspace."""
    source = item.get("source", {})
    return isinstance(source, dict) and bool({"virtual", "editable"} & set(source))


def _edges(root: Package) -> list[Mapping[str, Any]]:
    edges: list[Mapping[str, Any]] = []
    dependencies = root.get("dependencies", [])
    for edge in dependencies if isinstance(dependencies, list) else ():
        if isinstance(edge, dict):
            edges.append(edge)
    return edges


def _direct(
    edge: Mapping[str, Any], versions: list[Package], locked: LockedPackages
) -> Iterator[FileStatement]:
    """A dependency in its locked version; an edge names it where there are several."""
    for item in versions:
        if "version" in edge and item.get("version") != edge["version"]:
            continue
        if _is_own(item):
            yield left_out(locked.line(item), _OF_WORKSPACE)
            continue
        line = locked.line(item)
        extras = edge.get("extra", [])
        suffix = f"[{','.join(map(str, extras))}]" if extras else ""
        marker = edge.get("marker")
        condition = f" ; {marker}" if marker else ""
        yield package(line, f"{item['name']}{suffix}{_pin(item)}{condition}")


def _pin(item: Package) -> str:
    """`==1.2`, or the address of what is from no index."""
    source = item.get("source", {})
    if isinstance(source, dict):
        git = source.get("git")
        if isinstance(git, str):
            return f" @ {_git_place(git)}"
        if isinstance(source.get("url"), str):
            return f" @ {source['url']}"
        for key in ("path", "directory"):
            if isinstance(source.get(key), str):
                return f" @ {relative_path(source[key])}"
    version = item.get("version")
    return f"=={version}" if isinstance(version, str) else ""


def _git_place(text: str) -> str:
    """`https://host/a/b?subdirectory=py&tag=v1#COMMIT` of uv as pip writes it."""
    url, _, commit = text.partition("#")
    place, _, query = url.partition("?")
    [subdirectory] = parse_qs(query).get("subdirectory", [""])[:1]
    return git_address(place, commit, subdirectory)


def _constraint(item: Package, locked: LockedPackages) -> FileStatement:
    line = locked.line(item)
    if locked.is_forked(item):
        return left_out(line, "there are several versions of it; the lock decides anew")
    pin = _pin(item)
    if not pin.startswith("=="):
        return left_out(line, "it is from no index, and something else needs it")
    return package(line, f"{item['name']}{pin}", StatementKind.CONSTRAINT)


def read_pylock(text: str, file: str) -> Iterator[FileStatement]:
    """Every package of a pylock.toml, with its marker: it does not say which of them the project requested."""
    toml = TomlFile(text, file)
    locked = LockedPackages(toml, "packages", text)
    yield from _requires_python(toml, toml.document.get("requires-python"))
    for item in locked.packages:
        line = locked.line(item)
        version = item.get("version")
        if not isinstance(version, str):
            yield left_out(line, "it is from no index")
            continue
        marker = item.get("marker")
        condition = f" ; {marker}" if isinstance(marker, str) and marker else ""
        yield package(line, f"{item['name']}=={version}{condition}")


def read_poetry_lock(text: str, file: str) -> Iterator[FileStatement]:
    """Every package as a constraint: what the project depends on is in its pyproject.toml, which is read as well."""
    toml = TomlFile(text, file)
    locked = LockedPackages(toml, "package", text)
    project = toml.line("pyproject.toml")
    yield include(project, "pyproject.toml")
    metadata = toml.table("metadata")
    pythons = metadata.get("python-versions")
    # Poetry's own `^3.9` is in pyproject.toml as well.
    if isinstance(pythons, str) and pythons.startswith((">", "<", "=", "!", "~")):
        yield from _requires_python(toml, pythons)
    for item in locked.packages:
        source = item.get("source")
        if isinstance(source, dict) and source.get("type") == "git":
            line = locked.line(item)
            yield left_out(line, "it is from no index")
        else:
            plain = {**item, "source": {}}
            yield _constraint(plain, locked)
