"""docs/reference/receipt.schema.json is what the code says; it fits real receipts and refuses broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import samples
from jsonschema import Draft202012Validator

from envbuilder import serialize
from envbuilder.acceptance.schema import receipt_schema
from envbuilder.model import Check, Receipt, Status, Verdict

FILE = Path(__file__).parents[2] / "docs" / "reference" / "receipt.schema.json"
SCHEMA = json.loads(FILE.read_text())
GOOD = [
    samples.passed(),
    samples.failed(),
    samples.bare(),
    samples.bare(
        Check(id="a.b", title="A", status=Status.ERROR, value=float("nan")),
        verdict=Verdict.INCOMPLETE,
    ),
]


def problems(document: object) -> list[str]:
    return [
        error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)
    ]


def test_schema_is_up_to_date() -> None:
    assert FILE.read_text() == receipt_schema(), "`make schema` writes it again"


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_field_of_today_is_described() -> None:
    undescribed = {
        f"{noun}.{name}"
        for noun in ("Receipt", "Check")
        for name, field in SCHEMA["$defs"][noun]["properties"].items()
        if not field.get("description") and field.get("$ref") != "#/$defs/Status"
    }
    assert undescribed == set()


@pytest.mark.parametrize(
    "receipt", GOOD, ids=["passed", "failed", "bare", "not a number"]
)
def test_receipts_fit(receipt: Receipt) -> None:
    assert problems(json.loads(serialize.dumps(receipt))) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "maybe"}, "'maybe' is not one of"),
        ({"checks": None}, "None is not of type 'array'"),
        ({"schema": 2}, "1 was expected"),
        ({"image": 7}, "7 is not of type 'string'"),
        (
            {"checks": [{"id": "a", "title": "A", "status": "fine"}]},
            "'fine' is not one of",
        ),
        (
            {"checks": [{"id": "a", "status": "passed"}]},
            "'title' is a required property",
        ),
    ],
)
def test_broken_receipts_are_refused(change: dict[str, Any], message: str) -> None:
    found = problems({**json.loads(serialize.dumps(samples.passed())), **change})
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    "name", ["schema", "image", "suite", "host", "verdict", "checks"]
)
def test_required_fields_must_not_be_missing(name: str) -> None:
    document = json.loads(serialize.dumps(samples.passed()))
    del document[name]
    assert problems(document) == [f"{name!r} is a required property"]
