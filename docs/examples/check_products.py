"""Our products are words that the tokenizer knows."""

import json
import tempfile
from pathlib import Path

from transformers import BertTokenizer

PRODUCTS = ["film", "movie", "score"]

with (
    tempfile.TemporaryDirectory() as folder
):  # yours would be a folder that you mount, or a name on a hub
    vocabulary = Path(folder, "vocab.txt")
    vocabulary.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PRODUCTS]),
        encoding="utf-8",
    )
    tokenizer = BertTokenizer(str(vocabulary))

unknown = []
for done, product in enumerate(PRODUCTS, 1):
    print(
        json.dumps(
            {"event": "progress", "done": done, "total": len(PRODUCTS), "text": product}
        )
    )
    unknown += [product] if tokenizer.tokenize(product) == ["[UNK]"] else []

answer = {
    "value": len(unknown),
    "bound": {"max": 0},
    "detail": f"unknown: {', '.join(unknown)}",
}
print(json.dumps({"event": "result", **answer, "remedy": "add them to the vocabulary"}))
