"""Odd values that a grammar takes: made from the annotated types themselves, so that a looser grammar is fuzzed too."""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.catalog.rows import Policy
from envbuilder.host.records import Host
from envbuilder.lock.torch_index import FAMILY
from envbuilder.model import Base, Stack

from .values import copied

VERSIONS = (
    "1.0", "0", "1!2.0", "1.0+cu117", "1.0+a.b.c", "1.0.post1", "2.0rc1", "1.0.dev1", "1.0-1", "01.02", "1.0a",
    "999999999999.1", "1.2.3.4.5.6.7.8", "11.7.99", "13.0", "3.9", "2.36",
)  # fmt: skip
_LONGEST = 24


@cache
def values(hint: Any) -> st.SearchStrategy[Any]:
    """Plain values (as JSON has them) of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _annotated(*arguments[:2])
    if origin is not None:
        return _combined(origin, arguments)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from([item.value for item in hint])
    if isinstance(hint, type) and is_dataclass(hint):
        return _record(hint)
    return _PLAIN.get(hint, st.none())


def _combined(origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3)
    return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)


_PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    Version: st.sampled_from(VERSIONS),
    date: st.one_of(st.dates().map(str), st.sampled_from(["0001-01-01", "9999-12-31"])),
    bool: st.booleans(),
    int: st.integers(0, 1 << 62),
    float: st.floats(0, 1e9),
    str: st.text(max_size=_LONGEST),
}


def _annotated(kind: type, meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    if kind is int:
        return st.integers(int(meta.ge or 0), int(meta.le or 1 << 62))
    if kind is float:
        return st.floats(float(meta.ge or 0), float(meta.le or 1e9))
    pattern, longest = meta.pattern or "", meta.max_length or 0
    found = st.from_regex(pattern)
    long = st.builds(
        lambda text, length: text[:1] * length,
        found,
        st.sampled_from([64, 128, 255, longest]),
    )
    return st.one_of(found, found, long).filter(
        lambda text: len(text) <= longest and bool(re.search(pattern, text))
    )


def _record(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: values(hint) for name, hint in _hints(kind).items()}
    )


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


@st.composite
def odd(
    draw: st.DrawFn, kind: type, document: dict[str, Any], kept: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A document of a noun, some of whose fields have other values of their types."""
    changed: dict[str, Any] = copied(document)
    names = [name for name in _hints(kind) if name not in kept]
    for name in draw(
        st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    ):
        changed[name] = draw(values(_hints(kind)[name]))
    return changed


@st.composite
def odd_lock(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """A lock that is right in itself: of few wheels, which install anywhere, for an odd stack."""
    stack = document["stack"]
    kept = ("requirements", "extras", "base", "index", "cuda")
    document["stack"] = draw(odd(Stack, stack, kept))
    document["stack"]["base"] = draw(odd(Base, stack["base"]))
    wanted = {
        canonicalize_name(Requirement(line).name)
        for line in [*stack["requirements"], *stack.get("extras", ())]
    }
    wheels = [wheel for wheel in document["wheels"] if wheel["name"] in wanted]
    for number in range(draw(st.integers(0, 2))):
        name = draw(st.from_regex(r"\A[a-z0-9](?:[a-z0-9]|-[a-z0-9]){0,20}\Z"))
        if name not in {wheel["name"] for wheel in wheels}:
            wheels.append(
                {
                    **wheels[number],
                    "name": name,
                    "version": draw(st.sampled_from(VERSIONS)),
                }
            )
    if draw(st.booleans()):
        _move_torch(document["stack"], wheels)
    for wheel in wheels:
        wheel["file"] = (
            f"{wheel['name'].replace('-', '_')}-{Version(wheel['version'])}-py3-none-any.whl"
        )
        wheel["size"] = draw(st.sampled_from([0, 1, 1 << 44, wheel["size"]]))
    document["wheels"] = wheels
    if draw(st.booleans()):
        document["base_digest"] = draw(st.sampled_from([None, "sha256:" + "0" * 64]))
    return document


def _move_torch(stack: dict[str, Any], wheels: list[dict[str, Any]]) -> None:
    """To PyTorch's own index for the stack's CUDA, of which a version tells."""
    stack["index"] = "pytorch-cu117"
    for wheel in wheels:
        if wheel["name"] in FAMILY:
            wheel["index"] = stack["index"]
            wheel["version"] += "+cu117"


@st.composite
def odd_host(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = draw(odd(Host, document))
    return found


@st.composite
def odd_policy(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = draw(odd(Policy, document, ("preference",)))
    return found
