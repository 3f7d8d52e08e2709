"""Is envbuilder fast enough to be pleasant? Needs no engine; ends with 1 where a limit is missed.

.venv/bin/python bench/speed.py        on a quiet machine: tests assert no elapsed time, so that a busy one fails none
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog
from envbuilder.resolve import resolve
from envbuilder.resolve.candidate_index import CandidateIndex
from envbuilder.resolve.command_line import parse_option, parse_request
from envbuilder.resolve.package_rules import parsed
from envbuilder.resolve.project_files.combination import Given, combine
from envbuilder.resolve.project_files.kinds import read_project_file

COMMAND = [sys.executable, "-m", "envbuilder", "--help"]
REQUEST = {"cuda": "11.7", "python": "3.10", "gpu": "A100", "driver": "535"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may take how long; `clock` is the machine's, or this process's share of it."""

    what: str
    seconds: float
    action: Callable[[], object]
    clock: Callable[[], float] = time.process_time
    rounds: int = 5


def main() -> None:
    facts = catalog.load()
    limits = [
        Limit(
            what="envbuilder --help",
            seconds=0.15,
            action=ask_for_help,
            clock=time.perf_counter,
            rounds=11,
        ),
        Limit(
            what="one resolve, the first",
            seconds=0.02,
            action=lambda: resolve_once(facts),
        ),
        Limit(
            what="a requirements file of 500 lines",
            seconds=0.1,
            action=read_requirements_file,
        ),
        Limit(
            what="a grid of five million requests",
            seconds=5,
            action=lambda: fill_grid(facts),
            rounds=1,
        ),
    ]
    missed = False
    for limit in limits:
        best = min(time_of(limit) for _ in range(limit.rounds))
        missed = missed or best > limit.seconds
        print(
            f"{limit.what:<34} {best:8.3f} s of {limit.seconds} s{'  too slow' if best > limit.seconds else ''}"
        )
    sys.exit(1 if missed else 0)


def time_of(limit: Limit) -> float:
    started = limit.clock()
    limit.action()
    return limit.clock() - started


def ask_for_help() -> None:
    subprocess.run(COMMAND, capture_output=True, check=True)


def resolve_once(facts: Catalog) -> None:
    fresh = replace(facts)  # nothing is kept of it yet
    resolve(parse_request(REQUEST), fresh)


def read_requirements_file() -> None:
    lines = []
    for number in range(0, 500, 2):
        lines.append(
            f"package-{number}[extra]>=1.{number},<9 ; python_version < '3.12'"
        )
        lines.append(f"package_{number + 1}==1.{number} --hash=sha256:{'0' * 64}")
    parsed.cache_clear()
    statements = read_project_file("\n".join(lines), "requirements.txt")
    project = combine(statements, Given())
    assert len(project.answers) == 500


def fill_grid(facts: Catalog) -> None:
    texts = {
        "cuda": sorted(
            {str(row.cuda) for row in facts.torch if row.cuda}
            | {str(row.release) for row in facts.runtimes}
        ),
        "torch": sorted({str(row.torch) for row in facts.torch}),
        "python": [f"3.{minor}" for minor in range(8, 16)],
        "gpu": sorted({str(row.capability) for row in facts.gpus}),
        "driver": [str(branch) for branch in range(390, 700, 5)],
    }
    axes: dict[str, list[object]] = {}
    cells = 1
    for name, values in texts.items():
        axes[name] = [None, *(parse_option(name, value) for value in values)]
        cells *= len(axes[name])
    if len(CandidateIndex(facts).grid(axes)) != cells or cells < 5_000_000:
        sys.exit(f"{cells} cells are not the grid that was meant")


if __name__ == "__main__":
    main()
