"""Write docs/reference/receipt.schema.json and docs/reference/schemas/ from the code: `make schema`."""

from pathlib import Path

from envbuilder.acceptance.schema import receipt_schema
from json_schemas import DOCUMENTS, schema_of

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

if __name__ == "__main__":
    (FOLDER / "receipt.schema.json").write_text(
        receipt_schema(), encoding="utf-8", newline="\n"
    )
    for name in DOCUMENTS:
        (FOLDER / "schemas" / f"{name}.schema.json").write_text(
            schema_of(name), encoding="utf-8", newline="\n"
        )
