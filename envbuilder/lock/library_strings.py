"""The libraries that a large library needs, out of its beginning.

In an archive only the beginning of a file can be had without the rest. The names that a library needs are near it, in
the table of strings (.dynstr); which of its strings they are is at the end, in the dynamic section. So every name of a
library in that table is taken: those that it needs, and its own.
"""

import re

from envbuilder.lock.needed_libraries import needed_libraries

_ANCHOR = b"\0libc.so.6\0"  # in the table of every library that is linked at run time
_TABLE = re.compile(rb"(?:[\x21-\x7e]+\0)+")
_OTHER = bytes(byte for byte in range(256) if byte and not 0x21 <= byte < 0x7F)
_MARKED = bytes.maketrans(_OTHER, b"\x01" * len(_OTHER))
_LIBRARY = re.compile(rb"lib[A-Za-z0-9_+.-]+\.so(?:\.[0-9]+)*")


def needed_in_beginning(content: bytes) -> list[str]:
    """The names; none if they are not in this part of the file."""
    whole = needed_libraries(content)
    if whole:
        return whole
    place = content.find(_ANCHOR)
    if place < 0:
        return []
    start = _start_of_table(content, place)
    table = _TABLE.match(content, start)
    if table is None or table.end() == len(content):  # it goes on
        return []
    names = []
    for text in table[0].split(b"\0"):
        if _LIBRARY.fullmatch(text):
            name = text.decode("ascii")
            names.append(name)
    return names


def _start_of_table(content: bytes, place: int) -> int:
    """Where the strings around a place begin: behind the last bytes before it that no such table has."""
    before = content[: place + 1].translate(_MARKED)
    zeros = before.rfind(b"\0\0")
    other = before.rfind(b"\x01")
    start = max(zeros + 2, other + 1)
    if content.startswith(b"\0", start):  # the table's first string is empty
        start += 1
    return start
