"""The nouns of a diagnosis: what a rule is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.remedies import NONE, Remedy
from envbuilder.host.records import Host
from envbuilder.model import Request


class Severity(StrEnum):
    """How bad a finding is, worst first; an error makes a build or a run fail."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"
    NOTE = "note"
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A host, and what is to run on it; `request` is None if no stack was requested."""

    host: Host
    catalog: Catalog
    request: Request | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result: what was found, why it matters, the command that fixes it, and the source of that command."""

    id: str
    severity: Severity
    message: str
    why: str = ""
    remedy: str = ""
    source: str = ""  # of the remedy


Rule = Callable[[Case], Finding | None]
"""None: the question does not arise, or another rule has answered it."""


def error(name: str, message: str, why: str, remedy: Remedy) -> Finding:
    return _finding(name, Severity.ERROR, message, why, remedy)


def warning(name: str, message: str, why: str, remedy: Remedy = NONE) -> Finding:
    return _finding(name, Severity.WARNING, message, why, remedy)


def note(name: str, message: str, why: str = "", remedy: Remedy = NONE) -> Finding:
    return _finding(name, Severity.NOTE, message, why, remedy)


def unknown(name: str, message: str, why: str = "") -> Finding:
    return _finding(name, Severity.UNKNOWN, message, why, NONE)


def fine(name: str, message: str) -> Finding:
    return _finding(name, Severity.OK, message, "", NONE)


def _finding(
    name: str, severity: Severity, message: str, why: str, remedy: Remedy
) -> Finding:
    return Finding(
        id=name,
        severity=severity,
        message=message,
        why=why,
        remedy=remedy.command,
        source=remedy.source,
    )


def own_command(arguments: str) -> Remedy:
    """A command of envbuilder itself."""
    return Remedy(command=f"envbuilder {arguments}", source="envbuilder")
