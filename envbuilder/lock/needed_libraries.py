"""The shared libraries that a shared library asks for (DT_NEEDED), out of the bytes of an ELF file."""

import struct
from collections.abc import Iterator

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: amd64 and arm64
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_PT_LOAD = 1
_PT_DYNAMIC = 2
_DT_NULL = 0
_DT_NEEDED = 1
_DT_STRTAB = 5
_MOST_NEEDED = 500
_LONGEST_NAME = 255

Segment = tuple[int, int, int, int]
"""Type, place in the file, address and size in the file."""


def needed_libraries(content: bytes) -> list[str]:
    """The sonames that an ELF file needs, in its order; none for anything else, or for a damaged one."""
    if not content.startswith(_MAGIC):
        return []
    try:
        return list(_needed(content))
    except struct.error:  # it ends in the middle of a table
        return []


def _needed(content: bytes) -> Iterator[str]:
    segments = list(_segments(content))
    names: list[int] = []
    strings = None
    for tag, value in _dynamic(content, segments):
        if tag == _DT_NEEDED and len(names) < _MOST_NEEDED:
            names.append(value)
        elif tag == _DT_STRTAB:
            strings = _place_of(value, segments)
    if strings is None:
        return
    for name in names:
        start = strings + name
        end = content.find(b"\0", start, start + _LONGEST_NAME)
        if end > start:
            yield content[start:end].decode("ascii", errors="replace")


def _segments(content: bytes) -> Iterator[Segment]:
    header = _HEADER.unpack_from(content)
    table = header[4]
    size = header[8]
    count = header[9]
    for number in range(count):
        offset = table + number * size
        row = _SEGMENT.unpack_from(content, offset)
        kind, _, place, address, _, length, _, _ = row
        yield kind, place, address, length


def _dynamic(content: bytes, segments: list[Segment]) -> Iterator[tuple[int, int]]:
    """The entries of the dynamic section: tag and value."""
    for kind, place, _, length in segments:
        if kind != _PT_DYNAMIC:
            continue
        for offset in range(place, place + length, _ENTRY.size):
            tag, value = _ENTRY.unpack_from(content, offset)
            if tag == _DT_NULL:
                return
            yield tag, value


def _place_of(address: int, segments: list[Segment]) -> int | None:
    """Where in the file an address of the loaded library is."""
    for kind, place, start, length in segments:
        if kind != _PT_LOAD:
            continue
        offset = address - start
        if 0 <= offset < length:
            return place + offset
    return None
