"""Rewrite the facts of the catalog from a survey: show the difference, write only with `--write`.

    .venv/bin/python tools/refresh_catalog.py SURVEY.json [--write]

SURVEY.json is what research collects (tables of releases, distributions, GPUs, each row with source and status);
`tools/supplement.toml` says what it left open. Only facts change here: what people decide stands in
`envbuilder/catalog/policy.toml`, which no program writes. An answer with fewer rows than the catalog has is refused: it
means that the survey broke, not that the world shrank. Fields that another refresher wrote stay as they are.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facts import FACTS, Row, dumps, publish
from supplement import SUPPLEMENT
from survey import cuda, gpus, statements, systems, torch, transformers


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 1 if the facts differ and were not written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("survey", type=Path)
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the facts after showing what changes",
    )
    options = parser.parse_args(argv)
    files = convert(json.loads(options.survey.read_text(encoding="utf-8")))
    if (FACTS / "torch.json").exists():
        files["torch.json"] = with_others_fields(
            (FACTS / "torch.json").read_text(encoding="utf-8"), files["torch.json"]
        )
    return publish(files, FACTS, write=options.write)


def convert(survey: Mapping[str, Any]) -> dict[str, str]:
    """File name → JSON text of every file of facts; pure."""
    covered = [row for row in survey["table1_torch_releases"] if torch.is_covered(row)]
    known_systems = [
        row for row in survey["table5_os_python"] if row["os"] != systems.UNKNOWN
    ]
    tables: dict[str, list[Row]] = {
        "torch.json": [torch.torch_row(row) for row in covered]
        + list(torch.variant_rows(covered, survey)),
        "transformers.json": transformers.transformers_rows(survey),
        "systems.json": [systems.system_row(row) for row in known_systems],
        "gpus.json": [
            gpus.gpu_row(row) for row in survey["table6_gpu_compute_capability"]
        ],
        "toolkits.json": [
            cuda.toolkit_row(row) for row in survey["table2_cuda_drivers"]
        ],
        "compatibility.json": [
            cuda.compatibility_row(row, survey) for row in SUPPLEMENT["compatibility"]
        ],
        "advisories.json": [
            {**row, "checked": SUPPLEMENT["checked"]} for row in SUPPLEMENT["advisory"]
        ],
        "architectures.json": [
            cuda.architecture_row(row) for row in survey["table2c_cuda_arch_changes"]
        ],
        "nvidia_images.json": [
            systems.image_row(row) for row in survey["table3_nvidia_cuda_images"]
        ],
        "transformers_runs.json": [
            transformers.run_row(row)
            for row in survey["table4b_transformers_torch_empirical"]
        ],
        "statements.json": list(statements.statement_rows(survey)),
    }
    return {name: dumps(survey["meta"]["date"], rows) for name, rows in tables.items()}


FROM_THE_INDEX = (
    "family",
    "requires_python",
    "glibc_tag",
    "setuptools",
    "setuptools_source",
    "platforms",
    "arch_list_arm64",
)


def with_others_fields(old: str, text: str) -> str:
    """The new torch.json with what `tools/refresh_torch.py` read from the wheels of every release."""
    before = {(row["torch"], row["index"]): row for row in json.loads(old)["rows"]}
    document = json.loads(text)
    rows = [
        with_own(row, before.get((row["torch"], row["index"]), {}))
        for row in document["rows"]
    ]
    return dumps(document["date"], rows)


def with_own(row: Row, before: Row) -> Row:
    """A row with what the other refresher had said of it, in the order that it had: a diff shows what changed."""
    kept = {name: before[name] for name in FROM_THE_INDEX if name in before}
    said = {
        name: how
        for name, how in before.get("field_status", {}).items()
        if name in FROM_THE_INDEX
    }
    statuses = {"field_status": {**row.get("field_status", {}), **said}} if said else {}
    merged = {**row, **kept, **statuses}
    return {
        name: merged[name]
        for name in dict.fromkeys([*before, *merged])
        if name in merged
    }


if __name__ == "__main__":
    sys.exit(main())
