#!/usr/bin/env python3
"""Rewrite the facts of the catalog from a survey: show the difference, write only with `--write`.

    tools/refresh_catalog.py SURVEY.json [--write]

SURVEY.json is what research collects (tables of releases, distributions, GPUs, each row with source and status). Only
facts change here: bounds and preferences that people choose stand in `envbuilder/catalog/policy.toml`, which no program
writes. An answer with fewer rows than the catalog has is refused: it means that the survey broke, not that the world
shrank.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FACTS = Path(__file__).parent.parent / "envbuilder" / "catalog" / "facts"
OLDEST_TORCH = (1, 13)
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path)
    parser.add_argument("--write", action="store_true", help="write the facts after showing what changes")
    options = parser.parse_args(argv)
    changed = False
    for name, text in convert(json.loads(options.survey.read_text())).items():
        path = FACTS / name
        old = path.read_text() if path.exists() else ""
        refuse_shrunken(name, old, text)
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, name, n=1))
        changed = changed or old != text
        if options.write:
            path.write_text(text)
    return 0 if options.write or not changed else 1


def convert(survey: Mapping[str, Any]) -> dict[str, str]:
    """File name → JSON text of every file of facts; pure."""
    tables = {
        "torch.json": [torch_row(row) for row in survey["table1_torch_releases"] if is_covered(row)],
        "transformers.json": transformers_rows(survey),
        "distributions.json": [distribution_row(r) for r in survey["table5_os_python"] if r["os"] in DEBIAN],
        "gpus.json": [gpu_row(row) for row in survey["table6_gpu_compute_capability"]],
    }
    return {name: dumps(survey["meta"]["date"], rows) for name, rows in tables.items()}


def dumps(date: str, rows: Sequence[Row]) -> str:
    """One row a line, so that a diff shows what changed."""
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{\n "date": "{date}",\n "rows": [\n  {lines}\n ]\n}}\n'


def refuse_shrunken(name: str, old: str, new: str) -> None:
    before, after = (len(json.loads(text)["rows"]) if text else 0 for text in (old, new))
    if after < before:
        sys.exit(
            f"error: {name} would shrink from {before} rows to {after}\nhint: look at the survey before the catalog"
        )


DEBIAN = ("debian 11 bullseye", "debian 12 bookworm", "debian 13 trixie")
STATUSES = ("verified", "documented", "inferred")


def evidence(row: Mapping[str, Any]) -> Row:
    """Status and source of a row; the weakest word wins (`verified … + documented …` is documented)."""
    named = [word for word in STATUSES if word in row["status"]]
    if not named:
        sys.exit(f"error: {row} has no status that is one of {', '.join(STATUSES)}")
    return {"status": named[-1] if row["status"].split()[0] != "verified" else "verified", "source": row["source"]}


def is_covered(row: Mapping[str, Any]) -> bool:
    return tuple(int(part) for part in row["version"].split(".")[:2]) >= OLDEST_TORCH


def version(text: str | None) -> str | None:
    """The version at the start of a cell that goes on with a remark, or None."""
    found = re.match(r"[0-9]+(\.[0-9]+)+", text or "")
    return found[0] if found else None


def torch_row(row: Mapping[str, Any]) -> Row:
    gate = re.search(r"raises on Python >= ([0-9.]+)", row["torch_compile"])
    return {
        "torch": row["version"],
        "released": row["release_date"],
        "index": "pypi",
        "cuda": row["pypi_default_cuda"],
        "cudnn": version(row["cudnn"]),
        "nccl": version(row["nccl"]),
        "triton": version(row["triton"]),
        "torchvision": version(row["torchvision"]),
        "torchaudio": version(row["torchaudio"]),
        "pythons": [python for python in row["python_linux_x86_64"] if not python.endswith("t")],
        "platforms": ["linux/amd64", *(["linux/arm64"] if has_cuda_on_arm(row) else [])],
        "arch_list": row["pypi_default_sm"][0].split(),
        "glibc": row["glibc_symbols_needed"],
        "numpy2": row["numpy2"].startswith("yes"),
        "compile": gate is not None,
        "compile_until": gate[1] if gate else None,
        "driver_floor": version(row["min_driver_minor_compat"].lstrip(">=")),
        **evidence(row),
        "compile_source": row["torch_compile_source"],
        "numpy2_source": row["numpy2_source"],
    }


def has_cuda_on_arm(row: Mapping[str, Any]) -> bool:
    """Whether the index's aarch64 wheel is a CUDA build for the same CUDA; most releases have a CPU build there."""
    return bool(row["aarch64"]) and str(row["aarch64"]["cuda"]).startswith(row["pypi_default_cuda"].rsplit(".", 1)[0])


def transformers_rows(survey: Mapping[str, Any]) -> list[Row]:
    """Per torch line the newest transformers that was run and worked, and the day the next release came out."""
    released = {row["transformers"]: row["date"] for row in survey["table4_transformers"]}
    released |= {row["transformers"]: row["date"] for row in survey["table4h_transformers_edges"]}
    rows = []
    for row in survey["table4g_last_transformers_ok"]:
        torch, python = re.fullmatch(r"([0-9.]+) \(py([0-9.]+)\)", row["torch"]).groups()  # type: ignore[union-attr]
        newest = row["newest_tested_ok"]
        later = sorted(
            day for name, day in released.items() if _key(name)[:2] > _key(newest)[:2] and day > released[newest]
        )
        rows.append(
            {
                "torch": torch,
                "python": python,
                "newest": newest,
                "released": released[newest],
                "next_released": later[0] if later else None,
                **evidence(row),
            }
        )
    return rows


def _key(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


def distribution_row(row: Mapping[str, Any]) -> Row:
    family, number, release = row["os"].split()
    return {
        "os": f"{family} {number}",
        "release": release,
        "glibc": row["glibc"],
        "python": version(row["default_python"]),
        **evidence(row),
    }


def gpu_row(row: Mapping[str, Any]) -> Row:
    return {"capability": row["cc"], "architecture": row["arch"], "names": row["gpus"], **evidence(row)}


if __name__ == "__main__":
    sys.exit(main())
