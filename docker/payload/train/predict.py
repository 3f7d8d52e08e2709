#!/usr/bin/env python3
"""Answer with a model that `train` left: one JSON line for each text.

predict DIR TEXT …        or texts on standard input, one a line
"""

import argparse
import json
import os
import sys

for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_name, "1")


def main():
    parser = argparse.ArgumentParser(prog="predict", description="Classify texts with a model that `train` left.")
    parser.add_argument("model", metavar="DIR", help="what `train --output DIR` wrote")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts [standard input, one a line]")
    options = parser.parse_args()
    if not os.path.exists(os.path.join(options.model, "config.json")):
        parser.error("%s holds no model: `train --output DIR` leaves one" % options.model)
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    for text in options.texts or (line.rstrip("\n") for line in sys.stdin):
        words = tokenizer(text, truncation=True, max_length=model.config.max_position_embeddings, return_tensors="pt")
        with torch.no_grad():
            shares = model(**words).logits.softmax(-1)[0]
        best = int(shares.argmax())
        answer = {"label": model.config.id2label[best], "score": round(float(shares[best]), 4), "text": text}
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
