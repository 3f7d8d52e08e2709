"""Of what a container writes, so many bytes and lines are kept and no more."""

from collections.abc import Iterator

import pytest

from envbuilder.engine import output
from envbuilder.engine.output import CUT, TooMuchOutput, lines_of


def test_lines_come_whole_however_they_were_cut_into_chunks() -> None:
    assert list(lines_of([b"on", b"e\ntwo\n\nth", b"ree"])) == [
        "one",
        "two",
        "",
        "three",
    ]
    assert list(lines_of([b"one\n"])) == ["one"]
    assert list(lines_of([])) == []
    assert list(lines_of([b"\xff\n"])) == ["\ufffd"]


def test_long_line_is_cut_and_the_next_is_complete() -> None:
    long = b"a" * (output.LONGEST_LINE // 2 + 1)
    first, second = lines_of([long, long, b"tail\nnext\n"])
    assert first == "a" * output.LONGEST_LINE + CUT
    assert second == "next"


def test_a_line_of_the_greatest_length_is_whole() -> None:
    assert list(lines_of([b"a" * output.LONGEST_LINE + b"\n"])) == [
        "a" * output.LONGEST_LINE
    ]


@pytest.mark.parametrize("chunk", [b"x" * 60_000, b"junk\n" * 1000, b"\n"])
def test_without_end_it_ends(chunk: bytes) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += len(chunk)
            yield chunk

    lines: list[str] = []
    with pytest.raises(TooMuchOutput):
        lines.extend(lines_of(endless()))
    assert taken <= output.MOST_BYTES + len(chunk)
    assert len(lines) <= output.MOST_LINES
