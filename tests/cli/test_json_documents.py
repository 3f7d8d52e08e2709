"""Every document of `--json` fits the schema that the reference publishes for it."""

import json
from pathlib import Path

import hosts
import pytest
from json_documents import FOLDER, problems
from jsonschema import Draft202012Validator

import json_schemas
from envbuilder.host import local_probe

from .conftest import Run

ROOT = Path(__file__).parents[2]
LOCK = str(ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock")


@pytest.mark.parametrize("name", json_schemas.DOCUMENTS)
def test_schema_is_up_to_date(name: str) -> None:
    text = (FOLDER / f"{name}.schema.json").read_text()
    assert text == json_schemas.schema_of(name), "`make schema` writes it again"
    Draft202012Validator.check_schema(json.loads(text))


def test_every_schema_has_a_line_on_the_page() -> None:
    page = (FOLDER.parent / "json.md").read_text()
    assert {path.name.removesuffix(".schema.json") for path in FOLDER.iterdir()} == set(
        json_schemas.DOCUMENTS
    )
    assert all(
        f"(schemas/{name}.schema.json)" in page for name in json_schemas.DOCUMENTS
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resolve", ["resolve", "--cuda", "11.7"]),
        ("build-plan", ["build", "--cuda", "11.7", "--dry-run"]),
        ("build-plan", ["build", "--lock", LOCK, "--dry-run"]),
        (
            "resolve",
            [
                "resolve",
                "--cuda",
                "13.2",
                "--flavour",
                "devel",
                "--package",
                "peft",
                "--explain",
            ],
        ),
        ("resolve", ["resolve", "--flavour", "cpu", "--platform", "arm64"]),
        ("conflict", ["resolve", "--cuda", "11.7", "--gpu", "H100"]),
        ("conflict", ["resolve", "--cuda", "11.7", "--gpu", "H100", "--explain"]),
        ("error", ["resolve", "--cuda", "eleven"]),
        ("error", ["render", "--lock", "absent.lock"]),
        ("error", ["resolve", "--cudaa", "1"]),
        ("error", ["inspect"]),
        ("render", ["render", "--lock", LOCK]),
        ("render", ["render", "--lock", LOCK, "--check"]),
        ("init", ["init", "--lock", LOCK, "--target", "compose"]),
        ("catalog-verify", ["catalog", "verify"]),
        ("catalog-images", ["catalog", "images", "11.7"]),
    ],
    ids=lambda value: (
        " ".join(value).replace(LOCK, "LOCK") if isinstance(value, list) else value
    ),
)
def test_a_document_fits_its_schema(run: Run, name: str, words: list[str]) -> None:
    assert problems(name, json.loads(run(*words, "--json").out)) == []


@pytest.mark.parametrize(
    "host", ["this-machine", "two-kinds", "engine-missing", "jetson-orin"]
)
def test_a_diagnosis_fits_its_schema(
    run: Run, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(
        local_probe, "new_probe", lambda *_: hosts.play(hosts.read(host))
    )
    assert problems("doctor", json.loads(run("doctor", "--json").out)) == []


def test_document_with_an_unknown_field_is_refused(run: Run) -> None:
    document = json.loads(run("catalog", "verify", "--json").out)
    assert problems("catalog-verify", document | {"other": 1})
    del document["rows"]
    assert problems("catalog-verify", document) == ["$: 'rows' is a required property"]
