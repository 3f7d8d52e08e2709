"""Custom checks: any Python program that prints the same JSON lines.

A line is an event: {"event": "progress", "done", "total", "text"} or {"event": "result", "value", "bound" ({"min",
"max"}), "unit", "status", "detail", "remedy"}. A status that is left out follows from value and bound. A result with an
"id" of its own is shown on its own, so that one program can answer several questions. An exit code that is not 0 fails.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Sequence

from acceptance.checks.inspection import (
    Answer,
    Check,
    Failure,
    OutOfBounds,
    Skipped,
    is_within,
)
from acceptance.events import parse_event
from acceptance.processes import killed_at_end
from acceptance.text import first_line, last_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

STATUSES = ("failed", "error", "passed", "not_run")  # the worst first, of several
MAX_COUNT = 1e15


@dataclass
class Result:
    """One result of the program. `id` and `title` are empty if it has just one."""

    id: str
    title: str
    status: str
    answer: Answer

    def rank(self) -> int:
        """0 is the worst."""
        return STATUSES.index(self.status)


@dataclass
class Output:
    """What the program printed."""

    results: Sequence[Result]
    last_line: str  # of stderr, or else of what is no event on stdout
    exit_code: int


def from_file(path: Path) -> Check:
    """A program as a check; its title is the first line of its docstring."""
    check_id = f"own.{path.stem}"
    title = read_title(path) or path.stem
    return Check(check_id, title, partial(run_program, path=path))


def read_title(path: Path) -> str:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""  # running it will tell
    docstring = ast.get_docstring(tree) or ""
    return first_line(docstring).rstrip(".")


def run_program(inspection: Inspection, path: Path) -> Answer:
    """Run a custom check and judge its results."""
    output = read_output(inspection, path)
    if output.exit_code != 0:
        raise Failure(
            output.last_line,
            value=f"exit code {output.exit_code}",
            bound="exit code 0",
            remedy=f"fix {path}",
        )
    if not output.results:
        raise Failure(
            f"it printed no result; its last line: {output.last_line}",
            remedy='print {"event": "result", "value": …, "bound": {"min": …}}',
        )
    check = from_file(path)
    for result in output.results:
        if result.id:
            single = replace(check, id=f"{check.id}.{result.id}", title=result.title)
            inspection.on_result(**single.result(result.status, result.answer))
    return combine(output.results)


# --- reading what it prints ----------------------------------------------------------------------------------------


def read_output(inspection: Inspection, path: Path) -> Output:
    results = []
    other = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        )
        with killed_at_end(process):
            assert process.stdout is not None
            for line in process.stdout:
                event = parse_event(line)
                kind = event.get("event")
                if kind == "progress":
                    report_progress(inspection, event)
                elif kind == "result":
                    results.append(read_result(event))
                elif line.strip():
                    other = line
            exit_code = process.wait()
        error = copy_to_stderr(stderr)
    return Output(
        results=results,
        last_line=last_line(error) or last_line(other) or "it printed nothing",
        exit_code=exit_code,
    )


def copy_to_stderr(stream: IO[str]) -> str:
    """Print what a program wrote to its stderr, and return it."""
    stream.seek(0)
    text = stream.read()
    sys.stderr.write(text)
    return text


def report_progress(inspection: Inspection, event: dict[str, Any]) -> None:
    done = read_count(event.get("done"))
    total = read_count(event.get("total"))
    inspection.on_progress(done, total, str(event.get("text", "")))


def read_count(value: Any) -> int:
    """How much is done, or there is to do; 0 for what is no number."""
    if isinstance(value, (int, float)) and abs(value) < MAX_COUNT:
        return max(0, int(value))
    return 0


def read_result(event: dict[str, Any]) -> Result:
    """A result with all its fields; its status and its numbers must agree."""
    name = str(event.get("id") or "")
    answer = Answer(
        value=event.get("value"),
        bound=event.get("bound"),
        detail=str(event.get("detail") or ""),
        remedy=str(event.get("remedy") or ""),
        unit=str(event.get("unit") or ""),
        findings=read_findings(event.get("findings")),
    )
    status = event.get("status") or "passed"
    if status not in STATUSES:
        answer.detail = f"{status!r} is not a status"
        status = "failed"
    if status == "passed" and not is_right(answer):
        status = "failed"
    return Result(
        id=re.sub(r"[^A-Za-z0-9_.-]+", "-", name),
        title=str(event.get("title") or name),
        status=status,
        answer=answer,
    )


def read_findings(findings: Any) -> list[str]:
    if findings is None:
        return []
    if not isinstance(findings, list):
        return [str(findings)]
    return [str(finding) for finding in findings]


def is_right(answer: Answer) -> bool:
    if answer.bound is None:
        return True
    if not isinstance(answer.bound, dict):
        return bool(answer.value == answer.bound)
    try:
        return is_within(answer.value, answer.bound)
    except TypeError:
        return False


# --- judging it ----------------------------------------------------------------------------------------------------


def combine(results: Sequence[Result]) -> Answer:
    """What one program's results come to: its only one, or the worst of several."""
    worst = min(results, key=Result.rank)
    answer = worst.answer
    if worst.status == "not_run":
        raise Skipped(answer.detail or "it was not run", answer.value)
    if len(results) > 1:
        answer = replace(answer, value=len(results), bound=None, findings=())
    if worst.status == "passed":
        return answer
    if not answer.detail:
        answer.detail = f"{worst.title or 'it'} is not right"
    raise OutOfBounds(answer)
