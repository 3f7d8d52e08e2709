"""The name of the package in a folder, read from its metadata; nothing of the folder is run."""

import ast
import configparser
import os
import re
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.files import is_below, is_file, is_folder, read_text
from envbuilder.grammar import JsonObject
from envbuilder.lock.sources.location import Location, is_located, parse_location
from envbuilder.model import SourceKind

_HEADER = re.compile(r"^Name:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def with_folder_name(
    text: str, *, start: Path, project: Path, inside: bool = False
) -> str:
    """A requirement as it goes into a request: with the name of its package, and a path that is relative to `project`.

    `start` is where the user's path begins; `inside`: it must not lead out of the project. Raises `UsageError` for a
    folder that does not exist or has no package.
    """
    if not is_located(text.strip(" ")):
        return text
    try:
        location = parse_location(text.strip(" "))
    except ValueError:
        return text  # the parser of the request says what is wrong with it
    if location.kind is not SourceKind.LOCAL:
        return text
    if inside and not is_below(project, start / location.origin):
        # Another person may have written the settings, and the folder gets into an image.
        raise UsageError(
            f"the package {text} leads out of {project}",
            hint="put it into the project, or name it on the command line: `--package`",
        )
    return _local(location, text, start, project).text


def _local(location: Location, text: str, start: Path, project: Path) -> Location:
    path = start / location.origin
    hint = "check the path; it is relative to this folder, or to that of envbuilder.toml where it is written there"
    if location.file:
        if not is_file(path):
            raise UsageError(f"--package {text}: {path} does not exist", hint=hint)
        name = location.name
    else:
        if not is_folder(path):
            raise UsageError(f"--package {text}: {path} is not a folder", hint=hint)
        name = location.name or name_in_folder(path, text)
    origin = location.origin
    if not origin.startswith("/"):
        relative = os.path.relpath(path.resolve(), project.resolve())
        origin = relative if relative.startswith("..") else f"./{relative}"
    if origin == "./.":
        origin = "."
    if not grammar.matches(grammar.LocalPath, origin):
        raise UsageError(
            f"--package {text}: {origin!r} is not {grammar.words(grammar.LocalPath)}",
            hint="rename the folder",
        )
    return Location(
        name=name, extras=location.extras, kind=location.kind, origin=origin
    )


def name_in_folder(folder: Path, text: str) -> str:
    """The normalized name of a folder's package. Raises `UsageError` if there is none."""
    if not any(is_file(folder / name) for name in _FILES):
        raise UsageError(
            f"--package {text}: {folder} has no {' and no '.join(_FILES)}, so it is no Python package",
            hint="name the folder that has one of them",
        )
    name = (
        _name_in_pyproject(folder)
        or _name_in_setup_cfg(folder)
        or _name_in_setup_py(folder)
        or _name_in_header(folder)
    )
    if not name:
        raise UsageError(
            f"--package {text}: the metadata in {folder} does not say what the package is called",
            hint=f"write its name in front: `--package 'NAME @ {text}'`",
        )
    canonical = canonicalize_name(name)
    if not grammar.matches(grammar.Project, canonical):
        raise UsageError(
            f"--package {text}: {name[:60]!r} in {folder} is not the name of a package"
        )
    return canonical


def read_pyproject(folder: Path) -> JsonObject:
    """The pyproject.toml of a folder; empty without one. Raises `UsageError` if it cannot be read."""
    path = folder / "pyproject.toml"
    if not is_file(path):
        return {}
    return parse_pyproject(read_text(path), str(path))


def parse_pyproject(text: str, source: str) -> JsonObject:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} cannot be read: {error}") from error


def _name_in_pyproject(folder: Path) -> str:
    document = read_pyproject(folder)
    tool = document.get("tool")
    tables = [document.get("project")]
    if isinstance(tool, dict):
        tables += [tool.get("poetry"), tool.get("flit")]
    for table in tables:
        if isinstance(table, dict) and isinstance(table.get("name"), str):
            return str(table["name"])
    return ""


def _name_in_setup_cfg(folder: Path) -> str:
    path = folder / "setup.cfg"
    if not is_file(path):
        return ""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path, errors="replace"))
    except configparser.Error:
        return ""
    return parser.get("metadata", "name", fallback="").strip()


def _name_in_setup_py(folder: Path) -> str:
    """The literal `name` of the call of `setup`."""
    path = folder / "setup.py"
    if not is_file(path):
        return ""
    try:
        tree = ast.parse(read_text(path, errors="replace"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called not in ("setup", "setuptools.setup"):
            continue
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg == "name" and isinstance(value, ast.Constant):
                return str(value.value)
    return ""


def _name_in_header(folder: Path) -> str:
    path = folder / "PKG-INFO"
    if not is_file(path):
        return ""
    header = _HEADER.search(read_text(path, errors="replace"))
    return header[1] if header else ""
