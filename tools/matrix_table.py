"""Write docs/reference/matrix.md and the README's support table from the presets' locks and their receipts.

.venv/bin/python tools/matrix_table.py          `make matrix` does it too

A preset without a receipt in docs/receipts/ is in the table all the same, as "resolves, not built".
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import BaseSource, Lock, Stack

START, END = "<!-- docs/reference/matrix.md -->", "<!-- /docs/reference/matrix.md -->"
NOT_BUILT = "resolves, not built"
INTRODUCTION = """# What is built and accepted

Written by `make matrix` from the locks in `docker/images/` and the receipts in `docs/receipts/`; nothing here is typed.
A receipt holds for one image id and one suite: the suite's hash stands beside it, and `.venv/bin/python tools/matrix.py
--list` says which of them are of an older suite or payload than today's.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A preset and its receipt, if it has one."""

    lock: Lock
    receipt: dict[str, Any] | None

    @property
    def stack(self) -> Stack:
        return self.lock.stack


def read(root: Path) -> list[Line]:
    """Every preset, by CUDA, torch and Python."""
    lines = []
    for path in (root / "docker" / "images").glob(f"*/{LOCK_FILE}"):
        file = root / "docs" / "receipts" / f"{path.parent.name}.json"
        receipt = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        )
        lines.append(
            Line(
                lock=parse_lock(path.read_text(encoding="utf-8"), source=str(path)),
                receipt=receipt,
            )
        )
    return sorted(
        lines, key=lambda line: (line.stack.cuda, line.stack.torch, line.stack.python)
    )


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def neighbour(line: Line, lines: Sequence[Line]) -> str:
    """The accepted preset that differs from this one only in its base and Python."""
    return next(
        (
            other.stack.name
            for other in lines
            if other.receipt
            and (other.stack.cuda, other.stack.torch, other.stack.flavour)
            == (line.stack.cuda, line.stack.torch, line.stack.flavour)
        ),
        "",
    )


def unproven(line: Line, lines: Sequence[Line]) -> str:
    """Why a preset has no receipt."""
    if line.stack.base.source is not BaseSource.REGISTRY:
        return NOT_BUILT
    near = neighbour(line, lines)
    proven = f"; proven next to it: `{near}`" if near else ""
    return f"{NOT_BUILT}: the base `{line.stack.base.reference}` is an image of a registry{proven}"


def short_table(lines: Sequence[Line]) -> str:
    """The README's."""
    text = [
        row("preset", "GB", "built", "accepted", "fine-tune"),
        row("---", "---:", "---", "---", "---"),
    ]
    for line in lines:
        if line.receipt is None:
            text.append(row(f"`{line.stack.name}`", "", unproven(line, lines), "", ""))
            continue
        built, accepted = line.receipt["built"][:10], line.receipt["accepted"][:10]
        text.append(
            row(
                f"`{line.stack.name}`",
                gigabytes(line.receipt),
                built,
                accepted,
                fine_tune(line.receipt),
            )
        )
    return "\n".join(text)


def gigabytes(receipt: dict[str, Any]) -> str:
    return f"{receipt['bytes'] / 1e9:.2f}"


def fine_tune(receipt: dict[str, Any]) -> str:
    """`accuracy 1.000, loss 0.0018, 282 samples/s on the CPU`."""
    found = receipt["training"]
    speed = f"{found['samples_per_second']:.0f} samples/s"
    where = "on the CPU" if found["device"] == "cpu" else f"on {found['device']}"
    return (
        f"accuracy {found['accuracy']:.3f}, loss {found['loss']:.4f}, {speed} {where}"
    )


def page(lines: Sequence[Line]) -> str:
    """docs/reference/matrix.md."""
    heads = "preset", "CUDA", "cuDNN", "NCCL", "GPU code", "driver", "receipt"
    stacks = [row(*heads), row(*["---"] * len(heads))]
    for line in lines:
        stack = line.stack
        arch = f"{stack.arch_list[0]} … {stack.arch_list[-1]}"
        said = unproven(line, lines)
        if line.receipt:
            said = f"[accepted](../receipts/{stack.name}.json)"
        nccl = str(stack.nccl or "in torch")
        stacks.append(
            row(
                f"`{stack.name}`",
                str(stack.cuda),
                str(stack.cudnn),
                nccl,
                arch,
                f"{stack.driver_floor} or newer",
                said,
            )
        )
    proven = [line for line in lines if line.receipt]
    return (
        "\n".join(
            [
                INTRODUCTION,
                *stacks,
                "",
                "## Receipts",
                "",
                *receipts_table(proven),
                "",
                *remarks(proven),
            ]
        )
        + "\n"
    )


def receipts_table(lines: Sequence[Line]) -> list[str]:
    """When, how long, by which suite."""
    heads = (
        "preset",
        "image",
        "built",
        "accepted",
        "GB",
        "build",
        "suite",
        "checks",
        "fine-tune",
    )
    text = [
        row(*heads),
        row("---", "---", "---", "---", "---:", "---:", "---", "---", "---"),
    ]
    for line in lines:
        receipt = line.receipt or {}
        counts = receipt["checks"]
        suite = f"{receipt['suite_version']} ({receipt['suite'].removeprefix('sha256:')[:8]})"
        text.append(
            row(
                f"`{line.stack.name}`",
                receipt["image"].removeprefix("sha256:")[:12],
                receipt["built"].replace("T", " "),
                receipt["accepted"].replace("T", " "),
                gigabytes(receipt),
                f"{receipt['build_seconds']:.0f} s, {receipt['cached_steps']} of {receipt['steps']} steps cached",
                f"{suite}, {receipt['accept_seconds']:.0f} s",
                f"{counts['passed']} passed, {counts['not_run']} not run",
                fine_tune(receipt),
            )
        )
    return text


def remarks(lines: Sequence[Line]) -> list[str]:
    """What was excused and what was not run, each with the presets that it concerns."""
    excused: dict[str, list[str]] = {}
    idle: dict[str, list[str]] = {}
    where: dict[str, list[str]] = {}
    for line in lines:
        receipt = line.receipt or {}
        for check in ("linkage.loads", "linkage.single"):
            for finding in receipt["findings"].get(check, ()):
                excused.setdefault(f"{check}: {finding}", []).append(
                    line.stack.cuda_tag
                )
        host = receipt["host"]
        place = f"{host['cpus']} cores, {host['os']}, engine {host['engine']}, GPU: {host['gpu']}"
        where.setdefault(place, []).append(line.stack.cuda_tag)
        idle.setdefault(", ".join(receipt["not_run"]), []).append(line.stack.cuda_tag)
    said = [
        f"- accepted on {place} ({', '.join(sorted(tags))})"
        for place, tags in sorted(where.items())
    ]
    said += [
        f"- not run ({', '.join(sorted(tags))}): {names}"
        for names, tags in sorted(idle.items())
        if names
    ]
    said += [
        f"- excused ({', '.join(sorted(tags))}): {text}"
        for text, tags in sorted(excused.items())
    ]
    return ["What stands behind them:", "", *said] if said else []


def replaced(readme: str, table: str) -> str:
    """The README with another table between its marks."""
    return re.sub(
        f"{START}\n.*{END}",
        lambda _: f"{START}\n{table}\n{END}",
        readme,
        flags=re.DOTALL,
    )


def write(root: Path) -> None:
    lines = read(root)
    (root / "docs" / "reference" / "matrix.md").write_text(
        page(lines), encoding="utf-8", newline="\n"
    )
    readme = root / "README.md"
    readme.write_text(
        replaced(readme.read_text(encoding="utf-8"), short_table(lines)),
        encoding="utf-8",
        newline="\n",
    )


if __name__ == "__main__":
    write(Path(__file__).parent.parent)
