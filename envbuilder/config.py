"""`envbuilder.toml`, or `[tool.envbuilder]` in `pyproject.toml`: defaults for the options of every command.

A key is an option's name; its value is what the option takes. The command line wins. Two tables stand beside them:

    [accept]
    checks = ["my_check.py"]   # checks of your own, beside this file

    [render]
    targets = ["devcontainer"] # the files of this repository that `envbuilder render` keeps, beside the build context
    stack = "cu117-…"          # of several locks under docker/images/, this one

    [render.settings]          # what targets let people change
    shm-size = "2g"

A file that is found rather than named is one that we would have written: no search leaves the repository, and a file of
another user is refused, as git refuses to work in another user's repository (`safe.directory`).
"""

import difflib
import os
import shlex
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from envbuilder import grammar
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.errors import UsageError
from envbuilder.files import decode, exists, is_file, read_owned, read_text
from envbuilder.model import ANY
from envbuilder.resolve.command_line import quoted
from envbuilder.resolve.options import OPTIONS, Option
from envbuilder.resolve.parsers import (
    parse_builder,
    parse_cache,
    parse_index_url,
    parse_package,
    parse_path,
    parse_tag,
)

FILE = "envbuilder.toml"
PYPROJECT = "pyproject.toml"
ROOT = 0  # root's files are believed: root can do anything here as it is
_HINT = "mend it, or move it out of the way"
_LISTS = frozenset({"package", "cache-to", "cache-from", "checks", "targets"})
_SPELLINGS = {spelling: option.hyphenated for option in OPTIONS for spelling in option.spellings}
"""Another spelling of a key → the key: flavor → flavour."""


def _parse_word(text: str) -> str:
    if not grammar.matches(grammar.Word, text):
        raise ValueError(f"it must be {grammar.words(grammar.Word)}")
    return text


def _parse_text(text: str) -> str:
    if not grammar.matches(grammar.Setting, text):
        raise ValueError("it must be one line without control characters, of at most 1000")
    return text


def _parse_folder_name(text: str) -> str:
    if not grammar.matches(grammar.FolderName, text):
        raise ValueError("it must be the name of a folder under docker/images/")
    return text


def _parse_gpu_access(text: str) -> str:
    try:
        return GpuAccess(text).value
    except ValueError:
        raise ValueError(f"it must be one of {', '.join(GpuAccess)}") from None


def _parser_of(option: Option) -> Callable[[str], object]:
    return lambda text: text if text == ANY else option.parse(text)


PARSERS: Mapping[str, Callable[[str], object]] = {
    **{option.hyphenated: _parser_of(option) for option in OPTIONS},
    **{spelling: _parser_of(option) for option in OPTIONS for spelling in option.spellings},
    "package": parse_package,
    "index-url": parse_index_url,
    "ca-bundle": parse_path,
    "builder": parse_builder,
    "cache-to": parse_cache,
    "cache-from": parse_cache,
    "tag": parse_tag,
    "gpu-access": _parse_gpu_access,
    "catalog": parse_path,
}
"""Key of a setting → the parser of its value, which is that of the option of the same name."""


def _parse_check(text: str) -> str:
    """A check of the settings: the file is put into a container, so it is none of the user's other files."""
    if _leads_out(parse_path(text)):
        raise ValueError("a check lies beside this file or below it; name another by `--check FILE`")
    return text


def _parse_cache(text: str) -> str:
    """A cache of the settings: buildx reads and writes a local one wherever it is told."""
    if any(_leads_out(path) for path in local_cache_paths(parse_cache(text))):
        raise ValueError("a local cache lies in the project; name another by the option")
    return text


def local_cache_paths(cache: str) -> list[str]:
    """The folders of this machine that a cache names: `type=local,dest=FOLDER`."""
    fields = [field.partition("=") for field in cache.split(",")]
    return [value for name, _, value in fields if name.lower() in ("dest", "src")]


def _leads_out(text: str) -> bool:
    return Path(text).is_absolute() or ".." in Path(text).parts


_FILE_PARSERS: Mapping[str, Callable[[str], object]] = {
    **PARSERS,
    "cache-to": _parse_cache,
    "cache-from": _parse_cache,
}
"""As `PARSERS`; in a file that somebody else may have written, a path that would be written to stays in the project."""

_ACCEPT_PARSERS: Mapping[str, Callable[[str], object]] = {"checks": _parse_check}
_RENDER_PARSERS: Mapping[str, Callable[[str], object]] = {"targets": _parse_word, "stack": _parse_folder_name}


def find(folder: Path, users: Collection[int] = ()) -> tuple[Path, Mapping[str, Any]] | None:
    """The settings that hold in `folder` or the nearest folder above it in its repository, and the file with them.

    Raises `UsageError` for a file that does not belong to this user, to root or to one of `users`.
    """
    trusted = {ROOT, os.geteuid(), *users}
    for place in (folder, *folder.parents):
        own, project = place / FILE, place / PYPROJECT
        if exists(own):
            return own, _checked(own, _trusted(own, trusted))
        if is_file(project) and "envbuilder" in _tool(_parsed(project, read_text(project, hint=_HINT))):
            return project, _checked(project, _tool(_trusted(project, trusted))["envbuilder"])
        if exists(place / ".git"):
            break
    return None


def read(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """The settings in a file that the user names, whoever it belongs to."""
    document = _parsed(path, read_text(path, hint=_HINT))
    if path.name != PYPROJECT:
        return path, _checked(path, document)
    if "envbuilder" not in _tool(document):
        raise UsageError(f"{path} has no table [tool.envbuilder]", hint="add it, or name another file")
    return path, _checked(path, _tool(document)["envbuilder"])


def _trusted(path: Path, users: Collection[int]) -> dict[str, Any]:
    """What a file says, if it and a link that leads to it belong to one of these users."""
    content, owner = read_owned(path, hint=_HINT)
    strange = {owner, path.lstat().st_uid} - set(users)
    if strange:
        raise UsageError(
            f"{path} belongs to another user (uid {min(strange)}): its settings decide what is built and run here",
            hint=f"read it; if it is good, name it: `export ENVBUILDER_CONFIG={shlex.quote(str(path))}`",
        )
    return _parsed(path, decode(content, path, hint=_HINT))


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=_HINT) from error


def _tool(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = document.get("tool")
    return tool if isinstance(tool, dict) else {}


def _checked(path: Path, table: object) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: envbuilder's settings must be a table")
    accept = table.get("accept", {})
    render = table.get("render")
    table = {key: value for key, value in table.items() if key not in ("accept", "render")}
    problems = [problem for key, value in table.items() if (problem := _problem(key, value, _FILE_PARSERS))]
    problems += _double_keys(table)
    problems += _accept_problems(accept) + ([] if render is None else _render_problems(render))
    if problems:
        raise UsageError(f"{path} has settings that mean nothing", problems=problems, hint="mend them and run it again")
    table = {_SPELLINGS.get(key, key): value for key, value in table.items()}
    flat = {key.replace("-", "_"): tuple(value) if key in _LISTS else value for key, value in table.items()}
    flat |= {key: tuple(value) for key, value in accept.items()}
    return flat if render is None else flat | {"render": render}


def _double_keys(table: Mapping[str, object]) -> list[str]:
    """One line for each key that is there in two spellings."""
    problems = []
    for spelling, key in _SPELLINGS.items():
        if spelling in table and key in table:
            problems.append(f"{spelling} and {key} are the same key: give one")
    return problems


def _accept_problems(table: object) -> list[str]:
    if not isinstance(table, dict):
        return ["accept must be a table with the key checks"]
    problems = (_problem(key, value, _ACCEPT_PARSERS) for key, value in table.items())
    return [f"[accept]: {problem}" for problem in problems if problem]


def _render_problems(table: object) -> list[str]:
    if not isinstance(table, dict) or not isinstance(table.get("settings", {}), dict):
        return ["render must be a table with the keys targets, stack and settings, which is a table too"]
    settings = table.get("settings", {})
    plain = {key: value for key, value in table.items() if key != "settings"}
    problems = [_problem(key, value, _RENDER_PARSERS) for key, value in plain.items()]
    problems += [_problem(key, value, dict.fromkeys(settings, _parse_text)) for key, value in settings.items()]
    return [f"[render]: {problem}" for problem in problems if problem]


def _problem(key: str, value: object, parsers: Mapping[str, Callable[[str], object]]) -> str | None:
    """What is wrong with one setting, in one line; None if nothing is."""
    if key not in parsers:
        near = difflib.get_close_matches(key, sorted(parsers), n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}?" if near else f"keys: {', '.join(sorted(parsers))}"
        return f"unknown key {quoted(key)}; {meant}"
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return f"{key} must be a list of strings, not {quoted(value)}"
        texts = value
    elif isinstance(value, str):
        texts = [value]
    else:
        return f'{key} must be a string, not {quoted(value)}: write {key} = "{str(value)[:40]}"'
    for text in texts:
        try:
            parsers[key](text)
        except ValueError as error:
            return f"{key} = {quoted(text)}: {error}"
    return None
