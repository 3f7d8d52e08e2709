"""`envbuilder.toml`, or `[tool.envbuilder]` in `pyproject.toml`: defaults for the options of every command.

A key is an option's name; its value is one that the option accepts. The command line and the environment win. There are
three more tables:

    [accept]
    checks = ["my_check.py"]   # custom checks, relative to this file

    [mirrors]                  # of everything that is downloaded, see docs/how-to/mirrors.md
    packages = "https://mirror.example/simple"

    [render]
    targets = ["devcontainer"] # the files that `envbuilder render` keeps in this repository, next to the build context
    stack = "cu117-…"          # which of several locks under docker/images/

    [render.settings]          # settings of the targets
    shm-size = "2g"

The search for such a file does not leave the repository, and a file of another user is refused, as git refuses to work
in another user's repository (`safe.directory`).
"""

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from envbuilder import grammar
from envbuilder.console import clean, complain
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.errors import UsageError
from envbuilder.files import decode, exists, is_file, read_owned, read_text
from envbuilder.grammar import JsonObject
from envbuilder.lock.sources.location import is_located, parse_location
from envbuilder.model import ANY, SourceKind
from envbuilder.resolve.command_line import quoted
from envbuilder.resolve.option_row import Option, option_name
from envbuilder.resolve.options import OPTIONS
from envbuilder.resolve.parsers import (
    parse_apt,
    parse_apt_mirror,
    parse_builder,
    parse_cache,
    parse_companion,
    parse_hub,
    parse_index_url,
    parse_package,
    parse_path,
    parse_python_mirror,
    parse_registry_mirror,
    parse_tag,
    parse_torch_index,
)

FILE = "envbuilder.toml"
PYPROJECT = "pyproject.toml"
TABLES: Mapping[str, tuple[str, ...]] = {PYPROJECT: ("tool", "envbuilder")}
"""File → the table that holds the settings; in other files they are at the top."""
ROOT = 0  # root's files are trusted: root can do anything here anyway
_HINT = "fix it, or move it elsewhere"
_LISTS = frozenset(
    {
        "package",
        "with",
        "apt",
        "cache-to",
        "cache-from",
        "checks",
        "targets",
        "requirements",
    }
)
_SPELLINGS = {
    spelling: option_name(option.name)
    for option in OPTIONS
    for spelling in option.spellings
}
"""Another spelling of a key → the key: flavor → flavour."""


def _parse_word(text: str) -> str:
    if not grammar.matches(grammar.Word, text):
        raise ValueError(f"it must be {grammar.words(grammar.Word)}")
    return text


def _parse_text(text: str) -> str:
    if not grammar.matches(grammar.Setting, text):
        raise ValueError(
            "it must be one line without control characters, at most 1000 of them"
        )
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
    **{option_name(option.name): _parser_of(option) for option in OPTIONS},
    **{
        spelling: _parser_of(option)
        for option in OPTIONS
        for spelling in option.spellings
    },
    "package": parse_package,
    "with": parse_companion,
    "apt": parse_apt,
    "index-url": parse_index_url,
    "torch-index": parse_torch_index,
    "apt-mirror": parse_apt_mirror,
    "registry-mirror": parse_registry_mirror,
    "python-mirror": parse_python_mirror,
    "ca-bundle": parse_path,
    "builder": parse_builder,
    "cache-to": parse_cache,
    "cache-from": parse_cache,
    "tag": parse_tag,
    "gpu-access": _parse_gpu_access,
    "catalog": parse_path,
    "requirements": parse_path,
}
"""Key of a setting → the parser of its value, the same as of the option of that name."""


MIRRORS: Mapping[str, str] = {
    "packages": "index-url",
    "torch": "torch-index",
    "debian": "apt-mirror",
    "registry": "registry-mirror",
    "python": "python-mirror",
    "hub": "hub",
}
"""Key of the table `[mirrors]` → the option with the same meaning; the hub's is the variable HF_ENDPOINT."""
_MIRROR_PARSERS: Mapping[str, Callable[[str], object]] = {
    key: PARSERS.get(option, parse_hub) for key, option in MIRRORS.items()
}


_PUBLIC = re.compile(r"(?:find-links\+)?https?://[A-Za-z0-9._~:/%+{}-]+")


def public_mirrors(settings: JsonObject) -> dict[str, str]:
    """The addresses of `[mirrors]` that may be written into files: neither credentials nor a token, nor `$`."""
    public = {}
    for key, option in MIRRORS.items():
        address = settings.get(option.replace("-", "_"), "")
        if _PUBLIC.fullmatch(address):
            public[key] = address
    return public


def _parse_check(text: str) -> str:
    """A check of the settings. It is copied into a container, so it must not be any file of the user's."""
    if _leads_out(parse_path(text)):
        raise ValueError(
            "a check must be in the folder of this file or below; use `--check FILE` for others"
        )
    return text


def _parse_package(text: str) -> str:
    """A package of the settings; a local one is copied into the image, so it must not be any folder of the user's."""
    requirement = parse_package(text)
    if is_outside(requirement):
        raise ValueError(
            "a local package must be in the folder of this file or below; use `--package` for others"
        )
    return requirement


def is_outside(requirement: str) -> bool:
    """Whether a package is in a folder, a file or a repository of this machine that is not in the project."""
    if not is_located(requirement):
        return False
    location = parse_location(requirement)
    path = location.origin.removeprefix("file://")
    is_local = location.kind is SourceKind.LOCAL or path != location.origin
    return is_local and _leads_out(path)


def _parse_cache(text: str) -> str:
    """A cache of the settings: buildx reads and writes a local one at any path."""
    for path in local_cache_paths(parse_cache(text)):
        if _leads_out(path):
            raise ValueError(
                "a local cache must be in the project; use the option for others"
            )
    return text


def _parse_requirements(text: str) -> str:
    """A file of the settings that packages are read from: what is in it is shown, and goes into an image."""
    path = parse_path(text)
    if _leads_out(path):
        raise ValueError(
            "it must be in the folder of this file or below; use `--requirements FILE` for others"
        )
    return text


def local_cache_paths(cache: str) -> list[str]:
    """The folders of this machine that a cache names: `type=local,dest=FOLDER`."""
    paths = []
    for field in cache.split(","):
        name, _, value = field.partition("=")
        if name.lower() in ("dest", "src"):
            paths.append(value)
    return paths


def _leads_out(text: str) -> bool:
    return Path(text).is_absolute() or ".." in Path(text).parts


_FILE_PARSERS: Mapping[str, Callable[[str], object]] = {
    **PARSERS,
    "package": _parse_package,
    "cache-to": _parse_cache,
    "cache-from": _parse_cache,
    "requirements": _parse_requirements,
}
"""As `PARSERS`, but a path that is written to must be in the project: somebody else may have written the file."""

_ACCEPT_PARSERS: Mapping[str, Callable[[str], object]] = {"checks": _parse_check}
_RENDER_PARSERS: Mapping[str, Callable[[str], object]] = {
    "targets": _parse_word,
    "stack": _parse_folder_name,
}


def find(folder: Path, users: Collection[int] = ()) -> tuple[Path, JsonObject] | None:
    """The settings that hold in `folder` or the nearest folder above it in its repository, and the file with them.

    Raises `UsageError` for a file that does not belong to this user, to root or to one of `users`.
    """
    trusted = {ROOT, os.geteuid(), *users}
    for place in (folder, *folder.parents):
        own = place / FILE
        project = place / PYPROJECT
        if exists(own):
            found = own, _checked(own, _trusted(own, trusted))
            if _is_hidden(project):
                complain(
                    f"settings: {clean(str(own))}; [tool.envbuilder] in {PYPROJECT} is ignored"
                )
            return found
        if is_file(project) and _has_table(project):
            tool = _tool(_trusted(project, trusted))
            return project, _checked(project, tool["envbuilder"])
        # A repository ends here; what is above it belongs to something else.
        if exists(place / ".git"):
            break
    return None


def _is_hidden(project: Path) -> bool:
    """Whether a pyproject.toml has settings too; one that cannot be read has none that anybody would miss."""
    try:
        return is_file(project) and _has_table(project)
    except UsageError:
        return False


def _has_table(project: Path) -> bool:
    document = _parsed(project, read_text(project, hint=_HINT))
    return "envbuilder" in _tool(document)


def read(path: Path) -> tuple[Path, JsonObject]:
    """The settings in a file that the user names, even if another user owns it."""
    hint = _HINT if exists(path) else "check the path"
    table: Any = _parsed(path, read_text(path, hint=hint))
    if path.name == PYPROJECT:
        tool = _tool(table)
        if "envbuilder" not in tool:
            raise UsageError(
                f"{path} has no table [tool.envbuilder]",
                hint="add it, or choose another file",
            )
        table = tool["envbuilder"]
    return path, _checked(path, table)


def _trusted(path: Path, users: Collection[int]) -> dict[str, Any]:
    """The content of a file, if it and a link that leads to it belong to one of these users."""
    content, owner = read_owned(path, hint=_HINT)
    owner_of_link = path.lstat().st_uid
    others = {owner, owner_of_link}.difference(users)
    if others:
        name = shlex.quote(str(path))
        raise UsageError(
            f"{path} belongs to another user (uid {min(others)}): its settings decide what is built and run here",
            hint=f"read it; if you trust it: `export ENVBUILDER_CONFIG={name}`",
        )
    return _parsed(path, decode(content, path, hint=_HINT))


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=_HINT) from error


def _tool(document: JsonObject) -> JsonObject:
    tool = document.get("tool")
    return tool if isinstance(tool, dict) else {}


def _checked(path: Path, table: object) -> JsonObject:
    """The settings by their options' names in Python. Raises one `UsageError` with every problem in the file."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: envbuilder's settings must be a table")
    table = dict(table)
    accept = table.pop("accept", {})
    render = table.pop("render", None)
    mirrors = table.pop("mirrors", {})
    problems = _double_keys(table)
    _rename_spellings(table)
    problems += _problems(table, _FILE_PARSERS)
    problems += _accept_problems(accept)
    problems += _mirror_problems(mirrors, table)
    if render is not None:
        problems += _render_problems(render)
    if problems:
        raise UsageError(
            f"{path} contains invalid settings",
            problems=problems,
            hint="fix them and try again",
        )
    settings: dict[str, Any] = {}
    for key, value in (*table.items(), *accept.items()):
        settings[key.replace("-", "_")] = tuple(value) if key in _LISTS else value
    for key, address in mirrors.items():
        settings[MIRRORS[key].replace("-", "_")] = address
    if render is not None:
        settings["render"] = render
    return settings


def _double_keys(table: Mapping[str, object]) -> list[str]:
    problems = []
    for spelling, key in _SPELLINGS.items():
        if spelling in table and key in table:
            problems.append(f"{spelling} and {key} are the same key: give one")
    return problems


def _rename_spellings(table: dict[str, Any]) -> None:
    for spelling, key in _SPELLINGS.items():
        if spelling in table:
            table[key] = table.pop(spelling)


def _accept_problems(table: object) -> list[str]:
    if not isinstance(table, dict):
        return ["accept must be a table with the key checks"]
    return [f"[accept]: {problem}" for problem in _problems(table, _ACCEPT_PARSERS)]


def _mirror_problems(mirrors: object, table: Mapping[str, object]) -> list[str]:
    if not isinstance(mirrors, dict):
        return [f"mirrors must be a table with the keys {', '.join(MIRRORS)}"]
    problems = _problems(mirrors, _MIRROR_PARSERS)
    for key in mirrors:
        option = MIRRORS.get(key)
        if option in table:
            problems.append(f"{key} and {option} are the same setting: give one")
    return [f"[mirrors]: {problem}" for problem in problems]


def _render_problems(table: object) -> list[str]:
    expected = "render must be a table with the keys targets, stack and settings, which is a table too"
    if not isinstance(table, dict):
        return [expected]
    keys = dict(table)
    settings = keys.pop("settings", {})
    if not isinstance(settings, dict):
        return [expected]
    problems = _problems(keys, _RENDER_PARSERS)
    # Which settings there are depends on the targets; here each must only be one line of text.
    parsers = dict.fromkeys(settings, _parse_text)
    problems += _problems(settings, parsers)
    return [f"[render]: {problem}" for problem in problems]


def _problems(
    table: Mapping[str, object], parsers: Mapping[str, Callable[[str], object]]
) -> list[str]:
    problems = []
    for key, value in table.items():
        problem = _problem(key, value, parsers)
        if problem:
            problems.append(problem)
    return problems


def _problem(
    key: str, value: object, parsers: Mapping[str, Callable[[str], object]]
) -> str | None:
    """What is wrong with one setting, in one line; None if nothing is."""
    if key not in parsers:
        return f"unknown key {quoted(key)}; {_suggestion(key, sorted(parsers))}"
    texts = _texts(key, value)
    if texts is None:
        if key in _LISTS:
            return f"{key} must be a list of strings, not {quoted(value)}"
        text = str(value)[:40]
        return f'{key} must be a string, not {quoted(value)}: write {key} = "{text}"'
    for text in texts:
        try:
            parsers[key](text)
        except ValueError as error:
            return f"{key} = {quoted(text)}: {error}"
    return None


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"keys: {', '.join(known)}"


def _texts(key: str, value: object) -> list[str] | None:
    """The one or several values of a setting; None for a value of another type."""
    if key not in _LISTS:
        return [value] if isinstance(value, str) else None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
