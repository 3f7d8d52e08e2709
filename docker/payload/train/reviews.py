"""Film reviews from a grammar of our own: data for a fine-tune that needs no network and no licence.

    the {aspect} {was|felt|is} {negation | adverb} {adjective} [filler]

The label is the adjective's polarity, turned round by a negation. About a third of the reviews are negated, so that
counting words is not enough and attention has something to do. The same seed gives the same reviews on every Python.
"""

import random

ASPECTS = (
    "film movie story plot acting cast script dialogue music score ending pacing humour camera sound direction".split()
)
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


def vocabulary():
    """Every token a review can have, special ones first: the lines of a vocab.txt."""
    words = set("the".split() + ASPECTS + VERBS + ADVERBS + NEGATIONS + POSITIVE + NEGATIVE)
    words.update(word for filler in FILLERS for word in filler.split())
    return list(SPECIAL) + sorted(words)


def most(negated=0.3):
    """How many reviews there can be: half of what the grammar can say, lest drawing slows and the shares shift."""
    each = len(ASPECTS) * len(VERBS) * len(POSITIVE + NEGATIVE) * (1 + len(FILLERS)) / 2
    sides = ((len(NEGATIONS), negated), (len(ADVERBS), 1 - negated))
    return int(min(each * words / share for words, share in sides if share > 0))


def make_reviews(rows=2000, held_out=500, negated=0.3, seed=0):
    """Two disjoint lists, to train on and to hold out, of {"text", "label" (1 positive), "negated" (bool)}."""
    if rows + held_out > most(negated):
        raise ValueError("%d reviews are more than the %d that differ enough" % (rows + held_out, most(negated)))
    source = random.Random(seed)
    seen, reviews = set(), []
    while len(reviews) < rows + held_out:
        review = _make_review(source, negated)
        if review["text"] not in seen:
            seen.add(review["text"])
            reviews.append(review)
    return reviews[:rows], reviews[rows:]


def make_pairs(rows, apart, negated=0.3, seed=0):
    """(sentence, two to four keywords of the same opinion) of reviews that nobody labelled: text to pre-train on.

    What is said twice is what can be learned without labels: the keywords show which adjectives go together, and the
    sentence beside them what a negation does. No sentence is one of `apart`, a set of texts.
    """
    source = random.Random(seed)
    pairs = []
    while len(pairs) < rows:
        review = _make_review(source, negated)
        left = list(POSITIVE if review["label"] else NEGATIVE)
        keywords = [left.pop(int(source.random() * len(left))) for _ in range(2 + int(source.random() * 3))]
        if review["text"] not in apart:
            pairs.append((review["text"], " ".join(keywords)))
    return pairs


def _make_review(source, negated):
    positive, turned = source.random() < 0.5, source.random() < negated
    words = ["the", _pick(source, ASPECTS), _pick(source, VERBS), _pick(source, NEGATIONS if turned else ADVERBS)]
    words.append(_pick(source, POSITIVE if positive else NEGATIVE))
    if source.random() < 0.5:
        words.append(_pick(source, FILLERS))
    return {"text": " ".join(words), "label": int(positive != turned), "negated": turned}


def _pick(source, choices):
    """random.choice changed between Python versions; random.random never did."""
    return choices[int(source.random() * len(choices))]
