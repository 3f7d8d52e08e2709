"""Run everything that needs an NVIDIA GPU, and write one receipt.

    tools/gpu_check.py IMAGE            in a container: `envbuilder accept IMAGE --require-gpu` with the checks of
                                        tools/gpu_checks
    tools/gpu_check.py here [PYTHON]    without a container, with the torch of a Python of this machine [python3]

`make gpu-check` calls it. Without a container nothing is said about an image: only the checks of the computation run,
and the receipt's verdict is `incomplete`. Exit code 0 if every check passed or does not apply, 7 otherwise.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envbuilder import serialize
from envbuilder.acceptance import suite
from envbuilder.acceptance.check_text import result_row
from envbuilder.acceptance.event_stream import SuiteEvents, ending_text
from envbuilder.acceptance.verdict import COMPLETE, check_answered, verdict
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.model import SCHEMA, Check, Receipt, Status

ROOT = Path(__file__).parent.parent
PAYLOAD = ROOT / "docker" / "payload"
# The first is imported by the others.
NAMES = ("gpu_training", "gpu_processes", "gpu_compile", "gpu_speed")
CHECKS = tuple(ROOT / "tools" / "gpu_checks" / f"{name}.py" for name in NAMES)
HERE = "here"
FAILED, INTERRUPTED = 7, 130
# Those of the suite that judge what is computed; the others judge an image.
FAMILIES = ("numerics.", "features.", "training.", "lm.", "gpu.")
VERSIONS = (
    "identity.torch",
    "identity.cuda",
    "identity.cudnn",
    "identity.nccl",
    "identity.arch_list",
)
LEFT_OUT = "features.nvcc"  # minutes, and it is the promise of a devel image


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("environment", help="an image, or `here`")
    parser.add_argument("python", nargs="?", default="python3", help="for `here`")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "receipts", help="folder [receipts/]"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.environment != HERE:
        return accept_image(options.environment, options.output)
    receipt = check_here(options.python, options.output / "gpu-check-here.jsonl")
    file = options.output / "gpu-check-here.json"
    file.write_text(serialize.dumps(receipt), encoding="utf-8", newline="\n")
    print(f"receipt: {file}")
    return FAILED if any(map(is_problem, receipt.checks)) else 0


def is_problem(check: Check) -> bool:
    """`suite.complete` is an error without a container: only some checks ran."""
    return check.id != COMPLETE and check.status in (Status.FAILED, Status.ERROR)


def accept_image(image: str, output: Path) -> int:
    """In a container, as for any image; the receipt is `accept`'s own."""
    command = [sys.executable, "-m", "envbuilder", "accept", image, "--require-gpu"]
    for file in CHECKS:
        command += ["--check", str(file)]
    command += ["--report", str(output / "gpu-check.json")]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def selected_checks() -> tuple[str, ...]:
    names = [
        name
        for name in suite.bounds()["bounds"]
        if name.startswith(FAMILIES) or name in VERSIONS
    ]
    names.remove(LEFT_OUT)
    return (*names, *map(suite.own_id, CHECKS))


def check_here(python: str, log: Path) -> Receipt:
    """The suite's checks of what is computed, with a Python of this machine. `log` gets every event at once."""
    only = selected_checks()
    plan = GpuPlan(access=GpuAccess.NONE, reason="not in a container")
    options = suite.SuiteOptions(gpu=plan, require_gpu=True, only=only, own=CHECKS)
    started, clock = datetime.now(UTC), time.monotonic()
    events = SuiteEvents()
    ending = run_suite(python, only, events, log)
    checks = events.checks(ending)
    checks.append(
        check_answered(
            suite.required_checks(options),
            checks,
            events.protocol(),
            ending,
            only=only,
        )
    )
    return Receipt(
        schema=SCHEMA,
        image="",
        suite={
            "version": suite.bounds()["suite"],
            "hash": suite.suite_hash(options),
        },
        host=describe_host(),
        verdict=verdict(checks),
        checks=tuple(checks),
        facts=events.facts,
        training=events.training,
        lm=events.lm,
        reference=f"no image: {python} of this machine",
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
    )


def run_suite(python: str, only: Sequence[str], events: SuiteEvents, log: Path) -> str:
    """Run the suite and print each answer; returns how it ended, if not as it should."""
    program = shutil.which(python)
    if not program:
        raise SystemExit(f"error: there is no {python}")
    command = [program, str(PAYLOAD / "acceptance"), "--json-lines", "--require-gpu"]
    command += ["--only", ",".join(only)]
    for file in CHECKS:
        command += ["--check", str(file)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        log.open("w", encoding="utf-8", newline="\n") as log_file,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log_file.write(line)
            log_file.flush()
            answered = set(events.results)
            events.feed(line)
            for name in events.results.keys() - answered:
                print_answer(events.results[name])
        code = process.wait()
    return ending_text(code, out_of_memory=False, errors=())


def print_answer(check: Check) -> None:
    row = result_row(check)
    print(f"{check.status.value:8} {check.id:32} {row.note}", flush=True)
    for finding in check.findings:
        print(f"{'':42}{finding[:160]}", flush=True)


def describe_host() -> dict[str, Any]:
    return {
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "cpus": os.cpu_count(),
        "engine": "",
        "gpu": nvidia_smi(),
    }


def nvidia_smi() -> str:
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi does not answer"
    return "; ".join(done.stdout.split("\n")).strip("; ")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
