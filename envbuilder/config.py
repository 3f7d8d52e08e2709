"""`envbuilder.toml`, or `[tool.envbuilder]` in `pyproject.toml`: defaults for the options of every command.

A key is an option's name; its value is what the option takes. The command line wins. Two tables stand beside them:

    [accept]
    checks = ["my_check.py"]   # checks of your own, beside this file

    [render]
    targets = ["devcontainer"] # the files of this repository that `envbuilder render` keeps, beside the build context
    stack = "cu117-…"          # of several locks under docker/images/, this one

    [render.settings]          # what targets let people change
    shm-size = "2g"
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.gpu import GpuAccess
from envbuilder.model import ANY
from envbuilder.request import (
    parse_builder,
    parse_cache,
    parse_index_url,
    parse_option,
    parse_package,
    parse_path,
    parse_tag,
    quoted,
)

FILE = "envbuilder.toml"
_LISTS = frozenset({"package", "cache-to", "cache-from", "checks", "targets"})
_REQUEST = (
    "cuda", "cudnn", "python", "torch", "torchvision", "transformers", "gpu", "driver", "base", "os", "flavour",
    "platform", "as-of",
)  # fmt: skip


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


def _parser_of(option: str) -> Callable[[str], object]:
    return lambda text: text if text == ANY else parse_option(option.replace("-", "_"), text)


PARSERS: Mapping[str, Callable[[str], object]] = {
    **{option: _parser_of(option) for option in _REQUEST},
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

_ACCEPT_PARSERS: Mapping[str, Callable[[str], object]] = {"checks": parse_path}
_RENDER_PARSERS: Mapping[str, Callable[[str], object]] = {"targets": _parse_word, "stack": _parse_folder_name}


def find(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """The settings that hold in `folder` or the nearest folder above it, and the file that has them."""
    for place in (folder, *folder.parents):
        own = place / FILE
        if own.is_file():
            return own, _checked(own, _read(own))
        project = place / "pyproject.toml"
        if project.is_file():
            table = _read(project).get("tool", {}).get("envbuilder")
            if table is not None:
                return project, _checked(project, table)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="mend it, or move it out of the way") from error


def _checked(path: Path, table: object) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: envbuilder's settings must be a table")
    accept = table.get("accept", {})
    render = table.get("render")
    table = {key: value for key, value in table.items() if key not in ("accept", "render")}
    problems = [problem for key, value in table.items() if (problem := _problem(key, value, PARSERS))]
    problems += _accept_problems(accept) + ([] if render is None else _render_problems(render))
    if problems:
        raise UsageError(f"{path} has settings that mean nothing", problems=problems, hint="mend them and run it again")
    flat = {key.replace("-", "_"): tuple(value) if key in _LISTS else value for key, value in table.items()}
    flat |= {key: tuple(value) for key, value in accept.items()}
    return flat if render is None else flat | {"render": render}


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
