"""The command `accept`: is what is in this image what the lock says, and does it train?

    accept [--json-lines] [--require-gpu] [--lock FILE] [--only ID,…] [--check FILE]…

Runs inside the image and imports nothing of envbuilder. Two processes: a worker runs the checks one after the other
(runner.py), this one watches it (supervisor.py). Exit code: 0 passed, 7 not passed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from acceptance.checks import CHECKS, Inspection, custom_check
from acceptance.events import JsonLines, Terminal
from acceptance.limits import read_limits
from acceptance.runner import run_checks
from acceptance.supervisor import Run, supervise

if TYPE_CHECKING:
    from acceptance.checks import Check
    from acceptance.events import Emit
    from acceptance.limits import Limits

PASSED, NOT_PASSED, INTERRUPTED = 0, 7, 130
LOCK = "/opt/envbuilder/envbuilder.lock"


def main(checks: Sequence[Check] = CHECKS, limits: Limits | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args()
    check_files_exist(parser, options)
    selected = select_checks(parser, options, checks)
    limits = limits or read_limits()
    emit: Emit = JsonLines() if options.json_lines or options.worker else Terminal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.worker:
            inspection = Inspection(limits, require_gpu=options.require_gpu)
            inspection.read_lock(Path(options.lock))
            run_checks(selected, inspection, emit)
            return PASSED
        return accept(selected, worker_command(options), limits, emit)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accept",
        description="Check that this image contains what its lock says, and that it trains.",
    )
    parser.add_argument(
        "--json-lines",
        action="store_true",
        help="print one JSON event per line, for envbuilder",
    )
    parser.add_argument(
        "--require-gpu", action="store_true", help="fail if no GPU is visible"
    )
    parser.add_argument(
        "--lock",
        metavar="FILE",
        default=LOCK,
        help="the lock to compare with [%(default)s]",
    )
    parser.add_argument(
        "--only",
        metavar="ID[,ID]",
        help="run only these checks; never enough to accept an image",
    )
    parser.add_argument(
        "--check",
        "--own",  # what envbuilder has always passed
        dest="custom_checks",
        metavar="FILE",
        action="append",
        default=[],
        help="add a custom check, a Python program",
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def check_files_exist(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> None:
    files = list(options.custom_checks)
    if options.lock != LOCK:
        files.append(options.lock)
    for file in files:
        if not Path(file).exists():
            parser.error(f"{file}: no such file")


def select_checks(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    checks: Sequence[Check],
) -> list[Check]:
    custom = [custom_check.from_file(Path(file)) for file in options.custom_checks]
    available = [*checks, *custom]
    if not options.only:
        return available
    requested = options.only.split(",")
    unknown = set(requested) - {check.id for check in available}
    if unknown:
        parser.error(f"--only: no such check: {', '.join(sorted(unknown))}")
    return [check for check in available if check.id in requested]


def worker_command(options: argparse.Namespace) -> list[str]:
    """This command once more, without `--only` and the form of its output."""
    program = os.path.abspath(sys.argv[0])
    command = [sys.executable, program, "--lock", options.lock]
    if options.require_gpu:
        command.append("--require-gpu")
    for file in options.custom_checks:
        command += ["--check", file]
    return command


def accept(
    checks: Sequence[Check], command: Sequence[str], limits: Limits, emit: Emit
) -> int:
    """The whole suite, from its plan to its verdict; returns the exit code."""
    run = Run(emit)
    run.announce(checks, limits)
    supervise(checks, command, limits, run)
    emit("facts", **run.facts)
    if run.training:
        emit("training", **run.training)
    if run.lm:
        emit("lm", **run.lm)
    verdict = derive_verdict(run.statuses())
    emit("end", verdict=verdict)
    return PASSED if verdict == "passed" else NOT_PASSED


def derive_verdict(statuses: set[str]) -> str:
    """As the host derives it: evidence against the image, no evidence from some check, or neither."""
    if "failed" in statuses:
        return "failed"
    if "error" in statuses or "passed" not in statuses:
        return "incomplete"
    return "passed"
