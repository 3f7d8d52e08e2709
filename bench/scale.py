"""What several processes bring on this machine: texts a second, and memory, as each run's metrics.json has them.

.venv/bin/python bench/scale.py [TURNS] [IMAGE]        3 turns by default; writes bench/scale.md
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

IMAGE = "envbuilder:cu117-torch2.0.1-py3.9-debian11"
RESULTS = Path(__file__).parent / "scale.md"
DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "distributed-training.md"
MARKS = ("<!-- bench/scale.md -->\n", "<!-- /bench/scale.md -->")
TRAIN = "/opt/envbuilder/payload/train"
SHARE = 32  # rows in a batch of one process
# In memory, as a checkpoint on a slow disk would be part of the time.
JOB = '"$@" --output /tmp/run >&2 && cat /tmp/run/metrics.json'
SMALL, LARGER = "the bundled one", "a larger one"
MODELS = {
    SMALL: ["--max-train-samples", "1280"],
    LARGER: [
        "--max-train-samples",
        "512",
        "--num-layers",
        "4",
        "--hidden-size",
        "256",
        "--num-heads",
        "4",
    ],
}


@dataclass(frozen=True)
class Way:
    """How a run is split."""

    name: str
    processes: int = 1
    threads: int = 1
    batch: int = SHARE
    words: tuple[str, ...] = ()


ONE = Way("one process")
SPLIT = (Way("2 processes, ddp", processes=2), Way("4 processes, ddp", processes=4))
OTHER = (
    Way("one process, two threads", threads=2),
    Way("2 processes, ddp", processes=2, batch=2 * SHARE),
    Way("4 processes, ddp", processes=4, batch=4 * SHARE),
    Way(
        "one process, pipeline of 2 stages",
        words=("--parallel", "pipeline", "--stages", "2"),
    ),
    Way(
        "one process, model on 2 stages", words=("--parallel", "model", "--stages", "2")
    ),
)
RUNS = [
    *((SMALL, way) for way in (ONE, *SPLIT)),
    *((LARGER, way) for way in (ONE, *SPLIT, *OTHER)),
]


def train(image: str, model: str, way: Way) -> dict[str, Any]:
    """What a run measured of itself."""
    torchrun = ["torchrun", "--nproc-per-node", str(way.processes), TRAIN]
    words = torchrun if way.processes > 1 else ["train"]
    words += [
        *MODELS[model],
        "--max-eval-samples",
        "50",
        "--epochs",
        "1",
        "--batch-size",
        str(way.batch),
        *way.words,
    ]
    options = [
        "--rm",
        "--network",
        "none",
        "--shm-size",
        "1g",
        "--tmpfs",
        "/tmp:exec,mode=1777",
    ]
    options += ["--env", f"OMP_NUM_THREADS={way.threads}"]
    started = ["docker", "run", *options, image, "sh", "-c", JOB, "sh", *words]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def table(found: dict[tuple[str, Way], list[dict[str, Any]]]) -> list[str]:
    """Medians, with the lowest and highest; the last column is memory of the process that leads."""
    lines = [
        "| model | | rows in a batch | texts a second | against one process | MB in a process |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (model, way), runs in found.items():
        speeds = [run["samples_per_second"] for run in runs]
        median = statistics.median(speeds)
        alone = statistics.median(
            run["samples_per_second"] for run in found[model, ONE]
        )
        memory = statistics.median(run["peak_memory_bytes"] for run in runs) / 1e6
        name = (
            f"{model}, {runs[0]['parameters'] / 1e6:.1f} M parameters"
            if way is ONE
            else ""
        )
        lines.append(
            f"| {name} | {way.name} | {way.batch} | {median:.0f} ({min(speeds):.0f} to {max(speeds):.0f}) "
            f"| {median / alone:.2f} | {memory:.0f} |"
        )
    return lines


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    image = sys.argv[2] if len(sys.argv) > 2 else IMAGE
    found: dict[tuple[str, Way], list[dict[str, Any]]] = {run: [] for run in RUNS}
    loads = []
    for turn in range(
        turns
    ):  # interleaved: what slows the machine down for a while slows all of them
        for (model, way), runs in found.items():
            loads.append(os.getloadavg()[0])
            runs.append(train(image, model, way))
            print(
                turn + 1,
                model,
                way.name,
                way.batch,
                runs[-1]["samples_per_second"],
                flush=True,
            )
    cores = len(os.sched_getaffinity(0))
    load = f"{statistics.median(loads):.1f} (median), {max(loads):.1f} at most"
    text = [
        f"Medians of {turns} turns (lowest to highest), interleaved, on {cores} cores, {datetime.now(UTC).date()}: "
        f"`.venv/bin/python bench/scale.py {turns}`. A process has one thread if nothing else is said. The machine's "
        f"load before each run, which is in part the run before it: {load}.",
        "",
        *table(found),
    ]
    written = "\n".join(text) + "\n"
    RESULTS.write_text(written, encoding="utf-8", newline="\n")
    before, rest = DOCS.read_text(encoding="utf-8").split(MARKS[0])
    DOCS.write_text(
        before + MARKS[0] + written + MARKS[1] + rest.split(MARKS[1])[1],
        encoding="utf-8",
        newline="\n",
    )


if __name__ == "__main__":
    main()
