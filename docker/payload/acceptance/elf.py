"""Just enough of ELF (elf(5)) to tell what the loader would make of a library."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Iterator, NamedTuple

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
TEXTS = (DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH)
HEADER_SIZE = 64
LONGEST_NAME = 4096


@dataclass
class Library:
    """A 64-bit ELF file. `whole`: no segment is cut off or misaligned."""

    whole: bool
    soname: str | None = None
    needed: list[str] = field(default_factory=list)
    search_path: str = ""  # DT_RUNPATH or DT_RPATH, as it is written


class Segment(NamedTuple):
    """A row of the program header table."""

    kind: int
    flags: int
    offset: int  # in the file
    address: int  # in memory
    physical_address: int
    size: int  # in the file
    memory_size: int
    alignment: int

    def ends_within(self, length: int) -> bool:
        return self.offset + self.size <= length

    def is_aligned(self) -> bool:
        """Its places in the file and in memory must agree, or the loader refuses the file."""
        return (self.address - self.offset) % max(self.alignment, 1) == 0

    def holds(self, address: int) -> bool:
        return self.address <= address < self.address + self.size

    def offset_of(self, address: int) -> int:
        return self.offset + address - self.address


def read_elf(path: str) -> Library | None:
    """None if the file is no 64-bit ELF file."""
    with open(path, "rb") as stream:
        header = stream.read(HEADER_SIZE)
        if len(header) < HEADER_SIZE or not header.startswith(b"\x7fELF\x02"):
            return None
        segments = read_segments(stream, header)
        if segments is None:
            return Library(whole=False)
        loaded = [segment for segment in segments if segment.kind == PT_LOAD]
        if not all_loadable(loaded, os.fstat(stream.fileno()).st_size):
            return Library(whole=False)
        library = Library(whole=True)
        for tag, name in dynamic_names(stream, segments, loaded):
            if tag == DT_NEEDED:
                library.needed.append(name)
            elif tag in (DT_RPATH, DT_RUNPATH):
                library.search_path = name
            elif library.soname is None:
                library.soname = name
        return library


def read_segments(stream: BinaryIO, header: bytes) -> list[Segment] | None:
    """The program header table; None if it is cut off."""
    (start,) = struct.unpack_from("<Q", header, 32)
    row_size, count = struct.unpack_from("<HH", header, 54)
    stream.seek(start)
    table = stream.read(row_size * count)
    if len(table) < row_size * count:
        return None
    segments = []
    for number in range(count):
        row = struct.unpack_from("<IIQQQQQQ", table, number * row_size)
        segments.append(Segment(*row))
    return segments


def all_loadable(segments: list[Segment], length: int) -> bool:
    return all(
        segment.ends_within(length) and segment.is_aligned() for segment in segments
    )


def dynamic_names(
    stream: BinaryIO,
    segments: list[Segment],
    loaded: list[Segment],
) -> Iterator[tuple[int, str]]:
    """(tag, text) for each name and search path in a library's dynamic section."""
    for dynamic in segments:
        if dynamic.kind == PT_DYNAMIC:
            break
    else:
        return
    stream.seek(dynamic.offset)
    table = stream.read(dynamic.size // 16 * 16)
    entries = list(struct.iter_unpack("<qQ", table))
    strings = dict(entries).get(DT_STRTAB)
    if not strings:
        return
    for tag, value in entries:
        if tag in TEXTS:
            yield tag, read_string(stream, loaded, strings + value)


def read_string(stream: BinaryIO, loaded: list[Segment], address: int) -> str:
    for segment in loaded:
        if segment.holds(address):
            stream.seek(segment.offset_of(address))
            name = stream.read(LONGEST_NAME).split(b"\0")[0]
            return name.decode(errors="replace")
    raise ValueError(f"no segment holds address {address:#x}")
