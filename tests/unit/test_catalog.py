"""Facts load with the row at fault in the message, and the refresher adds facts and never takes any."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import refresh_catalog
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


def test_every_fact_has_a_source_and_a_date() -> None:
    for table in catalog.TABLES:
        for row in catalog.read(table):
            assert row.source, row
            assert row.status, row
            assert row.checked, row


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d["rows"][2].pop("cudnn"), "torch.json, row 3 of 79"),
        (lambda d: d["rows"][0].update(cuda="eleven"), "'eleven' is not a version"),
        (lambda d: d["rows"][0].update(status="probably"), "$.status"),
        (lambda d: d.pop("date"), "torch.json cannot be read"),
    ],
    ids=["missing", "not a version", "no such status", "no date"],
)
def test_a_bad_row_is_named(
    copy: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
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


def test_the_refresher_makes_the_committed_rows() -> None:
    made = {
        name: json.loads(text)["rows"]
        for name, text in refresh_catalog.convert(SURVEY).items()
    }
    assert set(made) == {table.file for table in catalog.TABLES} - {
        "wheels.json", "runtimes.json", "transformers_releases.json", "gpu_names.json", "gpu_features.json",
        "least_versions.json", "gone_packages.json", "system_libraries.json", "companions.json",
    }  # fmt: skip
    for name, rows in made.items():
        committed = json.loads((catalog.FOLDER / "facts" / name).read_text())["rows"]
        assert rows
        known = [survey_part(row) for row in committed]
        assert all(
            any(survey_part(row).items() <= other.items() for other in known)
            for row in rows
        ), name
    assert [row["torch"] for row in made["torch.json"] if row["index"] == "pypi"] == [
        "1.13.1",
        "2.0.1",
        "2.11.0",
    ]
    assert [(row["torch"], row["index"]) for row in made["torch.json"] if row["index"] != "pypi"] == [
        ("1.13.1", "pytorch-cu116"), ("2.0.1", "pytorch-cu118"),
        ("2.11.0", "pytorch-cu126"), ("2.11.0", "pytorch-cu128"),  # not cu129, which one source alone names
    ]  # fmt: skip


def survey_part(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what the other refresher says of it."""
    statuses = row.get("field_status", {}).items()
    return {
        **row,
        "field_status": {
            name: word
            for name, word in statuses
            if name not in refresh_catalog.FROM_THE_INDEX
        },
    }


def test_no_fact_names_the_address_of_an_index() -> None:
    for path in (catalog.FOLDER / "facts").iterdir():
        assert not re.search(
            r"download\.|packages\.[a-z]+\.com|/simple/", path.read_text()
        ), path.name


def test_optional_tables_are_loaded_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, one_catalog: Callable[[], Catalog]
) -> None:
    read: list[str] = []
    real = catalog.read_bytes

    def recorded(path: Path, **options: Any) -> bytes:
        read.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(catalog, "read_bytes", recorded)
    one_catalog()
    assert sorted(read) == sorted(
        ["torch.json", "transformers.json", "transformers_releases.json", "gpus.json", "systems.json", "toolkits.json",
         "compatibility.json", "advisories.json", "runtimes.json", "gpu_names.json", "gpu_features.json",
         "least_versions.json"]
    )  # fmt: skip


def test_every_release_and_variant_exists(facts: Catalog) -> None:
    on_pypi = [str(row.torch) for row in facts.torch if row.index == "pypi"]
    assert (on_pypi[0], on_pypi[-1], len(on_pypi)) == ("1.13.0", "2.15.0", 30)
    elsewhere = {
        (f"{row.torch.major}.{row.torch.minor}", row.index)
        for row in facts.torch
        if row.index != "pypi"
    }
    assert ("2.5", "pytorch-cu121") in elsewhere
    assert ("2.14", "pytorch-cu132") in elsewhere
    assert all(row.status == "inferred" for row in facts.torch if row.index != "pypi")


def test_tags_of_images_are_read_on_demand() -> None:
    found = {row.os: row for row in catalog.load_images() if str(row.cuda) == "12.4.1"}
    assert "12.4.1-cudnn-devel-ubuntu22.04" in found["ubuntu22.04"].tags
    assert found["ubuntu22.04"].state == "supported"


def test_a_shrunken_answer_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = copy / "survey.json"
    survey.write_text(json.dumps(SURVEY))
    monkeypatch.setattr(refresh_catalog, "FACTS", copy / "facts")
    before = (copy / "facts" / "torch.json").read_text()
    with pytest.raises(SystemExit) as caught:
        refresh_catalog.main([str(survey), "--write"])
    assert "would shrink from 79 rows to" in str(caught.value)
    assert (copy / "facts" / "torch.json").read_text() == before


def test_refresh_writes_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = tmp_path / "survey.json"
    survey.write_text(json.dumps(SURVEY))
    (tmp_path / "facts").mkdir()
    monkeypatch.setattr(refresh_catalog, "FACTS", tmp_path / "facts")
    assert refresh_catalog.main([str(survey)]) == 1
    assert list((tmp_path / "facts").iterdir()) == []
    assert refresh_catalog.main([str(survey), "--write"]) == 0
    assert refresh_catalog.main([str(survey)]) == 0
