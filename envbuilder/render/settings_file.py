"""`envbuilder.toml` as `init` writes it, and additions to one that exists, which keep its comments and its order."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Table

from envbuilder.model import (
    BASE_BOOTSTRAP,
    CUSTOM_OS,
    BaseSource,
    Flavour,
    Lock,
    Request,
)

_HEADER = "# What this repository's image is made of. After a change: `envbuilder render`, then `envbuilder build`."
_RENDER_COMMENT = "# the files that `envbuilder render` updates and `envbuilder render --check` compares"

_STACK_KEYS = (
    "flavour",
    "flavor",
    "cuda",
    "base",
    "os",
    "platform",
    "as-of",
    "apt",
    "with",
)
"""The keys of `request_settings` that are not in every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsSource:
    """The project's own files that settings refer to, and what they decide: it is not written a second time."""

    paths: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()  # cuda, torch …
    packages: frozenset[str] = frozenset()
    apt: frozenset[str] = frozenset()


_NO_FILES = SettingsSource()


def request_settings(
    lock: Lock, as_of: date | None = None, source: SettingsSource = _NO_FILES
) -> dict[str, Any]:
    """The settings that request a lock's stack; `as_of` is the day that was requested for it, if any."""
    stack = lock.stack
    values: dict[str, Any] = {}
    if source.paths:
        values["requirements"] = list(source.paths)
    if stack.flavour is not Flavour.RUNTIME:
        values["flavour"] = stack.flavour.value
    if stack.cuda:
        values["cuda"] = stack.cuda_line
    values["torch"] = str(stack.torch)
    values["python"] = str(stack.python)
    if stack.base.own:
        values["base"] = stack.base.reference
        if stack.base.os != CUSTOM_OS:
            values["os"] = stack.base.os
    elif stack.base.source is BaseSource.BOOTSTRAP:
        values["base"] = BASE_BOOTSTRAP
    if stack.platform != Request().platform:
        values["platform"] = stack.platform
    if as_of:
        values["as-of"] = as_of.isoformat()
    for name in source.options:
        values.pop(name, None)
    return values


def system_package_settings(
    lock: Lock, source: SettingsSource = _NO_FILES
) -> dict[str, list[str]]:
    """The settings that request a lock's system packages, but for those of the project's own files."""
    settings = {}
    companions = _companions(lock, source)
    if companions:
        settings["with"] = companions
    names = [name for name in lock.stack.own_apt if name not in source.apt]
    if names:
        settings["apt"] = names
    return settings


def _companions(lock: Lock, source: SettingsSource) -> list[str]:
    """The companions that no file of the project asks for."""
    requested = lock.stack.companion_requests
    return [text for text in requested if text not in source.packages]


def settings_text(
    lock: Lock,
    targets: Sequence[str],
    settings: Mapping[str, str],
    as_of: date | None = None,
    source: SettingsSource = _NO_FILES,
) -> str:
    """`envbuilder.toml` for a repository that uses this lock."""
    return "\n".join(_lines(lock, targets, settings, as_of, source)) + "\n"


def _lines(
    lock: Lock,
    targets: Sequence[str],
    settings: Mapping[str, str],
    as_of: date | None,
    source: SettingsSource,
) -> Iterator[str]:
    yield _HEADER
    for name, value in request_settings(lock, as_of, source).items():
        text = _list(value) if isinstance(value, list) else _quoted(value)
        yield f"{name} = {text}"
    packages = [text for text in lock.stack.own_extras if text not in source.packages]
    if packages:
        yield f"package = {_list(packages)}"
    companions = _companions(lock, source)
    if companions:
        yield f"with = {_list(companions)}"
    system_packages = [name for name in lock.stack.own_apt if name not in source.apt]
    if system_packages:
        yield f"apt = {_list(system_packages)}"
    yield ""
    yield f"[render]  {_RENDER_COMMENT}"
    yield f"targets = {_list(targets)}"
    if settings:
        yield ""
        yield "[render.settings]"
    for name, value in settings.items():
        yield f"{name} = {_quoted(value)}"


def _quoted(text: str) -> str:
    # A JSON string is a TOML string.
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    quoted = ", ".join(_quoted(text) for text in texts)
    return f"[{quoted}]"


def extended_settings(
    text: str,
    *,
    targets: Sequence[str],
    settings: Mapping[str, str],
    request: Mapping[str, object] | None = None,
    replace: str = "",
    table: Sequence[str] = (),
) -> str:
    """A file of settings with these targets and their settings added, and of a request the keys that it lacks.

    `replace`: the name of the stack that the keys of the request are changed to; those of an earlier one are removed.
    `table`: where envbuilder's settings are in the file.
    """
    document = tomlkit.parse(text)
    place: Any = document
    for name in table:
        place = place[name]
    if replace:
        for key in _STACK_KEYS:
            if key in place and key not in (request or {}):
                del place[key]
        if "stack" in place.get("render", {}):
            place["render"]["stack"] = replace
    for key, value in (request or {}).items():
        if replace or key not in place:
            place[key] = value
    _add_targets(_subtable(place, "render"), targets, settings)
    return tomlkit.dumps(document)


def change_lines(
    name: str, before: str, after: str, table: Sequence[str] = ()
) -> list[str]:
    """What differs between two texts of the file of settings: `added torch, [render] to envbuilder.toml`."""
    old = _values(before, table)
    new = _values(after, table)
    added = []
    changed = []
    for key, value in new.items():
        label = f"[{key}]" if isinstance(value, dict) else key
        if key not in old or (key == "render" and value != old[key]):
            added.append(label)
        elif value != old[key]:
            changed.append(label)
    removed = [key for key in old if key not in new]
    lines = []
    if changed:
        lines.append(f"changed {', '.join(changed)} in {name}")
    if removed:
        lines.append(f"removed {', '.join(removed)} from {name}")
    if added:
        lines.append(f"added {', '.join(added)} to {name}")
    return lines


def _values(text: str, table: Sequence[str]) -> dict[str, Any]:
    """The settings in the text of a file."""
    document = tomlkit.parse(text)
    place: Any = document.unwrap()
    for name in table:
        place = place[name]
    values: dict[str, Any] = place
    return values


def _add_targets(
    render: Table, targets: Sequence[str], settings: Mapping[str, str]
) -> None:
    array = render.setdefault("targets", tomlkit.array())
    for target in targets:
        if target not in array:
            array.append(target)
    if settings:
        _subtable(render, "settings").update(settings)


def _subtable(place: Container | Table, name: str) -> Table:
    if name not in place:
        place[name] = tomlkit.table()
    subtable: Table = place[name]
    return subtable
