"""Everything printed for a person: on stderr, with colour and live displays on a terminal, plain lines in a pipe.

All text passes `clean` on its way, that of answers on stdout too: what an image, a lock or a program wrote cannot move
the cursor, rename the window or add a line. tests/unit/test_console.py checks the package: nothing else prints.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TextIO

from rich.console import Console as Rich
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from envbuilder import grammar
from envbuilder.errors import EngineError, EnvbuilderError

_REFRESH = 8  # times a second


def clean(text: str) -> str:
    """Any text as one printable line of bounded length; a line break in it becomes a blank."""
    # A path can contain bytes that are not text.
    escaped = text.encode(errors="backslashreplace").decode()
    return grammar.printable(" ".join(escaped.splitlines()))


def clean_lines(text: str) -> str:
    """Lines of ours, each printable; foreign text in them has passed `clean`, so that it adds no line."""
    return grammar.UNPRINTABLE_IN_LINES.sub("?", text)


def answer(text: str, end: str = "\n") -> None:
    """Print what a command answers, on stdout. A JSON document of `serialize.dumps` passes unchanged.

    A reader that goes away, as `head` does, has read enough: that changes neither the command nor its exit code.
    """
    with suppress(BrokenPipeError):
        _write(sys.stdout, clean_lines(text) + end)


def complain(text: str) -> None:
    """Print to stderr, without colour: for messages before a command or instead of one."""
    _write(sys.stderr, clean_lines(text) + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # None: the parent process closed it
        stream.write(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a live display."""

    title: str
    state: str  # "waiting", "running", "done", "cached", "failed", "error", "not run"
    seconds: float | None = None
    current: int = 0
    total: int = 0
    unit: str = ""  # "B" for bytes, else a word
    note: str = ""

    @property
    def has_ended(self) -> bool:
        return self.state not in ("waiting", "running")


_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "done": ("✓", "green"),
    "cached": ("✓", "dim green"),
    "failed": ("✗", "bold red"),
    "error": ("!", "bold yellow"),
    "not run": ("–", "dim"),
}


class Printer(Rich):
    """Rich's console, with every unprintable character in its output replaced."""

    def render(
        self, renderable: Any, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            control = segment.control
            if control is None and not text.isprintable():
                text = clean_lines(text)
            yield Segment(text, segment.style, control)

    def on_broken_pipe(self) -> None:
        """As `answer`: a reader of stdout has read enough. That of stderr misses a message, which is an error."""
        if self.file is not sys.stdout:
            super().on_broken_pipe()
        self.quiet = True


def printer(stream: TextIO) -> Printer:
    """A console for text with styles."""
    return Printer(file=stream, highlight=False, soft_wrap=True)


class Console:
    """stderr. `NO_COLOR`, `TERM=dumb` and pipes are handled by rich."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._rich = printer(stream or sys.stderr)
        self.quiet = quiet

    @property
    def live(self) -> bool:
        return self._rich.is_terminal and not self.quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            self._line(text)

    def note(self, text: str) -> None:
        self._line(text, Text("note: ", "yellow"))

    def error(self, error: EnvbuilderError) -> None:
        """What is wrong, the evidence, and on its own line what to do."""
        self._line(error.message, Text("error: ", "bold red"))
        for problem in error.problems:
            self._line(f"  {problem}")
        if isinstance(error, EngineError) and error.log:
            self._line(f"  full log: {error.log}")
        if error.hint:
            self._line(error.hint, Text("hint: ", "bold"))

    def _line(self, text: str, head: Text | None = None) -> None:
        self._rich.print(Text.assemble(head or "", clean(text)))

    @contextmanager
    def rows(self) -> Iterator[Callable[[Sequence[Row]], None]]:
        """A display of rows: redrawn on a terminal; in a pipe, one line for each row when it ends."""
        if not self.live:
            yield self._plain()
            return
        display = _Display()
        with Live(
            display, console=self._rich, refresh_per_second=_REFRESH, transient=True
        ):

            def show(rows: Sequence[Row]) -> None:
                for row in display.take(rows):
                    self._rich.print(_table([row], self._rich.width))

            yield show

    def _plain(self) -> Callable[[Sequence[Row]], None]:
        printed: set[int] = set()

        def show(rows: Sequence[Row]) -> None:
            for number, row in enumerate(rows):
                if row.has_ended and number not in printed:
                    printed.add(number)
                    self.say(_line_of(row))

        return show


def _line_of(row: Row) -> str:
    parts = (f"{row.state:8}", row.title, _amount(row), row.note)
    return "  ".join(part for part in parts if part)


class _Display:
    """The running rows, at the bottom of the terminal; ended ones are printed above it, once, and scroll away."""

    def __init__(self) -> None:
        self._rows: Sequence[Row] = ()
        self._ended: set[int] = set()
        self._since: dict[int, float] = {}

    def take(self, rows: Sequence[Row]) -> list[Row]:
        """The rows as they are now; returns those that have ended since."""
        self._rows = rows
        ended = []
        for number, row in enumerate(rows):
            if row.has_ended and number not in self._ended:
                self._ended.add(number)
                ended.append(row)
        return ended

    def __rich_console__(self, console: Rich, options: ConsoleOptions) -> RenderResult:
        now = time.monotonic()
        running = []
        for number, row in enumerate(self._rows):
            if row.state == "running":
                started = self._since.setdefault(number, now)
                running.append(replace(row, seconds=now - started))
        yield _table(running, options.max_width)
        if self._rows:
            yield f"[dim]{len(self._ended)} of {len(self._rows)}[/]"


def _table(rows: Sequence[Row], width: int) -> Table:
    """Rows with columns that line up even if each row is printed by itself."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, width=1)
    table.add_column(
        no_wrap=True, overflow="ellipsis", width=max(16, min(58, width - 43))
    )
    table.add_column(justify="right", no_wrap=True, width=10)
    table.add_column(overflow="fold")
    for row in rows:
        mark, style = _MARKS[row.state]
        title = clean(row.title)
        amount = clean(_amount(row))
        table.add_row(Text(mark, style), Text(title), Text(amount), _note(row))
    return table


def _note(row: Row) -> Text:
    """The reason of a failure in full; else what fits into the line."""
    text = clean(row.note)
    if row.state in ("failed", "error"):
        return Text(text)
    return Text(text, "dim", no_wrap=True, overflow="ellipsis")


def _amount(row: Row) -> str:
    parts = []
    if row.total:
        parts.append(_progress(row))
    if row.seconds is not None and row.state != "cached":
        parts.append(f"{row.seconds:.1f} s")
    return "  ".join(part for part in parts if part)


def _progress(row: Row) -> str:
    """How much of a row's total is done; of a download that has ended, its size."""
    if row.unit == "B":
        if row.state == "running":
            return f"{row.current / 1e6:.0f} / {row.total / 1e6:.0f} MB"
        return size_text(row.total)
    if row.state != "running":
        return ""
    return f"{row.current} / {row.total} {row.unit}".rstrip()


def size_text(number: float) -> str:
    """`4.42 GB`, `270 MB`, `9 kB` or `12 B`."""
    if number >= 1e9:
        return f"{number / 1e9:.2f} GB"
    if number >= 1e6:
        return f"{number / 1e6:.0f} MB"
    if number >= 1e3:
        return f"{number / 1e3:.0f} kB"
    return f"{number:.0f} B"


def table(pairs: Mapping[str, str]) -> str:
    """Labels and values in two columns."""
    width = 0
    for name in pairs:
        width = max(width, len(name))
    lines = []
    for name, value in pairs.items():
        label = clean(name).ljust(width)
        line = f"{label}  {clean(value)}"
        lines.append(line)
    return "\n".join(lines)
