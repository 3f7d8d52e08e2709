"""`envbuilder doctor`: what this machine has, and what to mend before building."""

import os
import shutil
from pathlib import Path
from typing import Any

import click

from envbuilder.cli.options import json_option, network_from, network_options, print_json
from envbuilder.doctor import Finding, Host, Severity

_MARKS = {"ok": "✓", "note": "·", "warning": "!", "error": "✗", "unknown": "?"}
DOCTOR_FOUND_AN_ERROR = 8


@click.command(name="doctor")
@network_options
@json_option
def command(as_json: bool, **options: Any) -> int:
    """What this machine has, and what to mend before building."""
    from envbuilder import wire
    from envbuilder.doctor import diagnose

    findings = diagnose(ask(options))
    worst = any(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        print_json({"ok": not worst, "findings": [wire.plain(finding) for finding in findings]})
    else:
        click.echo("\n".join(line for finding in findings for line in _lines(finding)))
    return DOCTOR_FOUND_AN_ERROR if worst else 0


def _lines(finding: Finding) -> list[str]:
    lines = [f"{_MARKS[finding.severity]} {finding.id}: {finding.message}"]
    return [*lines, f"  remedy: {finding.remedy}"] if finding.remedy else lines


def ask(options: dict[str, Any]) -> Host:
    """Ask this machine; what does not answer stays None."""
    from envbuilder import process
    from envbuilder.cli.options import new_engine
    from envbuilder.errors import EngineError

    network = network_from(options)
    known: dict[str, Any] = {
        "ca": str(network.ca) if network.ca else None,
        "mmdebstrap": shutil.which("mmdebstrap") is not None,
        "driver": _driver(),
    }
    try:
        done = process.run(["docker", "buildx", "version"], env=os.environ, timeout=20)
        known["buildx"] = done.stdout.split()[1] if done.returncode == 0 else None
        with new_engine() as engine:
            known |= {"engine": engine.host()["engine"], "offers": engine.offers()}
            root = engine.root_folder()
        known["free_bytes"] = shutil.disk_usage(root).free if root else None
    except EngineError as error:
        known["engine_problem"] = error.message
    return Host(**known)


def _driver() -> str | None:
    """The NVIDIA kernel module's version, as /proc gives it."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return None
