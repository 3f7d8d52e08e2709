"""A diagnosis as text for a person: the most severe findings first, each with its reason and its command."""

import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.markup import escape

from envbuilder.console import Printer, clean, printer
from envbuilder.doctor import Finding, Severity
from envbuilder.host.records import Host

_STYLES = {
    Severity.ERROR: ("✗", "bold red"),
    Severity.WARNING: ("!", "bold yellow"),
    Severity.UNKNOWN: ("?", "cyan"),
    Severity.NOTE: ("·", "dim"),
    Severity.OK: ("✓", "green"),
}
_NARROWEST = 20  # columns for the text on a terminal that is narrower
_WIDEST, _NAME = 110, 12  # columns: of a line, and of a finding's name
_FOLDED = 3  # more unknown things than these become one line


def print_diagnosis(
    host: Host, findings: Sequence[Finding], machine: str, stream: TextIO | None = None
) -> None:
    """Print the findings to stdout; `machine` says where they were made."""
    console = printer(stream or sys.stdout)
    console.print(f"{_heading(host, machine)}\n")
    last = None
    for finding in _folded(findings):
        if last is not None and (
            _is_loud(last) or finding.severity is not last.severity
        ):
            console.print()
        _print_finding(finding, console)
        last = finding
    console.print(f"\n{_summary(findings)}")


def _heading(host: Host, machine: str) -> str:
    heading = _styled(clean(machine), "bold")
    parts = [host.machine.os, host.machine.processor]
    if host.machine.wsl:
        parts.append("WSL2")
    described = ", ".join(part for part in parts if part)
    if not described:
        return heading
    return f"{heading}: {escape(clean(described))}"


def _folded(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, but with many unknown ones in one line, in the place of the first."""
    quiet = [
        finding
        for finding in findings
        if finding.severity is Severity.UNKNOWN and not finding.why
    ]
    if len(quiet) <= _FOLDED:
        return list(findings)
    names = ", ".join(dict.fromkeys(finding.id for finding in quiet))
    fold = Finding(
        id="unknown",
        severity=Severity.UNKNOWN,
        message=f"nothing is known about {names}",
    )
    shown = []
    for finding in findings:
        if finding is quiet[0]:
            shown.append(fold)
        elif finding not in quiet:
            shown.append(finding)
    return shown


def _print_finding(finding: Finding, console: Printer) -> None:
    mark, style = _STYLES[finding.severity]
    columns = min(console.width, _WIDEST)
    width = max(_NARROWEST, columns - _NAME - 2)
    indent = " " * (_NAME + 2)
    name = finding.id.ljust(_NAME)
    prefix = f"[{style}]{mark}[/] [{style}]{name}[/]"
    emphasis = "bold" if _is_loud(finding) else ""
    lines = _wrapped(finding.message, width) or [""]
    for line in lines:
        text = _styled(line, emphasis)
        console.print(f"{prefix}{text}")
        prefix = indent
    for line in _wrapped(finding.why, width):
        text = _styled(line, "dim")
        console.print(f"{indent}{text}")
    # A command is never wrapped: it is meant to be pasted.
    if finding.remedy:
        command = clean(finding.remedy)
        text = _styled(f"$ {command}", "cyan")
        console.print(f"{indent}{text}")
    elif finding.source:
        text = _styled(f"see {clean(finding.source)}", "cyan")
        console.print(f"{indent}{text}")


def _styled(text: str, style: str) -> str:
    """Text as rich's markup; brackets in it stay brackets."""
    escaped = escape(text)
    return f"[{style}]{escaped}[/]" if style else escaped


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        clean(text), width, break_long_words=False, break_on_hyphens=False
    )


def _is_loud(finding: Finding) -> bool:
    return finding.severity in (Severity.ERROR, Severity.WARNING)


def _summary(findings: Sequence[Finding]) -> str:
    count = Counter(finding.severity for finding in findings)
    errors, warnings = count[Severity.ERROR], count[Severity.WARNING]
    words = {
        Severity.ERROR: "error" if errors == 1 else "errors",
        Severity.WARNING: "warning" if warnings == 1 else "warnings",
        Severity.UNKNOWN: "unknown",
        Severity.OK: "fine",
    }
    parts = []
    for severity, word in words.items():
        if count[severity]:
            parts.append(f"{count[severity]} {word}")
    counts = ", ".join(parts)
    if errors:
        first = escape(findings[0].id)
        return f"[bold red]{counts}[/]; fix {first} first, then run `envbuilder doctor` again"
    return counts if warnings else f"{counts}; nothing to fix"
