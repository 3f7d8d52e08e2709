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
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from envbuilder.errors import UsageError

FILE = "envbuilder.toml"
_LISTS = frozenset({"package", "cache-to", "cache-from", "checks", "targets"})
KEYS = frozenset(
    {
        "cuda", "cudnn", "python", "torch", "torchvision", "transformers", "gpu", "driver", "base", "os", "flavour",
        "package", "platform", "as-of", "index-url", "ca-bundle", "builder", "cache-to", "cache-from", "tag",
        "gpu-access", "catalog",
    }
)  # fmt: skip


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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="mend it, or move it out of the way") from error


def _checked(path: Path, table: object) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: envbuilder's settings must be a table")
    accept = table.get("accept", {})
    render = table.get("render")
    table = {key: value for key, value in table.items() if key not in ("accept", "render")}
    problems = [problem for key, value in table.items() if (problem := _problem(key, value, KEYS))]
    problems += _accept_problems(accept) + ([] if render is None else _render_problems(render))
    if problems:
        raise UsageError(f"{path} has settings that mean nothing", problems=problems, hint="mend them and run it again")
    flat = {key.replace("-", "_"): tuple(value) if key in _LISTS else value for key, value in table.items()}
    flat |= {key: tuple(value) for key, value in accept.items()}
    return flat if render is None else flat | {"render": render}


def _accept_problems(table: object) -> list[str]:
    if not isinstance(table, dict):
        return ["accept must be a table with the key checks"]
    problems = (_problem(key, value, {"checks"}) for key, value in table.items())
    return [f"[accept]: {problem}" for problem in problems if problem]


def _render_problems(table: object) -> list[str]:
    if not isinstance(table, dict) or not isinstance(table.get("settings", {}), dict):
        return ["render must be a table with the keys targets, stack and settings, which is a table too"]
    settings = table.get("settings", {})
    plain = {key: value for key, value in table.items() if key != "settings"}
    problems = [_problem(key, value, {"targets", "stack"}) for key, value in plain.items()]
    problems += [_problem(key, value, settings.keys()) for key, value in settings.items()]
    return [f"[render]: {problem}" for problem in problems if problem]


def _problem(key: str, value: object, keys: Collection[str]) -> str | None:
    if key not in keys:
        near = difflib.get_close_matches(key, sorted(keys), n=1, cutoff=0.5)
        return f"unknown key {key!r}" + (
            f"; did you mean {near[0]!r}?" if near else f"; keys: {', '.join(sorted(keys))}"
        )
    if key in _LISTS:
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return None if good else f"{key} must be a list of strings, not {value!r}"
    if not isinstance(value, str):
        return f'{key} must be a string, not {value!r}: write {key} = "{value}"'
    return None
