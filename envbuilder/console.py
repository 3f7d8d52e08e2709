"""Everything said to a person: on stderr, with colour and live displays on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console as Rich
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from envbuilder.errors import EngineError, EnvbuilderError

_REFRESH = 8  # times a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a live display."""

    title: str
    state: str  # "waiting", "running", "done", "cached", "failed", "not run"
    seconds: float | None = None
    current: int = 0
    total: int = 0
    unit: str = ""  # "B" for bytes, else a word
    note: str = ""


_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "done": ("✓", "green"),
    "cached": ("✓", "dim green"),
    "failed": ("✗", "bold red"),
    "not run": ("–", "dim"),
}


class Console:
    """stderr, as the user has it. `NO_COLOR`, `TERM=dumb` and a pipe are rich's business."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._rich = Rich(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self.quiet = quiet

    @property
    def live(self) -> bool:
        return self._rich.is_terminal and not self.quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            self._rich.print(escape(text))

    def note(self, text: str) -> None:
        self._rich.print(f"[yellow]note:[/] {escape(text)}")

    def error(self, error: EnvbuilderError) -> None:
        """What is wrong, what speaks for it, and on its own line what to do."""
        self._rich.print(f"[bold red]error:[/] {escape(error.message)}")
        for problem in error.problems:
            self._rich.print(escape(f"  {problem}"))
        if isinstance(error, EngineError) and error.log:
            self._rich.print(escape(f"  full log: {error.log}"))
        if error.hint:
            self._rich.print(f"[bold]hint:[/] {escape(error.hint)}")

    @contextmanager
    def rows(self) -> Iterator[Callable[[Sequence[Row]], None]]:
        """A display of rows: redrawn on a terminal, one line for each row that ends in a pipe."""
        if not self.live:
            yield self._plain()
            return
        with Live(console=self._rich, refresh_per_second=_REFRESH, transient=False) as live:
            yield lambda rows: live.update(_table(rows))

    def _plain(self) -> Callable[[Sequence[Row]], None]:
        told: set[int] = set()

        def show(rows: Sequence[Row]) -> None:
            for number, row in enumerate(rows):
                if number not in told and row.state not in ("waiting", "running"):
                    told.add(number)
                    self.say("  ".join(part for part in (f"{row.state:8}", row.title, _amount(row), row.note) if part))

        return show


def _table(rows: Sequence[Row]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=64)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        mark, style = _MARKS[row.state]
        table.add_row(f"[{style}]{mark}[/]", escape(row.title), _amount(row), f"[dim]{escape(row.note)}[/]")
    return table


def _amount(row: Row) -> str:
    parts = []
    if row.total and row.unit == "B":
        parts.append(
            f"{row.current / 1e6:.0f} / {row.total / 1e6:.0f} MB" if row.state == "running" else _size(row.total)
        )
    elif row.total and row.state == "running":
        parts.append(f"{row.current} / {row.total}{' ' + row.unit if row.unit else ''}")
    if row.seconds is not None and row.state != "cached":
        parts.append(f"{row.seconds:.1f} s")
    return "  ".join(parts)


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def table(pairs: Mapping[str, str]) -> str:
    """Two columns, for what is printed as an answer."""
    width = max(map(len, pairs), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in pairs.items())
