"""Film reviews from a small grammar: data for a fine-tune that needs no network and no licence.

    the {aspect} {was|felt|is} {negation | adverb} {adjective} [filler]

The label is the adjective's polarity, inverted by a negation. About a third of the reviews are negated, so that
counting words is not enough and attention has something to learn. The same seed gives the same reviews on every Python.
"""

from __future__ import annotations

import random
from typing import AbstractSet, Any, Dict, Sequence, Tuple

Review = Dict[str, Any]  # "text", "label" (1: positive) and "negated"
Pair = Tuple[str, str]

ASPECTS = (
    "film movie story plot acting cast script dialogue "
    "music score ending pacing humour camera sound direction"
).split()
VERBS = "was felt is".split()
ADVERBS = "really very quite truly simply rather".split()
NEGATIONS = "not never".split()
POSITIVE = "good great lovely brilliant moving funny clever superb".split()
NEGATIVE = "bad awful boring dull clumsy weak tedious terrible".split()
FILLERS = (
    "from start to end",
    "for the most part",
    "in my view",
    "as i told my friend",
    "like last time",
    "on a big screen",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> list[str]:
    """Every token that a review can have, special ones first: the lines of a vocab.txt."""
    words = {
        "the",
        *ASPECTS,
        *VERBS,
        *ADVERBS,
        *NEGATIONS,
        *POSITIVE,
        *NEGATIVE,
    }
    for filler in FILLERS:
        words.update(filler.split())
    return [*SPECIAL, *sorted(words)]


def max_reviews(negated: float = 0.3) -> int:
    """How many distinct reviews to draw at most: half of what the grammar has.

    Beyond that drawing new ones slows down, and the share of negated ones shifts.
    """
    adjectives = len(POSITIVE) + len(NEGATIVE)
    endings = 1 + len(FILLERS)
    per_modifier = len(ASPECTS) * len(VERBS) * adjectives * endings / 2
    limit = float("inf")
    if negated > 0:
        limit = per_modifier * len(NEGATIONS) / negated
    if negated < 1:
        with_adverb = per_modifier * len(ADVERBS) / (1 - negated)
        limit = min(limit, with_adverb)
    return int(limit)


def make_reviews(
    rows: int = 2000,
    held_out: int = 500,
    negated: float = 0.3,
    seed: int = 0,
) -> tuple[list[Review], list[Review]]:
    """Two disjoint lists of reviews: to train on, and to evaluate on."""
    limit = max_reviews(negated)
    if rows + held_out > limit:
        raise ValueError(
            f"{rows + held_out} reviews requested; the grammar has {limit} that differ enough"
        )
    generator = random.Random(seed)
    texts = set()
    reviews: list[Review] = []
    while len(reviews) < rows + held_out:
        review = _make_review(generator, negated)
        if review["text"] not in texts:
            texts.add(review["text"])
            reviews.append(review)
    return reviews[:rows], reviews[rows:]


def make_pairs(
    rows: int,
    excluded: AbstractSet[str],
    negated: float = 0.3,
    seed: int = 0,
) -> list[Pair]:
    """Pairs of a sentence and two to four keywords of the same opinion: unlabelled text to pre-train on.

    What is said twice can be learned without labels: the keywords show which adjectives belong together, and the
    sentence next to them what a negation does. No sentence is one of `excluded`.
    """
    generator = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < rows:
        review = _make_review(generator, negated)
        adjectives = POSITIVE if review["label"] else NEGATIVE
        keywords = _draw_keywords(generator, adjectives)
        sentence = review["text"]
        if sentence not in excluded:
            pairs.append((sentence, " ".join(keywords)))
    return pairs


def _draw_keywords(generator: random.Random, adjectives: Sequence[str]) -> list[str]:
    remaining = list(adjectives)
    count = 2 + int(generator.random() * 3)
    keywords = []
    for _ in range(count):
        position = int(generator.random() * len(remaining))
        keywords.append(remaining.pop(position))
    return keywords


def _make_review(generator: random.Random, negated: float) -> Review:
    positive = generator.random() < 0.5
    inverted = generator.random() < negated
    words = [
        "the",
        _pick(generator, ASPECTS),
        _pick(generator, VERBS),
        _pick(generator, NEGATIONS if inverted else ADVERBS),
        _pick(generator, POSITIVE if positive else NEGATIVE),
    ]
    if generator.random() < 0.5:
        words.append(_pick(generator, FILLERS))
    return {
        "text": " ".join(words),
        "label": int(positive != inverted),
        "negated": inverted,
    }


def _pick(generator: random.Random, choices: Sequence[str]) -> str:
    # random.choice changed between Python versions; random.random never did.
    return choices[int(generator.random() * len(choices))]
