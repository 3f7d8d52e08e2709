"""What is known and fits into no table."""

from collections.abc import Iterator, Mapping
from typing import Any

from facts import Row
from survey.cells import evidence, source

TOPICS = {
    "drivers": "table2b_driver_facts",
    "cuDNN": "table2d_cudnn_facts",
    "nvidia/cuda images": "table3b_image_facts",
}


def statement_rows(survey: Mapping[str, Any]) -> Iterator[Row]:
    """Statements by topic, and the remarks on the builds of a release of torch."""
    for topic, table in TOPICS.items():
        for row in survey[table]:
            yield {"topic": topic, "says": row["fact"], **evidence(row)}
    for row in survey["table1_torch_releases"]:
        if row["variant_note"]:
            yield {
                "topic": f"torch {row['version']}",
                "says": source(row["variant_note"]),
                **evidence(row),
            }
