"""docs/reference/matrix.md and the README's support table say what the receipts say, and no more."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import matrix
from envbuilder.render.context import render_context
from matrix_table import Line, page, read, replaced, short_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RECEIPTS = sorted((ROOT / "docs" / "receipts").glob("*.json"))
LINES = read(ROOT)


@pytest.fixture
def receipt() -> dict[str, Any]:
    return {
        "image": "sha256:0123456789abcdef",
        "suite": "sha256:fedcba9876543210",
        "suite_version": "3",
        "built": "2026-11-24T20:40:00",
        "accepted": "2026-11-24T20:41:00",
        "bytes": 5_500_000_000,
        "build_seconds": 300.4,
        "cached_steps": 2,
        "steps": 9,
        "accept_seconds": 41.0,
        "host": {"cpus": 2, "os": "Debian", "engine": "26", "gpu": "none"},
        "checks": {"passed": 57, "not_run": 1},
        "not_run": ["gpu.visible"],
        "findings": {"linkage.loads": ["a lacks b: it need not"]},
        "training": {
            "accuracy": 1.0,
            "loss": 0.0018,
            "samples_per_second": 282.1,
            "device": "cpu",
        },
    }


def test_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "reference" / "matrix.md").read_text() == page(LINES), (
        "`.venv/bin/python tools/matrix_table.py`"
    )


def test_readme_table_is_up_to_date() -> None:
    assert replaced(README, short_table(LINES)) == README, (
        "`.venv/bin/python tools/matrix_table.py`"
    )
    assert short_table(LINES) in README


def test_every_receipt_belongs_to_a_preset_and_passed() -> None:
    assert {path.stem for path in RECEIPTS} <= {line.stack.name for line in LINES}
    for path in RECEIPTS:
        found = json.loads(path.read_text())
        assert (found["stack"], found["verdict"]) == (path.stem, "passed")


def test_there_is_a_preset_for_every_line_of_cuda() -> None:
    lines = {line.stack.cuda_line for line in LINES}
    assert {"11.7", "12.1", "12.4", "12.6", "12.8", "13.0", "13.2"} <= lines


def test_table_cells_match_the_receipts(receipt: dict[str, Any]) -> None:
    here, registry = (
        next(
            line.lock for line in LINES if line.stack.name == f"cu117-torch2.0.1-{name}"
        )
        for name in ("py3.9-debian11", "py3.10-debian12")
    )
    lines = [Line(lock=here, receipt=receipt), Line(lock=registry, receipt=None)]
    assert short_table(lines).splitlines()[2:] == [
        "| `cu117-torch2.0.1-py3.9-debian11` | 5.50 | 2026-11-24 | 2026-11-24 "
        "| accuracy 1.000, loss 0.0018, 282 samples/s on the CPU |",
        "| `cu117-torch2.0.1-py3.10-debian12` |  | resolves, not built: the base `python:3.10-slim-bookworm` is an "
        "image of a registry; proven next to it: `cu117-torch2.0.1-py3.9-debian11` |  |  |",
    ]
    assert "| resolves, not built |" in short_table([Line(lock=here, receipt=None)])
    when = "2026-11-24 20:40:00 | 2026-11-24 20:41:00"
    cells = f"| 0123456789ab | {when} | 5.50 | 300 s, 2 of 9 steps cached | 3 (fedcba98), 41 s | 57 passed, 1 not run |"
    assert cells in page(lines)
    assert page(lines).splitlines()[-3:] == [
        "- accepted on 2 cores, Debian, engine 26, GPU: none (cu117)",
        "- not run (cu117): gpu.visible",
        "- excused (cu117): linkage.loads: a lacks b: it need not",
    ]


def test_preset_is_rebuilt_if_suite_or_files_changed() -> None:
    lock = LINES[0].lock
    now = matrix.identity(lock)

    def needs(receipt: dict[str, str] | None) -> str:
        return str(matrix.Cell(folder=ROOT, lock=lock, receipt=receipt).needs())

    assert needs(now) == ""
    assert needs(None) == "no receipt"
    assert needs({**now, "suite": "sha256:0"}) == "another suite since its receipt"
    assert (
        needs({"suite": "0", "context": "0"})
        == "another suite, context since its receipt"
    )


@pytest.mark.parametrize(
    "name",
    [
        "payload/train/job.py",
        "install/trim.txt",
        "images/{}/envbuilder.lock",
        "images/{}/Dockerfile",
    ],
)
def test_shared_files_count_for_rebuilding_presets(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lock = LINES[0].lock
    before, context = matrix.identity(lock), render_context(lock)
    name = name.format(lock.stack.name)
    other = replace(context, files={**context.files, name: context.files[name] + "\n"})
    monkeypatch.setattr(matrix, "render_context", lambda lock: other)
    after = matrix.identity(lock)
    assert (after["suite"], after["context"] == before["context"]) == (
        before["suite"],
        False,
    )
