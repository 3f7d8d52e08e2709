#!/usr/bin/env python3
"""The bundled fine-tune and broken versions of it, to show that the bounds can tell them apart.

    python variants.py PAYLOAD [NAME …]

Runs inside an image, next to the payload, and breaks the job from outside: the job has no option for it. One JSON
line a variant: {"name", "accuracy", "negated", "seconds"}.
"""

import json
import random
import sys
import time

sys.path.insert(0, sys.argv[1])
import torch

from train import job as train
from train import model, reviews


def measure(broken=None, module=train, **knobs):
    """What the job measures with these settings, and with these functions of a module replaced."""
    settings = train.parse_settings([])
    for knob, value in knobs.items():
        setattr(settings, knob, value)
    kept = {attribute: getattr(module, attribute) for attribute in broken or {}}
    for attribute, replacement in (broken or {}).items():
        setattr(module, attribute, replacement)
    try:
        return train.fine_tune(settings)[0]
    finally:
        for attribute, value in kept.items():
            setattr(module, attribute, value)


def working():
    return measure()


def another_seed():
    return measure(seed=7)


def frozen():
    """Only the classifier on top learns."""
    make_model = model.make_model

    def make_frozen(settings, words):
        bert = make_model(settings, words)
        for parameter in bert.bert.parameters():
            parameter.requires_grad = False
        return bert

    return measure({"make_model": make_frozen}, module=model)


def learning_rate_0():
    return measure(learning_rate=0.0)


def shuffled_labels():
    """Training labels are shuffled; those for evaluation are correct."""
    load_data = train.load_data

    def load_shuffled(settings):
        rows, held_out, names = load_data(settings)
        labels = list(rows["label"])
        random.Random(1).shuffle(labels)
        return rows.remove_columns("label").add_column("label", labels), held_out, names

    return measure({"load_data": load_shuffled})


def permuted_vocabulary():
    """What is held out is read with another vocabulary than what was trained on."""
    tokenize, seen = train.tokenize, []

    def tokenize_otherwise(rows, tokenizer, settings):
        seen.append(1)
        if len(seen) == 2:
            words = reviews.vocabulary()
            special, rest = words[:5], words[5:]
            random.Random(1).shuffle(rest)
            tokenizer = train.make_tokenizer(special + rest)
        return tokenize(rows, tokenizer, settings)

    return measure({"tokenize": tokenize_otherwise})


def bag_of_words():
    """Logistic regression on word counts: as far as one gets without attention."""
    torch.manual_seed(0)
    rows, held_out = reviews.make_reviews()
    number = {word: n for n, word in enumerate(reviews.vocabulary())}

    def counts(some):
        matrix = torch.zeros(len(some), len(number))
        for line, review in zip(matrix, some):
            for word in review["text"].split():
                line[number[word]] += 1
        return matrix, torch.tensor([review["label"] for review in some])

    inputs, labels = counts(rows)
    linear = torch.nn.Linear(len(number), 2)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(linear(inputs), labels).backward()
        optimizer.step()
    inputs, labels = counts(held_out)
    right = (linear(inputs).argmax(-1) == labels).tolist()
    negated = [good for good, review in zip(right, held_out) if review["negated"]]
    return {"accuracy": sum(right) / len(right), "negated": sum(negated) / len(negated)}


VARIANTS = (
    working,
    another_seed,
    frozen,
    learning_rate_0,
    shuffled_labels,
    permuted_vocabulary,
    bag_of_words,
)

if __name__ == "__main__":
    for variant in VARIANTS:
        if variant.__name__ in (sys.argv[2:] or [one.__name__ for one in VARIANTS]):
            started = time.monotonic()
            measured = variant()
            answer = {
                "name": variant.__name__,
                "accuracy": measured["accuracy"],
                "negated": measured["negated"],
            }
            print(
                json.dumps(dict(answer, seconds=round(time.monotonic() - started, 1))),
                flush=True,
            )
