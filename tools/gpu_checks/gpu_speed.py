"""Measure a model of BERT-base's size on a GPU: samples a second and peak memory.

Nothing here decides but that each run ends; the figures are findings.
"""

from __future__ import annotations

from gpu_training import describe, report, report_error, run

MODEL = (
    "--device cuda --num-layers 12 --hidden-size 768 --num-heads 12 --max-length 128 --batch-size 64 "
    "--max-train-samples 1920 --max-eval-samples 64 --epochs 1 --learning-rate 5e-5"
).split()
WARM_UP = (
    "--device cuda --max-train-samples 64 --max-eval-samples 16 --epochs 1".split()
)
RUNS = {
    "fp32": "--precision fp32",
    "tf32": "--precision tf32",
    "bf16": "--precision bf16",
    "bf16-checkpointing": "--precision bf16 --gradient-checkpointing",
    "bf16-compile": "--precision bf16 --compile",
}


def measure(name: str, options: str) -> None:
    title = f"BERT-base's size, 128 tokens, batches of 64: {options}"
    try:
        figures = run([*MODEL, *options.split()])
    except Exception as error:
        report_error(name, title, error)
        return
    value = figures["steady_samples_per_second"]
    report(name, title, value, findings=describe(figures))


if __name__ == "__main__":
    run(WARM_UP)
    for run_name, run_options in RUNS.items():
        measure(run_name, run_options)
