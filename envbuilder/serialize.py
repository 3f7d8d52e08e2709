"""JSON at the edge: records to text and back, strict, with the field at fault in the message."""

import dataclasses
import re
from functools import cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec
from packaging.version import Version

from envbuilder.grammar import UNPRINTABLE_IN_LINES, VersionText, matches

T = TypeVar("T")


def _to_plain(value: object) -> object:
    if isinstance(value, Version | PurePosixPath):
        return str(value)
    raise NotImplementedError(type(value))


@cache
def _version(text: str) -> Version:
    """The catalog repeats a few hundred versions."""
    if not matches(VersionText, text):
        raise ValueError("not a version")
    return Version(text)


def from_plain(kind: type[Any], value: object) -> object:
    """msgspec's `dec_hook`: the types it does not know by itself."""
    if kind is not Version:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise ValueError("a version is a string")
    try:
        return _version(value)
    except ValueError as error:  # InvalidVersion is one
        raise ValueError(f"{value[:60]!r} is not a version") from error


def dumps(value: object) -> str:
    """Readable JSON, the same bytes for the same value, ending with a newline; safe to print."""
    document = plain(value)
    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:  # a file name can contain bytes that are not text
        encoded = msgspec.json.encode(_as_text(document))
    text = msgspec.json.format(encoded, indent=1).decode() + "\n"
    return UNPRINTABLE_IN_LINES.sub(_escape, text)


def _as_text(value: Any) -> Any:
    """A document without half surrogate pairs, which UTF-8 cannot encode: they are spelled out, as `\\udc80`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(inner) for inner in value]
    return value


def _escape(match: re.Match[str]) -> str:
    """An unprintable character is always in a string, where JSON can write `\\u202e`, or two of them above U+FFFF."""
    units = match[0].encode("utf-16-be").hex()
    escaped = ""
    for start in range(0, len(units), 4):
        escaped += "\\u" + units[start : start + 4]
    return escaped


def plain(value: object) -> Any:
    """`value` as dicts, lists and strings, for a JSON document that wraps it."""
    document = msgspec.to_builtins(value, enc_hook=_to_plain)
    _omit_defaults(value, document)
    return document


def _omit_defaults(value: object, document: Any) -> None:
    """Remove the fields with default values that `model.OMIT_IF_DEFAULT` marks."""
    if isinstance(value, tuple):
        for inner, plain_inner in zip(value, document, strict=True):
            _omit_defaults(inner, plain_inner)
        return
    if not dataclasses.is_dataclass(value):
        return
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.metadata.get("omit_if_default") and inner == default:
            del document[field.name]
        else:
            _omit_defaults(inner, document[field.name])


def loads(text: str | bytes, kind: type[T]) -> T:
    """Parse JSON into a record; raises `msgspec.ValidationError` with the path of the field at fault."""
    return msgspec.json.decode(text, type=kind, dec_hook=from_plain)
