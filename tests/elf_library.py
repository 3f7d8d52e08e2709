"""A shared library made up here."""

import struct


def library(*needs: str, runpath: str = "", padding: int = 0) -> bytes:
    """The smallest ELF file with these DT_NEEDED: a header, two segments, a dynamic section and its strings.

    `padding`: bytes that separate the strings from the dynamic section, as code does in a large library.
    """
    strings = b"\0"
    entries = b""
    for name in needs:
        entries += struct.pack("<qQ", 1, len(strings))
        strings += name.encode() + b"\0"
    if runpath:
        entries += struct.pack("<qQ", 29, len(strings))
        strings += runpath.encode() + b"\0"
    place = 64 + 2 * 56
    start = place + len(strings) + padding
    entries += struct.pack("<qQqQ", 5, 0x1000 + place, 0, 0)
    size = start + len(entries)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x1000, 0, size, size, 4096)
    dynamic = struct.pack(
        "<IIQQQQQQ", 2, 4, start, 0x1000 + start, 0, len(entries), len(entries), 8
    )
    return header + load + dynamic + strings + bytes(padding) + entries
