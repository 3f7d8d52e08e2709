"""Interrupt, resume and distribute a run on a GPU.

As many processes as there are GPUs: with one GPU, torchrun has one process, whose NCCL has nobody to talk to.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_training import (
    ACCURACY,
    describe,
    difference,
    find_payload,
    report,
    report_error,
)

INTERRUPTED = 130
PATIENCE = 90  # seconds for one run
RESUME = "--device cuda --save-every 10 --epochs 12 --output".split()
NEAR = {"max": 1e-3}  # a GPU may add in another order each time


def train_command() -> list[str]:
    return [sys.executable, str(find_payload() / "train")]


def run_command(command: list[str], output: Path) -> dict[str, Any]:
    """Run it to its end; returns its metrics. Raises `RuntimeError` with the reason if it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {find_error(done.stdout)}")
    metrics = (output / "metrics.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(metrics)
    figures.setdefault("steady_samples_per_second", figures["samples_per_second"])
    return figures


def find_error(output: str) -> str:
    """The job's own words, which torchrun's report follows; without them the last lines."""
    for line in output.splitlines():
        if line.startswith("error: "):
            return line
    return output[-300:]


def interrupt(command: list[str], output: Path) -> int:
    """Start it, send SIGTERM after its first checkpoint, and return its exit code."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if list(output.glob("checkpoint-*")):
                process.send_signal(signal.SIGTERM)
                return process.wait(timeout=PATIENCE)
            time.sleep(0.02)
        return process.wait(timeout=1)
    finally:
        process.kill()
        process.wait()


def check_resume(folder: Path) -> None:
    title = "a run that SIGTERM ends is resumed with the losses of one that ran on"
    try:
        whole = run_command(
            [*train_command(), *RESUME, str(folder / "whole")], folder / "whole"
        )
        command = [*train_command(), *RESUME, str(folder / "cut")]
        code = interrupt(command, folder / "cut")
        saved = sorted(path.name for path in (folder / "cut").glob("checkpoint-*"))
        resumed = run_command([*command, "--resume"], folder / "cut")
    except Exception as error:
        report_error("resume", title, error)
        return
    value = difference(resumed["losses"], whole["losses"])
    findings = [f"SIGTERM: exit code {code}, {' '.join(saved)}", *describe(resumed)]
    status = {} if code == INTERRUPTED else {"status": "failed"}
    report("resume", title, value, bound=NEAR, findings=findings, **status)


def check_parallel(kind: str, processes: int, folder: Path) -> None:
    title = f"torchrun, {processes} process(es), --parallel {kind}"
    output = folder / kind
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    job = [*train_command()[1:], "--device", "cuda", "--parallel", kind]
    command = [
        *launcher,
        f"--nproc_per_node={processes}",
        *job,
        "--output",
        str(output),
    ]
    try:
        figures = run_command(command, output)
    except Exception as error:
        report_error(kind, title, error)
        return
    findings = describe(figures)
    report(kind, title, figures["accuracy"], bound=ACCURACY, findings=findings)


def main() -> None:
    import torch

    processes = max(1, torch.cuda.device_count())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_resume(folder)
        check_parallel("ddp", processes, folder)
        check_parallel("fsdp", processes, folder)
        if processes > 1:
            check_parallel("pipeline", processes, folder)


if __name__ == "__main__":
    main()
