"""`envbuilder catalog page` at the command line; tests/unit/test_page.py and tests/browser look into the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from json_documents import problems

from envbuilder import catalog, serialize

from .conftest import Run


@pytest.fixture(autouse=True)
def few_facts(monkeypatch: pytest.MonkeyPatch, facts: catalog.Catalog) -> None:
    """Two releases of torch and three GPUs: the whole grid takes half a minute on a busy machine."""
    few = replace(facts, torch=facts.torch[2:4], gpus=facts.gpus[5:8])
    monkeypatch.setattr(catalog, "load", lambda: few)


def test_command_writes_one_page_and_prints_its_path(run: Run) -> None:
    answer = run("catalog", "page")
    page = Path("envbuilder.html")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"wrote envbuilder.html: {page.stat().st_size / 1e3:.0f} kB\n"
    assert page.read_text().startswith("<!doctype html>\n")


def test_its_json(run: Run) -> None:
    answer = run("catalog", "page", "--output", "a/b.html", "--json")
    size = Path("a/b.html").stat().st_size
    assert json.loads(answer.out) == {
        "schema": 1,
        "ok": True,
        "file": "a/b.html",
        "bytes": size,
    }
    assert problems("catalog-page", json.loads(answer.out)) == []


def test_receipts_and_locks_have_named_and_default_directories(
    run: Run, root: Path
) -> None:
    receipt = samples.passed()
    for folder in ("receipts", "elsewhere"):
        Path(folder).mkdir()
        Path(folder, "one.json").write_text(serialize.dumps(receipt))
    day = receipt.started[:10]
    run("catalog", "page")
    usual = Path("envbuilder.html").read_text()
    assert f"built, accepted on {day}" in usual
    assert '"locked":true' not in usual
    run(
        "catalog",
        "page",
        "--receipts",
        "elsewhere",
        "--locks",
        str(root / "docker" / "images"),
    )
    named = Path("envbuilder.html").read_text()
    assert f"built, accepted on {day}" in named
    assert '"locked":true' in named


@pytest.mark.parametrize("option", ["--receipts", "--locks"])
def test_missing_directory_is_an_error(run: Run, option: str) -> None:
    answer = run("catalog", "page", option, "nowhere")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "nowhere" in answer.err
    assert "\nhint: " in answer.err
    assert not Path("envbuilder.html").exists()
