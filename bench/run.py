#!/usr/bin/env python3
"""Our build against the Dockerfile that people write by hand: same base, same versions, same machine, by turns.

    python bench/run.py [--rounds N] [--cuda X.Y] [--base REFERENCE]

Writes bench/results.md, which README shows. The naive side is one `pip install` with a cache mount. Cold means no layer
and no download cache on either side; images are built, not accepted, for the naive side has nothing like that. Times
are medians of the rounds, in seconds.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path

from packaging.version import Version

from envbuilder import catalog
from envbuilder.model import Request
from envbuilder.resolve import resolve

HERE = Path(__file__).parent
ENVBUILDER = [sys.executable, "-m", "envbuilder"]
OTHER_TRANSFORMERS = "4.48.3"
IMPORTS = (
    "import torch, transformers; from transformers import BertForSequenceClassification"
)
NAIVE = """FROM {base}
ENV ROUND={round}
RUN --mount=type=cache,target=/root/.cache/pip,id=bench-pip-{round} --mount=type=secret,id=ca \\
    PIP_CERT=/run/secrets/ca pip3 install {packages}
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cuda", default="11.7")
    parser.add_argument("--base", default="bootstrap")
    options = parser.parse_args(argv)
    measured: dict[str, dict[str, list[float]]] = {}
    request = ["--cuda", options.cuda, "--base", options.base]
    run([*ENVBUILDER, "base", *request])
    with tempfile.TemporaryDirectory(prefix="envbuilder-bench-") as name:
        folder = Path(name)
        ours = contexts(folder / "ours", request)
        for number in range(options.rounds):
            stamp = f"{os.getpid()}-{number}"
            sides = {
                "ours": our_side(ours, stamp),
                "naive": naive_side(folder / "naive", ours, stamp),
            }
            for side in sorted(sides, reverse=bool(number % 2)):
                first, other = sides[side]
                for what, value in patiently(
                    partial(measure, first, other, folder / "iid")
                ).items():
                    measured.setdefault(what, {}).setdefault(side, []).append(value)
                    print(
                        f"round {number + 1}: {side:5} {what}: {value:.2f}",
                        file=sys.stderr,
                    )
    table = report(measured, options.rounds)
    (HERE / "results.md").write_text(table, encoding="utf-8", newline="\n")
    show_in_readme(HERE.parent / "README.md", table, "results.md")
    print(table)
    return 0


def show_in_readme(readme: Path, table: str, name: str) -> None:
    """Put the table between its two marks."""
    before, rest = readme.read_text(encoding="utf-8").split(
        f"<!-- bench/{name} -->\n", 1
    )
    after = rest.split(f"<!-- /bench/{name} -->", 1)[1]
    readme.write_text(
        f"{before}<!-- bench/{name} -->\n{table}<!-- /bench/{name} -->{after}",
        encoding="utf-8",
        newline="\n",
    )


def run(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


# --- the two sides -------------------------------------------------------------------------------------------------


def contexts(folder: Path, request: Sequence[str]) -> tuple[Path, Path]:
    """Our context, and the same with another transformers."""
    made = []
    for name, more in (
        ("first", []),
        ("other", ["--package", f"transformers=={OTHER_TRANSFORMERS}"]),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        run(
            [
                *ENVBUILDER,
                "lock",
                *request,
                *more,
                "--output",
                str(folder / f"{name}.lock"),
            ]
        )
        run(
            [
                *ENVBUILDER,
                "render",
                "--lock",
                str(folder / f"{name}.lock"),
                "--output",
                str(folder / name),
            ]
        )
        made.append(folder / name)
    return made[0], made[1]


def our_side(ours: tuple[Path, Path], stamp: str) -> tuple[Path, Path]:
    """Cache mounts and layers of this round only, so that the first build of it is cold."""
    for path in map(dockerfile, ours):
        text = re.sub(
            r"(target=/root/\.cache/uv,id=)\S+",
            rf"\1bench-uv-{stamp}",
            path.read_text(encoding="utf-8"),
        )
        text = re.sub(
            r"^(FROM [^\n]*\n)(?:ENV ROUND=.*\n)?",
            rf"\1ENV ROUND={stamp}\n",
            text,
            flags=re.MULTILINE,
        )
        path.write_text(text, encoding="utf-8", newline="\n")
    return ours


def dockerfile(context: Path) -> Path:
    """The one of a folder that `envbuilder render` wrote, or that has it at its top."""
    return next(context.glob("images/*/Dockerfile"), context / "Dockerfile")


def naive_side(folder: Path, ours: tuple[Path, Path], stamp: str) -> tuple[Path, Path]:
    """What people write, at the versions that we lock: unpinned it would not even import."""
    made = []
    for context in ours:
        target = folder / context.name
        target.mkdir(parents=True, exist_ok=True)
        base = next(
            line
            for line in dockerfile(context).read_text(encoding="utf-8").splitlines()
            if line.startswith("ARG BASE=")
        )
        packages = " ".join(named_packages(context))
        text = NAIVE.format(
            base=base.removeprefix("ARG BASE="), round=stamp, packages=packages
        )
        (target / "Dockerfile").write_text(text, encoding="utf-8", newline="\n")
        made.append(target)
    return made[0], made[1]


def named_packages(context: Path) -> list[str]:
    """The packages a person would name, and pyarrow, without whose bound the rest does not import."""
    named = {
        "torch",
        "torchvision",
        "torchaudio",
        "accelerate",
        "datasets",
        "evaluate",
        "matplotlib",
        "numpy",
    }
    named |= {"safetensors", "transformers", "pyarrow"}
    lines = (
        line.split(" ")[0]
        for line in dockerfile(context)
        .with_name("requirements.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return [line for line in lines if line.split("==")[0] in named]


# --- what is measured ----------------------------------------------------------------------------------------------


def measure(first: Path, other: Path, iid: Path) -> dict[str, float]:
    values = {"cold build": seconds(lambda: build(first, iid))}
    values["rebuilt, nothing changed"] = seconds(lambda: build(first, iid))
    image = iid.read_text(encoding="utf-8")
    values["image size, GB"] = (
        int(run(["docker", "image", "inspect", "--format", "{{.Size}}", image])) / 1e9
    )
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "python3",
        "-c",
        IMPORTS,
    ]
    run(command)  # from the disk's cache, both
    values["start and import torch, transformers"] = seconds(lambda: run(command))
    values["rebuilt, another transformers"] = seconds(lambda: build(other, iid))
    for made in {image, iid.read_text(encoding="utf-8")}:
        run(["docker", "rmi", "--force", made])
    return values


def build(context: Path, iid: Path) -> None:
    bundle = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
    argv = [
        "docker",
        "buildx",
        "build",
        "--quiet",
        "--load",
        "--secret",
        f"id=ca,src={bundle}",
        "--iidfile",
        str(iid),
    ]
    run([*argv, "--file", str(dockerfile(context)), str(context)])


def patiently(action: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Once more if a download was cut, which old versions of pip do not mend."""
    try:
        return action()
    except subprocess.CalledProcessError as error:
        print(f"again: {error}", file=sys.stderr)
        run(
            [
                "docker",
                "builder",
                "prune",
                "--force",
                "--filter",
                "type=exec.cachemount",
            ]
        )
        return action()


def resolve_milliseconds() -> float:
    """One resolve in a process that has the catalog."""
    known, wanted = catalog.load(), Request(cuda=Version("11.7"))
    return (
        statistics.median(seconds(lambda: resolve(wanted, known)) for _ in range(20))
        * 1000
    )


def help_milliseconds() -> float:
    command = [str(Path(sys.executable).parent / "envbuilder"), "--help"]
    return statistics.median(seconds(lambda: run(command)) for _ in range(11)) * 1000


# --- the table -----------------------------------------------------------------------------------------------------

GOALS = {
    "cold build": 0.60,
    "rebuilt, another transformers": 0.12,
    "rebuilt, nothing changed": None,
    "image size, GB": 0.85,
    "start and import torch, transformers": None,
}


def report(measured: dict[str, dict[str, list[float]]], rounds: int) -> str:
    lines = ["| | by hand | envbuilder | ratio |", "| --- | ---: | ---: | ---: |"]
    for what in GOALS:
        ours, naive = (
            statistics.median(measured[what][side]) for side in ("ours", "naive")
        )
        unit = "" if "GB" in what else " s"
        lines.append(
            f"| {what} | {naive:.2f}{unit} | {ours:.2f}{unit} | {ours / naive:.2f} |"
        )
    lines += [
        "",
        f"`resolve` in process: {resolve_milliseconds():.1f} ms. `envbuilder --help`: {help_milliseconds():.0f} ms.",
    ]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    lines += [
        "",
        f"Medians of {rounds} rounds by turns on {machine}, {date.today().isoformat()}: `make bench`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
