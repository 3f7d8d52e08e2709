"""`envbuilder.toml`, or `[tool.envbuilder]` in `pyproject.toml`: defaults for the options of every command.

A key is an option's name; its value is what the option takes. The command line wins. One table stands beside them:

    [accept]
    checks = ["my_check.py"]   # checks of your own, beside this file
"""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from envbuilder.errors import UsageError

FILE = "envbuilder.toml"
_LISTS = frozenset({"package", "cache-to", "cache-from", "checks"})
KEYS = frozenset(
    {
        "cuda", "cudnn", "python", "torch", "gpu", "driver", "base", "package", "platform", "index-url", "ca-bundle",
        "builder", "cache-to", "cache-from", "tag", "gpu-access",
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
    table = {key: value for key, value in table.items() if key != "accept"}
    problems = [problem for key, value in table.items() if (problem := _problem(key, value, KEYS))]
    problems += _accept_problems(accept)
    if problems:
        raise UsageError(f"{path} has settings that mean nothing", problems=problems, hint="mend them and run it again")
    flat = {key.replace("-", "_"): tuple(value) if key in _LISTS else value for key, value in table.items()}
    return flat | {key: tuple(value) for key, value in accept.items()}


def _accept_problems(table: object) -> list[str]:
    if not isinstance(table, dict):
        return ["accept must be a table with the key checks"]
    problems = (_problem(key, value, {"checks"}) for key, value in table.items())
    return [f"[accept]: {problem}" for problem in problems if problem]


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
