"""What a shared library says of CUDA and torch, out of its first bytes and of its GPU binaries; pure.

A wheel is compressed, so that a library in it can only be read from its beginning. The symbols and the names of the
libraries that it links to come first, the dynamic section and the GPU binaries much later.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from envbuilder.lock.needed_libraries import needed_libraries

# Strings one after the other, as `.dynstr` has them.
_NAMES = re.compile(rb"\0(?:[!-~]+\0){3,}")
_SONAME = re.compile(rb"lib[A-Za-z0-9_+.-]+\.so(?:\.[0-9]+)*")
_SYMBOL = struct.Struct("<IBBHQQ")
_SECTION = 3  # a kind of symbol, the only one without a name
_NO_SYMBOL = (0, 0, 0, 0, 0, 0)
# Those whose number is CUDA's: libcusparse.so.12, for one, is of CUDA 12 and of 13.
_OF_CUDA = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.([0-9]+)")
_OF_TORCH = re.compile(rb"_ZT?[A-Z]*?K?(?:2at|3c10|5torch)")
# The header of a fat binary: its magic number and version, its own size and that of what follows.
_FATBIN = b"\x50\xed\x55\xba\x01\x00"
_FATBIN_HEADER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQ")
_KINDS = {1: "compute", 2: "sm"}
_SUFFIXES = {
    0x10_0000: "a",  # for one compute capability alone: seen with nvcc 13.0 -gencode
    0x20_0000: "f",  # for its family
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the first bytes of a library tell."""

    needed: tuple[str, ...]  # sonames, its own among them
    torch_abi: bool  # C++ of torch among the symbols that others have to define


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCode:
    """What a library holds for GPUs."""

    binaries: frozenset[str]
    ptx: frozenset[str]


def read_head(content: bytes) -> Library | None:
    """None if its table of names is not in the bytes: it is no library, or a tool moved the table to its end."""
    if not content.startswith(b"\x7fELF"):
        return None
    for table in _NAMES.finditer(content):
        names = table[0].split(b"\0")
        needed = [name.decode() for name in names if _SONAME.fullmatch(name)]
        undefined = _undefined(content, table.start(), table.end())
        # Text of a program can look like a table of names; no symbols end where it begins.
        if needed and undefined is not None:
            return Library(
                needed=tuple(sorted(set(needed))),
                torch_abi=any(_OF_TORCH.match(name) for name in undefined),
            )
    return None


def read_whole(content: bytes) -> Library:
    """From the dynamic section; what links to torch is taken to use its C++."""
    needed = needed_libraries(content)
    uses_torch = any(name.startswith(("libtorch", "libc10")) for name in needed)
    return Library(needed=tuple(sorted(needed)), torch_abi=uses_torch)


def _undefined(content: bytes, names: int, end: int) -> list[bytes] | None:
    """The symbols that another library defines; their table ends where that of their names begins.

    None if there is no such table: its first symbol is always empty.
    """
    found: list[bytes] = []
    place = names - _SYMBOL.size
    while place >= 0:
        symbol = _SYMBOL.unpack_from(content, place)
        name, kind, _, section, _, _ = symbol
        if symbol == _NO_SYMBOL:
            return found
        is_nameless = name == 0 and kind & 0xF != _SECTION
        if is_nameless or names + name >= end:
            return None
        if section == 0:
            start = names + name
            found.append(content[start : content.index(b"\0", start)])
        place -= _SYMBOL.size
    return None


def cuda_majors(needed: tuple[str, ...]) -> set[int]:
    """The majors of CUDA whose libraries are among these."""
    found = set()
    for soname in needed:
        match = _OF_CUDA.match(soname)
        if match:
            found.add(int(match[1]))
    return found


def find_gpu_code(content: bytes) -> GpuCode:
    """Out of a whole library: its binaries, and the PTX that all of its translation units have."""
    binaries: set[str] = set()
    ptx: set[str] | None = None
    place = content.find(_FATBIN)
    while place >= 0:
        unit = set(_architectures(content, place))
        binaries |= {name for name in unit if name.startswith("sm_")}
        if unit:
            of_unit = unit - binaries
            ptx = of_unit if ptx is None else ptx & of_unit
        place = content.find(_FATBIN, place + len(_FATBIN))
    return GpuCode(binaries=frozenset(binaries), ptx=frozenset(ptx or ()))


def _architectures(content: bytes, place: int) -> Iterator[str]:
    """The code of one translation unit: `sm_90a` is a binary, `compute_80` is PTX, which a driver compiles."""
    if place + _FATBIN_HEADER.size > len(content):
        return
    _, _, header, size = _FATBIN_HEADER.unpack_from(content, place)
    place += header
    end = min(place + size, len(content) - _ENTRY.size)
    while place < end:
        entry = _ENTRY.unpack_from(content, place)
        kind, _, own, length = entry[:4]
        architecture, flags = entry[8], entry[11]
        if kind in _KINDS:
            yield f"{_KINDS[kind]}_{architecture}{_suffix(flags)}"
        if own == 0:
            return
        place += own + length


def _suffix(flags: int) -> str:
    for bit, suffix in _SUFFIXES.items():
        if flags & bit:
            return suffix
    return ""
