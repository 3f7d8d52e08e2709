"""Which transformers was run on which torch, and which worked."""

import re
from collections.abc import Mapping
from typing import Any

from packaging.version import Version

from facts import Row
from survey.cells import evidence, line_of

STEPS = (
    "install", "import_transformers", "is_torch_available", "bert_fwd_save_load", "gpt2_generate", "llama_generate",
    "import_trainer",
)  # fmt: skip


def transformers_rows(survey: Mapping[str, Any]) -> list[Row]:
    """Per torch line the newest transformers that was run and worked, and the day the next release came out."""
    released = {
        row["transformers"]: row["date"] for row in survey["table4_transformers"]
    }
    released |= {
        row["transformers"]: row["date"] for row in survey["table4h_transformers_edges"]
    }
    runs = [run_row(row) for row in survey["table4b_transformers_torch_empirical"]]
    rows = []
    for row in survey["table4g_last_transformers_ok"]:
        torch, python = re.fullmatch(
            r"([0-9.]+) \(py([0-9.]+)\)", row["torch"]
        ).groups()  # type: ignore[union-attr]
        newest = row["newest_tested_ok"]
        later = sorted(
            day
            for name, day in released.items()
            if Version(name).release[:2] > Version(newest).release[:2]
            and day > released[newest]
        )
        broken = [
            run["transformers"] for run in runs
            if (run["torch"], run["python"]) == (torch, python)
            and not run["ok"] and "install" not in run["failed"] and Version(run["transformers"]) < Version(newest)
        ]  # fmt: skip
        rows.append(
            {
                "torch": torch,
                "python": python,
                "newest": newest,
                "released": released[newest],
                "next_released": later[0] if later else None,
                **evidence(row),
                **({"broken": sorted(broken, key=Version)} if broken else {}),
            }
        )
    return rows


def run_row(row: Mapping[str, Any]) -> Row:
    """One transformers that was run on one torch, and the steps that failed."""
    return {
        "torch": row["torch"],
        "python": line_of(row["python"]),
        "transformers": row["transformers"],
        "ok": row["all_core_steps_ok"],
        "failed": [
            step
            for step in STEPS
            if not str(row[step] or "ok").lower().startswith(("ok", "true"))
        ],
        **evidence(row),
    }
