"""What a command prints with `--json`, held against its schema in docs/reference/schemas/."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "schemas"


def problems(name: str, document: Any) -> list[str]:
    """What the schema called `name` says against a document."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    return [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(document)
    ]
