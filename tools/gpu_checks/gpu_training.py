"""Train on a GPU as on a CPU.

One of the checks of tools/gpu_check.py: each runs in the environment that is to be judged, next to the acceptance
suite. The others import this one for what they share.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Sequence

HERE = Path(__file__).resolve().parent
# The training job: sent with the suite, in an image of ours, or in a checkout.
PLACES = (
    HERE.parent,
    Path("/opt/envbuilder/payload"),
    HERE.parents[1] / "docker" / "payload",
)

ACCURACY = {"min": 0.95}  # the suite's bound
SAME_LOSS = {"max": 1e-4}  # the suite's, for a run and its reference
# In the job's own words; whether a stack promises torch.compile is judged by the suite.
NOT_SUPPORTED = (
    "needs torch ≥",
    "cannot compile here",
    "does not support bf16",
    "cannot put layers on several devices",
    "has pipelines only within one process",
)
# Few steps without chance: GPU and CPU draw other numbers for dropout.
SHORT = "--dropout 0 --max-train-samples 256 --max-eval-samples 16 --epochs 1".split()
RUNS = {
    "fp32": "--precision fp32",
    "tf32": "--precision tf32",
    "bf16": "--precision bf16",
    "fp16": "--precision fp16",
    "accumulation": "--gradient-accumulation-steps 2 --batch-size 16",
    "checkpointing": "--gradient-checkpointing",
    "unpadded": "--no-pad-to-max-length",
    "pretrained": "--pretrain 1",
    "quantized": "--quantize",
}


def find_payload() -> Path:
    for place in PLACES:
        if (place / "train").is_dir():
            return place
    raise SystemExit(f"no training job in {', '.join(str(place) for place in PLACES)}")


def report(name: str, title: str, value: Any, **fields: Any) -> None:
    """Print one result, as docs/explanation/acceptance.md describes it."""
    event = {"event": "result", "id": name, "title": title, "value": value, **fields}
    print(json.dumps(event), flush=True)


def report_error(name: str, title: str, error: object) -> None:
    """A run that broke has failed, unless the job says that this torch or this GPU does not have what it needs."""
    text = str(error)
    does_not_apply = any(sign in text for sign in NOT_SUPPORTED)
    status = "not_run" if does_not_apply else "failed"
    report(name, title, None, status=status, detail=text[-400:])


def run(options: Sequence[str]) -> dict[str, Any]:
    """Fine-tune in this process; returns the job's own figures, and how fast its later steps were."""
    import torch

    sys.path.insert(0, str(find_payload()))
    from train import job

    times = []
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    settings = job.parse_settings(list(options))
    result = job.fine_tune(settings, on_step=lambda *_: times.append(time.monotonic()))
    assert result is not None  # only a process of several has none
    figures: dict[str, Any] = result.measured
    figures["steady_samples_per_second"] = steady_speed(times, settings.batch_size)
    return figures


def steady_speed(times: Sequence[float], batch_size: int) -> float:
    """Samples a second in the median step of the second half: without the first steps, and without evaluations."""
    later = times[len(times) // 2 :]
    steps = sorted(after - before for before, after in zip(later, later[1:]))
    if not steps or not steps[len(steps) // 2]:
        return 0.0
    return round(batch_size / steps[len(steps) // 2], 1)


def describe(figures: dict[str, Any]) -> list[str]:
    """The figures of a run that no bound decides."""
    peak = figures["peak_memory_bytes"] / 1e6
    return [
        f"loss {figures['loss']:.4f}, accuracy on negated texts {figures['negated']:.3f}",
        f"{figures['steps']} steps in {figures['seconds']} s, {figures['steady_samples_per_second']} samples/s",
        f"peak memory {peak:.1f} MB on {figures['device']}",
    ]


def difference(losses: Sequence[float], others: Sequence[float]) -> float:
    if len(losses) != len(others):
        return float("inf")
    return round(max(abs(a - b) for a, b in zip(losses, others)), 7)


def check_machine() -> None:
    import torch
    import transformers

    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    memory = torch.cuda.get_device_properties(0).total_memory
    versions = [
        f"compute capability {major}.{minor}, {memory / 1e9:.1f} GB",
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
        f"NCCL {'.'.join(str(part) for part in torch.cuda.nccl.version())}, transformers {transformers.__version__}",
        f"Python {sys.version.split()[0]}, {torch.get_num_threads()} threads",
        driver(),
    ]
    report("machine", "the GPU is named", name, findings=versions)


def driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return "the driver does not say its version"
    return text.splitlines()[0]


def check_runs(device: str) -> None:
    for name, options in RUNS.items():
        title = f"train {options} learns on the GPU"
        try:
            figures = run(["--device", device, *options.split()])
        except Exception as error:
            report_error(name, title, error)
            continue
        findings = describe(figures)
        if "quantized" in figures:
            findings.append(f"quantized: {figures['quantized']}")
        report(name, title, figures["accuracy"], bound=ACCURACY, findings=findings)


def check_curve(device: str) -> None:
    """The losses of each step, on the GPU and on the CPU."""
    title = "losses on the GPU match those on the CPU"
    try:
        ours = run([*SHORT, "--device", device])
        again = run([*SHORT, "--device", device])
        expected = run([*SHORT, "--device", "cpu"])
    except Exception as error:
        report_error("curve", title, error)
        return
    findings = [
        f"losses on the GPU: {ours['losses']}",
        f"losses on the CPU: {expected['losses']}",
        f"on the GPU a second time: they differ by {difference(ours['losses'], again['losses'])}",
        f"the CPU has {expected['steady_samples_per_second']} samples/s",
    ]
    value = difference(ours["losses"], expected["losses"])
    report("curve", title, value, bound=SAME_LOSS, findings=findings)


if __name__ == "__main__":
    check_machine()
    check_curve("cuda")
    check_runs("cuda")
