"""Facts load with the row at fault in the message, and the refresher adds facts and never takes any."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import CatalogError

ROOT = Path(__file__).parents[2]
SURVEY = json.loads((ROOT / "tests" / "golden" / "survey.json").read_text())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(catalog.FOLDER / "facts", tmp_path / "facts")
    shutil.copy(catalog.FOLDER / "policy.toml", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh_catalog", ROOT / "tools" / "refresh_catalog.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_fact_has_a_source(facts: Catalog) -> None:
    for row in (*facts.torch, *facts.transformers, *facts.distributions, *facts.gpus):
        assert row.source, row
        assert row.status, row


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d["rows"][2].pop("cudnn"), "torch.json, row 3 of 30"),
        (lambda d: d["rows"][0].update(cuda="eleven"), "'eleven' is not a version"),
        (lambda d: d["rows"][0].update(status="probably"), "$.status"),
        (lambda d: d.pop("date"), "torch.json cannot be read"),
    ],
    ids=["missing", "not a version", "no such status", "no date"],
)
def test_a_bad_row_is_named(copy: Path, edit: Callable[[dict[str, Any]], object], said: str) -> None:
    change(copy / "facts" / "torch.json", edit)
    with pytest.raises(CatalogError) as caught:
        catalog.load(copy)
    assert said in caught.value.message
    assert caught.value.exit_code == 3


def test_a_misspelt_policy_is_named(copy: Path) -> None:
    text = (copy / "policy.toml").read_text()
    (copy / "policy.toml").write_text(text.replace("[registry]", "[registries]"))
    with pytest.raises(CatalogError, match=r"policy\.toml"):
        catalog.load(copy)


def test_the_refresher_makes_the_committed_rows(refresh: ModuleType) -> None:
    made = {name: json.loads(text)["rows"] for name, text in refresh.convert(SURVEY).items()}
    for name, rows in made.items():
        committed = json.loads((catalog.FOLDER / "facts" / name).read_text())["rows"]
        assert rows
        assert all(row in committed for row in rows), name
    assert [row["torch"] for row in made["torch.json"]] == ["1.13.1", "2.0.1", "2.11.0"]


def test_a_shrunken_answer_is_refused(refresh: ModuleType, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = copy / "survey.json"
    survey.write_text(json.dumps(SURVEY))
    monkeypatch.setattr(refresh, "FACTS", copy / "facts")
    before = (copy / "facts" / "torch.json").read_text()
    with pytest.raises(SystemExit) as caught:
        refresh.main([str(survey), "--write"])
    assert "would shrink from 30 rows to 3" in str(caught.value)
    assert (copy / "facts" / "torch.json").read_text() == before


def test_nothing_is_written_unless_told(refresh: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = tmp_path / "survey.json"
    survey.write_text(json.dumps(SURVEY))
    (tmp_path / "facts").mkdir()
    monkeypatch.setattr(refresh, "FACTS", tmp_path / "facts")
    assert refresh.main([str(survey)]) == 1
    assert list((tmp_path / "facts").iterdir()) == []
    assert refresh.main([str(survey), "--write"]) == 0
    assert refresh.main([str(survey)]) == 0
