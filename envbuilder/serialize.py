"""JSON at the edge: nouns to text and back, strict, with the row that fails in the message."""

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


def from_plain(wanted: type[Any], value: object) -> object:
    """msgspec's `dec_hook`: the types it does not know by itself."""
    if wanted is not Version:
        raise NotImplementedError(wanted)
    if not isinstance(value, str):
        raise ValueError("a version is a text")
    try:
        return _version(value)
    except ValueError as error:  # InvalidVersion is one
        raise ValueError(f"{value[:60]!r} is not a version") from error


def dumps(value: object) -> str:
    """Readable JSON, the same bytes for the same value, ending with a newline; safe to print."""
    document = plain(value)
    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:  # the name of a file can be bytes that are no text
        encoded = msgspec.json.encode(_as_text(document))
    text = msgspec.json.format(encoded, indent=1).decode() + "\n"
    return UNPRINTABLE_IN_LINES.sub(_escape, text)


def _as_text(value: Any) -> Any:
    """A document without half surrogate pairs, which no UTF-8 has: they are spelled out, as `\\udc80`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list | tuple) else value


def _escape(found: re.Match[str]) -> str:
    """What cannot be printed is in a string, where JSON has `\\u202e` for it, or two of them above U+FFFF."""
    units = found[0].encode("utf-16-be").hex()
    escaped = ""
    for place in range(0, len(units), 4):
        escaped += "\\u" + units[place : place + 4]
    return escaped


def plain(value: object) -> Any:
    """`value` as dicts, lists and strings, for a JSON document that wraps it."""
    return _trimmed(value, msgspec.to_builtins(value, enc_hook=_to_plain))


def _trimmed(value: object, document: Any) -> Any:
    """`document` without the fields whose default is not written (`model.UNSAID`)."""
    if not dataclasses.is_dataclass(value):
        return document
    for field in dataclasses.fields(value):
        said = getattr(value, field.name)
        if field.metadata.get("unsaid") and said == field.default:
            del document[field.name]
        elif dataclasses.is_dataclass(said):
            _trimmed(said, document[field.name])
    return document


def loads(text: str | bytes, wanted: type[T]) -> T:
    """Parse JSON into `wanted`; raises `msgspec.ValidationError` with the path of the field at fault."""
    return msgspec.json.decode(text, type=wanted, dec_hook=from_plain)
