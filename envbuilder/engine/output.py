"""A container's output, line by line and within bounds: an image may write without end."""

from collections.abc import Iterable, Iterator

from envbuilder.errors import EngineError

MOST_BYTES = 16_000_000  # of the whole stdout; the suite writes less than one million
MOST_LINES = 100_000
LONGEST_LINE = 1_000_000  # bytes; longer lines are cut
CUT = " … (the line was cut)"


class TooMuchOutput(EngineError):
    """A container wrote more than anybody reads."""

    def __init__(self) -> None:
        super().__init__(
            f"it wrote more than {MOST_BYTES // 1_000_000} MB or {MOST_LINES} lines, and was stopped"
        )


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines in a container's output. Raises `TooMuchOutput`, upon which the caller stops the container."""
    line = _Line()
    size = count = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MOST_BYTES:
            raise TooMuchOutput
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line.add(end)
            count += 1
            if count > MOST_LINES:
                raise TooMuchOutput
            yield line.take()
        line.add(rest)
    if line.begun:
        yield line.take()


class _Line:
    """A line that is not complete yet."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self._cut = False

    @property
    def begun(self) -> bool:
        return bool(self._parts)

    def add(self, part: bytes) -> None:
        room = LONGEST_LINE - len(self._parts)
        self._cut = self._cut or len(part) > room
        self._parts += part[:room]

    def take(self) -> str:
        text = self._parts.decode(errors="replace") + (CUT if self._cut else "")
        self._parts, self._cut = bytearray(), False
        return text
