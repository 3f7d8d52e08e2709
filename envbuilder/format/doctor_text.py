"""A diagnosis as a person reads it: what to fix in front, each with its reason and its command."""

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


def show(host: Host, findings: Sequence[Finding], of: str, stream: TextIO | None = None) -> None:
    """Print it to stdout; `of` says which machine it is."""
    console = printer(stream or sys.stdout)
    described = ", ".join(
        part for part in (host.machine.os, host.machine.processor, "WSL2" if host.machine.wsl else None) if part
    )
    console.print(f"[bold]{escape(clean(of))}[/]{': ' + escape(clean(described)) if described else ''}\n")
    quiet = [finding for finding in findings if finding.severity is Severity.UNKNOWN and not finding.why]
    folded = quiet if len(quiet) > _FOLDED else []
    last = None
    for finding in (finding for finding in findings if finding not in folded[1:]):
        if last is not None and (_is_loud(last) or finding.severity is not last.severity):
            console.print()
        _show(_fold(folded) if finding in folded else finding, console)
        last = finding
    console.print(f"\n{_sum_up(findings)}")


def _fold(findings: Sequence[Finding]) -> Finding:
    """Many things that are unknown, in one line."""
    names = ", ".join(dict.fromkeys(finding.id for finding in findings))
    return Finding(id="unknown", severity=Severity.UNKNOWN, message=f"nothing is known about {names}")


def _show(finding: Finding, console: Printer) -> None:
    mark, style = _STYLES[finding.severity]
    width = max(_NARROWEST, min(console.width, _WIDEST) - _NAME - 2)
    lines = textwrap.wrap(clean(finding.message), width, break_long_words=False, break_on_hyphens=False)
    first, *rest = lines or [""]
    told = f"[bold]{escape(first)}[/]" if _is_loud(finding) else escape(first)
    console.print(f"[{style}]{mark}[/] [{style}]{finding.id:<{_NAME}}[/]{told}")
    indent = " " * (_NAME + 2)
    for line in rest:
        console.print(
            f"{indent}{'[bold]' if _is_loud(finding) else ''}{escape(line)}{'[/]' if _is_loud(finding) else ''}"
        )
    for line in textwrap.wrap(clean(finding.why), width, break_long_words=False, break_on_hyphens=False):
        console.print(f"{indent}[dim]{escape(line)}[/]")
    if finding.remedy:  # never wrapped by us: it is to be pasted
        console.print(f"{indent}[cyan]$ {escape(clean(finding.remedy))}[/]")


def _is_loud(finding: Finding) -> bool:
    return finding.severity in (Severity.ERROR, Severity.WARNING)


def _sum_up(findings: Sequence[Finding]) -> str:
    count = Counter(finding.severity for finding in findings)
    words = {
        Severity.ERROR: "error" if count[Severity.ERROR] == 1 else "errors",
        Severity.WARNING: "warning" if count[Severity.WARNING] == 1 else "warnings",
        Severity.UNKNOWN: "unknown",
        Severity.OK: "fine",
    }
    said = ", ".join(f"{count[severity]} {word}" for severity, word in words.items() if count[severity])
    if count[Severity.ERROR]:
        return f"[bold red]{said}[/]; fix {escape(findings[0].id)} first, then run `envbuilder doctor` again"
    return said if count[Severity.WARNING] else f"{said}; nothing to fix"
