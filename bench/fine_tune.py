#!/usr/bin/env python3
"""Our training job against the guide's loop (bench/guide.py): same reviews, model, image and machine, by turns.

    python bench/fine_tune.py [--image NAME] [--seeds N] [--rows N] [--held-out N] [--run-option=OPTION …]

Writes bench/train.md, which README shows; ends with 1 if a goal is missed. Both sides ask a hub on this machine for
`imdb` and `bert-base-uncased`, whose contents come from PyPI (tests/hub): 25,000 of IMDb's reviews, of which the first
ROWS of a shuffled order are trained on, and a BERT of 6 layers. Ours is `train` as it is, but for `--precision bf16` on
a CPU that has it. Only training is timed on either side: not imports, tokenizing, evaluation or saving.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "tests")]

from hub.material import make_hub, shorten  # noqa: E402
from hub.server import serve  # noqa: E402
from run import show_in_readme  # noqa: E402

IMAGE = "envbuilder:cu117-torch2.0.1-py3.9-debian11"
GOAL = 3.0
HAS_BF16 = any(
    flag in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    for flag in ("avx512_bf16", "amx_bf16")
)
JOB = (
    "train",
    "--model",
    "bert-base-uncased",
    "--data",
    "imdb",
    "--precision",
    "bf16" if HAS_BF16 else "fp32",
)
# What is left out of ours, one measure at a time: (environment, words).
LEFT_OUT = {
    "similar lengths together, padded to the longest": ({}, ("--pad-to-max-length",)),
    "jemalloc": ({"LD_PRELOAD": ""}, ()),
    **({"bf16": ({}, ("--precision", "fp32"))} if HAS_BF16 else {}),
    "all of them": ({"LD_PRELOAD": ""}, ("--pad-to-max-length", "--precision", "fp32")),
}


class Run(NamedTuple):
    """What one run of one side came to."""

    speed: float  # samples per second of the training loop
    accuracy: float  # on the held-out reviews
    memory: float  # GB of resident memory, at most


class Place(NamedTuple):
    """Where the runs take place."""

    image: str
    options: Sequence[str]  # of `docker run`
    hub: str
    folder: Path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument(
        "--run-option",
        action="append",
        default=[],
        help="one more of `docker run`, as --volume=A:B",
    )
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="envbuilder-bench-") as name:
        folder = Path(name)
        root = make_hub(folder)
        shorten(root / "datasets" / "imdb", train=options.rows, test=options.held_out)
        with serve(root) as (address, _):
            place = Place(options.image, options.run_option, address, folder)
            runs = measure(place, options.seeds)
            left_out = measure_left_out(place)
    table = report(runs, left_out, rows=options.rows, held_out=options.held_out)
    (HERE / "train.md").write_text(table, encoding="utf-8", newline="\n")
    show_in_readme(HERE.parent / "README.md", table, "train.md")
    print(table)
    return 0 if all(reached(runs).values()) else 1


# --- the two sides -------------------------------------------------------------------------------------------------


def measure(place: Place, seeds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {"guide": [], "ours": []}
    for seed in range(seeds):
        for side in sorted(runs, reverse=bool(seed % 2)):
            runs[side].append(
                guide(place, seed) if side == "guide" else ours(place, seed)
            )
            print(
                f"seed {seed}: {side:5} {runs[side][-1]}", file=sys.stderr, flush=True
            )
    return runs


def measure_left_out(place: Place) -> dict[str, Run]:
    """One epoch of ours, whole (as "nothing") and without each measure."""
    runs = {}
    for what, (env, words) in {"nothing": ({}, ()), **LEFT_OUT}.items():
        runs[what] = ours(place, 0, "--epochs", "1", *words, env=env)
        print(f"without {what}: {runs[what]}", file=sys.stderr, flush=True)
    return runs


def guide(place: Place, seed: int) -> Run:
    return read(
        start(
            place,
            {},
            "--volume",
            f"{HERE}:/bench:ro",
            words=("python", "/bench/guide.py", str(seed)),
        )
    )


def ours(
    place: Place, seed: int, *words: str, env: Mapping[str, str] | None = None
) -> Run:
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        command = (*JOB, "--seed", str(seed), "--output", "/runs", *words)
        start(place, env or {}, "--volume", f"{name}:/runs", words=command)
        return read((Path(name) / "metrics.json").read_text(encoding="utf-8"))


def start(
    place: Place, env: Mapping[str, str], *options: str, words: Sequence[str]
) -> str:
    """One container's last line of output."""
    user = f"{os.getuid()}:{os.getgid()}"
    argv = [
        "docker",
        "run",
        "--rm",
        "--network",
        "host",
        "--shm-size",
        "1g",
        "--user",
        user,
        *options,
        *place.options,
    ]
    for name, value in {"HF_ENDPOINT": place.hub, **env}.items():
        argv += ["--env", f"{name}={value}"]
    done = subprocess.run(
        [*argv, place.image, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"error: {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout.splitlines()[-1]


def read(text: str) -> Run:
    measured = json.loads(text)
    return Run(
        measured["samples_per_second"],
        measured["accuracy"],
        measured["peak_memory_bytes"] / 1e9,
    )


# --- the table -----------------------------------------------------------------------------------------------------


def standard_error(*samples: Iterable[float]) -> float:
    """Of a mean, or of the difference of two means."""
    listed = [list(sample) for sample in samples]
    return float(
        sum(
            statistics.variance(sample) / len(sample)
            for sample in listed
            if len(sample) > 1
        )
        ** 0.5
    )


def reached(runs: Mapping[str, Sequence[Run]]) -> dict[str, bool]:
    """Which goals are reached."""
    ours, theirs = runs["ours"], runs["guide"]
    speed = [mine.speed / other.speed for mine, other in zip(ours, theirs, strict=True)]
    scores = [[run.accuracy for run in side] for side in (ours, theirs)]
    return {
        "speed": statistics.median(speed) >= GOAL,
        "accuracy": statistics.fmean(scores[0])
        >= statistics.fmean(scores[1]) - standard_error(*scores),
        "memory": max(run.memory for run in ours) <= max(run.memory for run in theirs),
    }


def report(
    runs: Mapping[str, Sequence[Run]],
    left_out: Mapping[str, Run],
    *,
    rows: int,
    held_out: int,
) -> str:
    ours, theirs = runs["ours"], runs["guide"]
    speeds = [
        mine.speed / other.speed for mine, other in zip(ours, theirs, strict=True)
    ]
    peak = [max(run.memory for run in side) for side in (theirs, ours)]
    said = {
        name: "reached" if good else "**missed**"
        for name, good in reached(runs).items()
    }
    scores = [spread([run.accuracy for run in side]) for side in (theirs, ours)]
    speed = [
        f"{statistics.median(run.speed for run in side):.2f}" for side in (theirs, ours)
    ]
    lines = [
        f"| | the guide's loop | `train --precision {JOB[-1]}` | ratio | goal |",
        "| --- | ---: | ---: | ---: | --- |",
        f"| samples per second | {speed[0]} | {speed[1]} | {statistics.median(speeds):.2f} "
        f"({min(speeds):.2f} to {max(speeds):.2f}) | ≥ {GOAL:g}: {said['speed']} |",
        f"| accuracy, mean ± standard error | {scores[0]} | {scores[1]} | | no lower: {said['accuracy']} |",
        f"| peak memory, GB | {peak[0]:.2f} | {peak[1]:.2f} | {peak[1] / peak[0]:.2f} | no higher: {said['memory']} |",
        "",
        "| left out of ours | samples per second | share | peak memory, GB |",
        "| --- | ---: | ---: | ---: |",
    ]
    whole = left_out["nothing"].speed
    lines += [
        f"| {what} | {run.speed:.2f} | {run.speed / whole:.2f} | {run.memory:.2f} |"
        for what, run in left_out.items()
    ]
    lines += [
        "",
        f"{rows} IMDb reviews of up to 512 tokens, 3 epochs in batches of 8, {held_out} held out; "
        f"{len(ours)} seeds by turns on {os.cpu_count()} cores, {date.today().isoformat()}: `make bench-train`.",
        "",
    ]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {standard_error(values):.3f}"


if __name__ == "__main__":
    sys.exit(main())
