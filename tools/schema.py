"""Write docs/reference/receipt.schema.json from the code: `make schema`."""

from pathlib import Path

from envbuilder.acceptance.schema import receipt_schema

FILE = Path(__file__).parent.parent / "docs" / "reference" / "receipt.schema.json"

if __name__ == "__main__":
    FILE.write_text(receipt_schema(), encoding="utf-8", newline="\n")
