"""Train through torch.compile on a GPU, with the losses of the uncompiled model."""

from __future__ import annotations

from gpu_training import (
    ACCURACY,
    SHORT,
    describe,
    difference,
    report,
    report_error,
    run,
)

NEAR = {"max": 1e-3}  # kernels add in another order
GPU = ("--device", "cuda")


def check_losses() -> None:
    title = "compiled and uncompiled losses match in fp32"
    try:
        plain = run([*GPU, *SHORT])
        compiled = run([*GPU, *SHORT, "--compile"])
    except Exception as error:
        report_error("losses", title, error)
        return
    value = difference(compiled["losses"], plain["losses"])
    report("losses", title, value, bound=NEAR, findings=describe(compiled))


def check_accuracy(precision: str) -> None:
    title = f"train --compile --precision {precision} learns on the GPU"
    try:
        figures = run([*GPU, "--compile", "--precision", precision])
    except Exception as error:
        report_error(precision, title, error)
        return
    findings = describe(figures)
    report(precision, title, figures["accuracy"], bound=ACCURACY, findings=findings)


if __name__ == "__main__":
    check_losses()
    check_accuracy("fp32")
    check_accuracy("bf16")
