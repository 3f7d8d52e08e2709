"""JSON at the edge: nouns to text and back, strict, with the row that fails in the message."""

from functools import cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec
from packaging.version import InvalidVersion, Version

T = TypeVar("T")


def _to_plain(value: object) -> object:
    if isinstance(value, Version | PurePosixPath):
        return str(value)
    raise NotImplementedError(type(value))


@cache
def _version(text: str) -> Version:
    """A catalog says the same few hundred versions over and over."""
    return Version(text)


def from_plain(wanted: type[Any], value: object) -> object:
    """msgspec's `dec_hook`: the types it does not know by itself."""
    if wanted is Version and isinstance(value, str):
        try:
            return _version(value)
        except InvalidVersion as error:
            raise ValueError(f"{value!r} is not a version") from error
    raise NotImplementedError(wanted)


def dumps(value: object) -> str:
    """Readable JSON, the same bytes for the same value, ending with a newline."""
    packed = msgspec.json.encode(value, enc_hook=_to_plain)
    return msgspec.json.format(packed, indent=1).decode() + "\n"


def plain(value: object) -> Any:
    """`value` as dicts, lists and strings, for a JSON document that wraps it."""
    return msgspec.to_builtins(value, enc_hook=_to_plain)


def loads(text: str | bytes, wanted: type[T]) -> T:
    """Parse JSON into `wanted`; raises `msgspec.ValidationError` with the path of the field at fault."""
    return msgspec.json.decode(text, type=wanted, dec_hook=from_plain)
