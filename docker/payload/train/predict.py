#!/usr/bin/env python3
"""Classify texts with a model that `train` saved: one JSON line for each text.

predict DIR TEXT …        or texts on standard input, one per line
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import chain
from pathlib import Path
from typing import Any, Iterator, Sequence

for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_name, "1")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict",
        description="Classify texts with a model that `train` saved.",
    )
    parser.add_argument(
        "model",
        metavar="DIR",
        help="the directory that `train --output DIR` wrote",
    )
    parser.add_argument(
        "texts",
        metavar="TEXT",
        nargs="*",
        help="texts [standard input, one per line]",
    )
    return parser


def read_texts(arguments: Sequence[str]) -> Iterator[str] | None:
    """The texts, read as they are needed; None if there are none."""
    if arguments:
        return iter(arguments)
    if sys.stdin is None or sys.stdin.isatty():
        return None
    first = sys.stdin.readline()
    if not first:
        return None
    return (line.rstrip("\n") for line in chain([first], sys.stdin))


def classify(model: Any, tokenizer: Any, text: str) -> dict[str, object]:
    """The most probable label, and its probability."""
    import torch

    limit = model.config.max_position_embeddings
    inputs = tokenizer(
        text,
        truncation=True,
        max_length=limit,
        return_tensors="pt",
    )
    with torch.no_grad():
        probabilities = model(**inputs).logits.softmax(-1)[0]
    best = int(probabilities.argmax())
    return {
        "label": model.config.id2label[best],
        "score": round(float(probabilities[best]), 4),
        "text": text,
    }


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    if not Path(options.model, "config.json").exists():
        parser.error(f"no model in {options.model}: `train --output DIR` saves one")
    # Before the libraries are imported, which takes seconds.
    texts = read_texts(options.texts)
    if texts is None:
        parser.error(
            "no text: `predict DIR TEXT …`, or one per line on standard input (`docker run --interactive`)"
        )

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    for text in texts:
        print(
            json.dumps(classify(model, tokenizer, text), ensure_ascii=False), flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
