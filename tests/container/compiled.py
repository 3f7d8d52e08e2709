#!/usr/bin/env python3
"""A small job with and without --compile, run in an image next to the payload: one JSON line with both results.

python compiled.py PAYLOAD [OPTION …]
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
from train import job as train
from train import options

SMALL = "--num-layers 1 --hidden-size 16 --max-train-samples 64 --max-eval-samples 20".split()
SMALL += "--epochs 2 --learning-rate 1e-2".split()


def run(words):
    settings = options.parse_settings(SMALL + words)
    rows, held_out, names = train.load_data(settings)
    model, tokenizer = train.load_model(settings, names)
    data, unseen = (
        train.tokenize(part, tokenizer, settings) for part in (rows, held_out)
    )
    losses = train.train(model, data, settings, "cpu", tokenizer=tokenizer)
    model.eval()
    with train.torch.no_grad():
        texts = [
            {name: row[name][None] for name in ("input_ids", "attention_mask")}
            for row in unseen
        ]
        logits = train.torch.cat([model(**text).logits for text in texts])
    return losses, logits, sorted(model.state_dict())


def largest(one, other):
    return max(abs(first - second) for first, second in zip(one, other))


losses, logits, names = run(sys.argv[2:])
compiled_losses, compiled_logits, compiled_names = run([*sys.argv[2:], "--compile"])
from torch._dynamo.utils import counters

answer = {
    "losses": largest(losses, compiled_losses),
    "logits": (logits - compiled_logits).abs().max().item(),
    "moved": largest(losses[:1], losses[-1:]),
    "names": names == compiled_names,
    "graphs": counters["stats"]["unique_graphs"],
    "breaks": dict(counters["graph_break"]),
}
print(json.dumps(answer))
