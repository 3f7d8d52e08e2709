"""Build and accept every preset whose base can be had here, one after the other, and keep what came of it.

.venv/bin/python tools/matrix.py [--room GB] [--again] [--list] [NAME …]          `make matrix`

What each came to is written to docs/receipts/<name>.json; a preset whose receipt is of today's suite, lock and files is
not built again, so that it can be stopped and started at will. The layers are the engine's, the downloads stay in the
build's cache mount. Where less than `--room` GB of disk are free before a build, images and layers that this program
made are removed, if they have their receipt, then the downloads; what others built stays.
docs/reference/matrix.md and the README are written anew (tools/matrix_table.py). Exit code 7 if a preset was not
accepted.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matrix_table
from envbuilder.acceptance import suite
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import BaseSource, Lock
from envbuilder.render.context import render_context

ROOT = Path(__file__).parent.parent
PRESETS = ROOT / "docker" / "images"
RECEIPTS = ROOT / "docs" / "receipts"
NOT_ACCEPTED, INTERRUPTED = 7, 130
PATIENCE = 120  # seconds, for one question to the engine
OURS = ROOT / "build" / "matrix.json"
"""Which records of the build cache each cell made: those of others are not ours to remove."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One preset, and the receipt that it has, if any."""

    folder: Path
    lock: Lock
    receipt: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.lock.stack.name

    @property
    def receipt_file(self) -> Path:
        return RECEIPTS / f"{self.name}.json"

    def needs(self) -> str:
        """Why it is to be built; "" if its receipt says everything."""
        if self.receipt is None:
            return "no receipt"
        differing = [
            word
            for word, now in identity(self.lock).items()
            if self.receipt[word] != now
        ]
        return f"another {', '.join(differing)} since its receipt" if differing else ""


def cells(names: list[str]) -> Iterator[Cell]:
    """The presets, or those that are named, by CUDA."""
    for folder in sorted(path.parent for path in PRESETS.glob(f"*/{LOCK_FILE}")):
        lock = parse_lock(
            (folder / LOCK_FILE).read_text(encoding="utf-8"),
            source=str(folder / LOCK_FILE),
        )
        if names and not any(name in folder.name for name in names):
            continue
        file = RECEIPTS / f"{folder.name}.json"
        yield Cell(
            folder=folder,
            lock=lock,
            receipt=json.loads(file.read_text(encoding="utf-8"))
            if file.exists()
            else None,
        )


def identity(lock: Lock) -> dict[str, str]:
    """What a receipt holds for: the suite, and everything that is built (the lock is among the files)."""
    sha = hashlib.sha256()
    for path, text in sorted(render_context(lock).files.items()):
        sha.update(f"{path}\0{len(text)}\0{text}".encode())
    trial = suite.SuiteOptions(gpu=GpuPlan(access=GpuAccess.NONE, reason=""))
    return {"suite": suite.suite_hash(trial), "context": f"sha256:{sha.hexdigest()}"}


# --- the engine ----------------------------------------------------------------------------------------------------


def docker(*words: str) -> str:
    """What `docker …` says; "" if it fails, or hangs as `buildx du` does on a busy machine."""
    try:
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def free_space() -> float:
    """GB free where the engine keeps its layers."""
    place = Path(docker("info", "--format", "{{.DockerRootDir}}") or "/")
    return shutil.disk_usage(place if place.exists() else "/").free / 1e9


def cache_records() -> list[str]:
    """The ids of everything in the build cache but its mounts, newest first: a layer before those it stands on."""
    text = docker("buildx", "du", "--verbose")
    blocks = [
        dict(re.findall(r"^([A-Z][a-z A-Z]*):\s*(.*)$", block, re.MULTILINE))
        for block in text.split("\n\n")
    ]
    records = [block for block in blocks if block.get("Type") == "regular"]
    return [
        record["ID"]
        for record in sorted(
            records, key=lambda record: record["Created at"], reverse=True
        )
    ]


def make_room(wanted: float, done: list[Cell]) -> None:
    """Remove what accepted cells left behind, oldest first, then the downloads, until `wanted` GB are free."""
    ours = json.loads(OURS.read_text(encoding="utf-8")) if OURS.exists() else {}
    for cell in done:
        if free_space() >= wanted:
            return
        docker("image", "rm", f"envbuilder:{cell.name}")
        for record in ours.pop(cell.name, []):
            docker("buildx", "prune", "--all", "--force", "--filter", f"id={record}")
        OURS.write_text(json.dumps(ours), encoding="utf-8", newline="\n")
        say(
            f"{cell.name}: image and layers removed for the room they take; the receipt stays"
        )
    if free_space() < wanted:
        docker(
            "buildx", "prune", "--all", "--force", "--filter", "type=exec.cachemount"
        )
        say(f"downloads removed: {free_space():.0f} GB free")


def remember(cell: Cell, before: Sequence[str]) -> None:
    """Which build cache came with a cell, for the day when the disk is short."""
    ours = json.loads(OURS.read_text(encoding="utf-8")) if OURS.exists() else {}
    known = {*before, *(record for records in ours.values() for record in records)}
    ours[cell.name] = [
        record for record in cache_records() if record not in known
    ] + ours.get(cell.name, [])
    OURS.parent.mkdir(exist_ok=True)
    OURS.write_text(json.dumps(ours), encoding="utf-8", newline="\n")


# --- one cell after the other --------------------------------------------------------------------------------------


def build(cell: Cell) -> tuple[dict[str, Any] | None, str]:
    """Build and accept a preset: what goes into its receipt, or None and what was said."""
    words = [
        sys.executable,
        "-m",
        "envbuilder",
        "build",
        "--lock",
        str(cell.folder / LOCK_FILE),
        "--json",
    ]
    context = identity(cell.lock)[
        "context"
    ]  # as it is now: files may change while it is built
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        done = subprocess.run(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True, check=False
        )
        said.seek(0)
        talk = said.read()
    if done.returncode != 0:
        error = talk.find("error:")
        return None, talk[error:].strip() if error >= 0 else talk.strip()[-2000:]
    return reduced(json.loads(done.stdout), cell.lock, context), ""


def reduced(outcome: dict[str, Any], lock: Lock, context: str) -> dict[str, Any]:
    """What the table and a reader need of a build's outcome: the receipt without its text, and what it holds for."""
    receipt = outcome["receipt"]
    checks = receipt["checks"]
    figures = (
        "accuracy",
        "negated",
        "loss",
        "steps",
        "seconds",
        "samples_per_second",
        "device",
        "seed",
    )
    return {
        "schema": 1,
        "stack": lock.stack.name,
        "image": outcome["image"],
        "suite": receipt["suite"]["hash"],
        "context": context,
        "suite_version": receipt["suite"]["version"],
        "built": docker(
            "image", "inspect", "--format", "{{.Created}}", outcome["image"]
        )[:19],
        "accepted": receipt["started"][:19],
        "verdict": receipt["verdict"],
        "bytes": outcome["bytes"],
        "download_bytes": sum(wheel.size for wheel in lock.wheels),
        "build_seconds": outcome["build_seconds"],
        "cached_steps": outcome["cached_steps"],
        "steps": outcome["steps"],
        "accept_seconds": receipt["seconds"],
        "host": receipt["host"],
        "checks": {
            status: sum(check["status"] == status for check in checks)
            for status in ("passed", "not_run")
        },
        "not_run": sorted(
            check["id"] for check in checks if check["status"] == "not_run"
        ),
        "findings": {
            check["id"]: check["findings"] for check in checks if check["findings"]
        },
        "training": {name: receipt["training"].get(name) for name in figures},
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(todo: list[Cell], room: float) -> int:
    """Build them all; returns how many were not accepted."""
    done: list[Cell] = []
    refused = 0
    for cell in todo:
        why = cell.needs()
        if not why:
            say(
                f"{cell.name}: accepted on {(cell.receipt or {})['accepted']}, and nothing has changed"
            )
            done.append(cell)
            continue
        if cell.lock.stack.base.source is BaseSource.REGISTRY:
            say(
                f"{cell.name}: not built: its base {cell.lock.stack.base.reference} is an image of a registry"
            )
            continue
        make_room(room, done)
        say(f"{cell.name}: {why}; {free_space():.0f} GB free")
        started, before = time.monotonic(), cache_records()
        found, error = build(cell)
        remember(cell, before)
        if found is None:
            refused += 1
            say(
                f"{cell.name}: not accepted after {time.monotonic() - started:.0f} s\n{error}"
            )
            continue
        RECEIPTS.mkdir(parents=True, exist_ok=True)
        cell.receipt_file.write_text(
            json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n"
        )
        done.append(Cell(folder=cell.folder, lock=cell.lock, receipt=found))
        say(
            f"{cell.name}: built in {found['build_seconds']:.0f} s ({found['cached_steps']} of {found['steps']} steps "
            f"cached), accepted in {found['accept_seconds']:.0f} s, {found['bytes'] / 1e9:.2f} GB"
        )
    return refused


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Build and accept every preset; resumable."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="these presets alone, as cu126"
    )
    parser.add_argument(
        "--room",
        type=float,
        default=26,
        metavar="GB",
        help="disk to have free for a build [26]",
    )
    parser.add_argument(
        "--again", action="store_true", help="whatever receipts there are"
    )
    parser.add_argument(
        "--list", action="store_true", help="say what would be built, and why"
    )
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    todo = list(cells(options.names))
    if options.again:
        todo = [Cell(folder=cell.folder, lock=cell.lock, receipt=None) for cell in todo]
    if options.list:
        for cell in todo:
            print(f"{cell.name}: {cell.needs() or 'accepted'}")
        return 0
    try:
        refused = run(todo, options.room)
    except KeyboardInterrupt:
        say(
            "interrupted; what is accepted has its receipt, `make matrix` goes on from there"
        )
        return INTERRUPTED
    finally:
        matrix_table.write(ROOT)
    return NOT_ACCEPTED if refused else 0


if __name__ == "__main__":
    sys.exit(main())
