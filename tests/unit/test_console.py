"""What reaches a terminal is printable, whoever wrote it, and nothing but the console prints."""

import ast
import io
import json
import os
import pty
import re
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from standin.engine import StandInEngine, says
from standin.suite_output import FACTS, IMAGE, INSIDE, LABELS, event, result, start

from envbuilder import grammar, serialize
from envbuilder.acceptance import receipts, report, suite
from envbuilder.console import Console, Row, answer, complain, printer, table
from envbuilder.doctor import Finding, Severity
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.errors import EngineError
from envbuilder.format.doctor_text import print_diagnosis
from envbuilder.format.receipt_text import receipt_text
from envbuilder.host.records import Host, MachineState
from envbuilder.model import Receipt, Verdict

PACKAGE = Path(__file__).parents[2] / "envbuilder"
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x9b2J\x8d\x7f\u202eevil\u2066\u2028FORGED accepted\r"
    "FORGED accepted\nFORGED accepted\u200b\ufeff[bold]x[/] \U000e0041"
)
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0041]"
)
RICHS_OWN = re.compile(
    r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*A|2K)"
)  # colours, and how a live display is redrawn


class Terminal:
    """A real pseudo-terminal, and all that is written to it."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._parts.append(os.read(self._ours, 65536))
            except OSError:  # the other end is closed
                return

    def text(self) -> str:
        """What it was given, without the carriage return that the terminal puts before each line break."""
        self.stream.close()
        self._reader.join(30)
        os.close(self._ours)
        return b"".join(self._parts).decode().replace("\r\n", "\n")


def check_clean(written: str) -> None:
    plain = RICHS_OWN.sub("", written).replace(
        "\r", ""
    )  # a live display goes back to the line's beginning
    assert not FORBIDDEN.search(plain)
    assert "\x1b" not in plain
    assert not re.search(
        r"^ {0,10}FORGED", plain, re.MULTILINE
    )  # a long text continues in its column


def hostile_stream() -> list[str]:
    """All that an image can put text into, and lines that are none."""
    first, second, *rest = INSIDE
    titles = [{"id": name, "title": HOSTILE} for name in INSIDE]
    lines = [
        HOSTILE,
        event("plan", suite=HOSTILE, checks=titles),
        event("facts", **{**FACTS, "os": HOSTILE}),
    ]
    lines += [start(first), event("progress", id=first, done=1, total=2, text=HOSTILE)]
    lines += [
        result(
            first,
            "failed",
            detail=HOSTILE,
            remedy=HOSTILE,
            value=HOSTILE,
            bound=HOSTILE,
            unit=HOSTILE,
        )
    ]
    lines += [result(second, "error", detail=HOSTILE, findings=[HOSTILE])]
    lines += [
        result(name, "not_run", detail=HOSTILE, value={HOSTILE: [HOSTILE]})
        for name in rest
    ]
    return [
        *lines,
        event("training", device=HOSTILE, accuracy=1.0, losses=[1.0]),
        event("end", verdict="failed"),
    ]


def hostile_receipt(show: object = None) -> Receipt:
    labels = {**LABELS, "dev.envbuilder.name": HOSTILE, HOSTILE: HOSTILE}
    image = replace(IMAGE, labels=labels)
    engine = StandInEngine(
        images={"x" + HOSTILE: image},
        scripts={"suite": says(hostile_stream(), 7, errors=[HOSTILE])},
    )
    trial = suite.SuiteOptions(gpu=GpuPlan(access=GpuAccess.NONE, reason=HOSTILE))
    return suite.accept(
        engine, "x" + HOSTILE, trial, on_change=show or (lambda rows: None)
    )  # type: ignore[arg-type]


def test_hostile_image_cannot_control_a_real_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    console = Console(terminal.stream)
    assert console.live
    console.say(HOSTILE)
    with console.rows() as show:
        receipt = hostile_receipt(show)
    console.note(HOSTILE)
    console.error(receipts.acceptance_error(receipt))
    console.error(EngineError(HOSTILE, hint=HOSTILE, problems=[HOSTILE], log=HOSTILE))
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    answer(receipt_text(receipt))
    answer(serialize.dumps(receipt), end="")
    answer(table({HOSTILE: HOSTILE}))
    complain(HOSTILE.replace("\n", ""))
    written = terminal.text()
    check_clean(written)
    assert "owned" in written  # it was printed, as harmless letters
    assert receipt.verdict is Verdict.FAILED
    assert receipt.stack == ""


def test_hostile_image_output_is_clean_in_a_pipe() -> None:
    stream = io.StringIO()
    with Console(stream).rows() as show:
        hostile_receipt(show)
    check_clean(stream.getvalue())
    assert stream.getvalue().count("\n") <= len(INSIDE) + len(suite.OUTSIDE)


def test_doctor_sanitizes_answers_of_machines() -> None:
    stream = io.StringIO()
    finding = Finding(
        id="engine",
        severity=Severity.ERROR,
        message=HOSTILE,
        why=HOSTILE,
        remedy=HOSTILE,
    )
    print_diagnosis(
        Host(machine=MachineState(os=HOSTILE, processor=HOSTILE)),
        [finding],
        HOSTILE,
        stream,
    )
    check_clean(stream.getvalue())


def test_direct_printing_is_clean_too() -> None:
    stream = io.StringIO()
    printer(stream).print(HOSTILE.replace("\n", ""), markup=False)
    check_clean(stream.getvalue())


def test_a_line_is_of_bounded_length() -> None:
    stream = io.StringIO()
    Console(stream).say("x" * 100_000)
    assert len(stream.getvalue()) <= grammar.LONGEST_TEXT + 1
    assert len(table({"a": "x" * 100_000})) <= grammar.LONGEST_TEXT + 10


@pytest.mark.parametrize("suffix", report.FORMS)
def test_no_report_contains_unprintable_characters(suffix: str) -> None:
    text = report.form_of(suffix)(hostile_receipt())
    assert not FORBIDDEN.search(text)
    assert "\x1b" not in text
    assert "owned" in text


def test_json_escapes_unprintable_characters() -> None:
    text = serialize.dumps({"a": HOSTILE})
    assert not FORBIDDEN.search(text)
    assert json.loads(text) == {"a": HOSTILE}


def test_the_display_of_a_row_is_clean() -> None:
    stream = io.StringIO()
    with Console(stream).rows() as show:
        show([Row(title=HOSTILE, state="failed", note=HOSTILE, unit=HOSTILE, total=1)])
    check_clean(stream.getvalue())
    assert stream.getvalue().count("\n") == 1


WRITERS = {
    "print",
    "click.echo",
    "click.secho",
    "sys.stdout.write",
    "sys.stderr.write",
    "rich.print",
}


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def printing_calls(path: Path) -> list[str]:
    """Calls that put text on a terminal without the console."""
    # Most modules have no such word at all: parsing those is most of the time.
    if not re.search(r"\b(print|echo|secho|write)\(", path.read_text(encoding="utf-8")):
        return []
    found = []
    for node in nodes_of(path):
        if not isinstance(node, ast.Call) or all(
            isinstance(word, ast.Constant) for word in node.args
        ):
            continue  # our own words contain no foreign text
        if ast.unparse(node.func) in WRITERS:
            found.append(f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")
    return found


def test_only_the_console_prints() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "console.py"]
    assert [call for path in paths for call in printing_calls(path)] == []


def test_only_the_console_imports_terminal_libraries() -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        if "from rich" not in path.read_text(encoding="utf-8"):
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and node.module in (
                "rich.console",
                "rich.live",
                "rich",
            ):
                names = {alias.name for alias in node.names}
                importers |= (
                    {str(path.relative_to(PACKAGE))}
                    if names & {"Console", "Live", "print"}
                    else set()
                )
    assert importers == {"console.py"}
