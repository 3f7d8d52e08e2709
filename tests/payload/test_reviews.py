"""The grammar: disjoint, labelled by its rule, the same everywhere."""

import hashlib
import json
from typing import Any

import pytest

from train import reviews


def all_reviews() -> list[dict[str, Any]]:
    rows, held_out = reviews.make_reviews()
    return rows + held_out


def test_the_data_are_always_the_same() -> None:
    text = json.dumps(reviews.make_reviews(), sort_keys=True)
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "b4235e1a12fbb9b77b8fc96b3ab9a88de4371dc400abadbcd597fd0f91e0f37c"
    )


def test_training_and_evaluation_reviews_are_disjoint() -> None:
    rows, held_out = reviews.make_reviews()
    assert (len(rows), len(held_out)) == (2000, 500)
    assert not {row["text"] for row in rows} & {row["text"] for row in held_out}


def test_the_label_is_polarity_turned_by_negation() -> None:
    for review in all_reviews():
        words = set(review["text"].split())
        assert review["negated"] == bool(words & set(reviews.NEGATIONS))
        assert review["label"] == (
            bool(words & set(reviews.POSITIVE)) != review["negated"]
        )


def test_three_in_ten_are_negated_and_half_are_good() -> None:
    rows = all_reviews()
    assert 0.27 < sum(row["negated"] for row in rows) / len(rows) < 0.36
    assert 0.45 < sum(row["label"] for row in rows) / len(rows) < 0.55


def test_every_word_has_its_token() -> None:
    words = {word for row in all_reviews() for word in row["text"].split()}
    tokens = reviews.vocabulary()
    assert words <= set(tokens)
    assert len(tokens) == len(set(tokens))
    assert tokens[:5] == list(reviews.SPECIAL)


def test_grammar_reports_that_it_is_exhausted() -> None:
    limit = reviews.max_reviews()
    rows, held_out = reviews.make_reviews(limit - 500, 500)
    assert len({row["text"] for row in rows + held_out}) == limit
    assert 0.27 < sum(row["negated"] for row in rows + held_out) / limit < 0.31
    with pytest.raises(ValueError, match=f"the grammar has {limit} that differ enough"):
        reviews.make_reviews(limit, 1)


def test_counting_words_is_not_enough() -> None:
    """The best that any vote of single words can do: each word weighed by how it goes with the label."""
    rows, held_out = reviews.make_reviews()
    weights: dict[str, float] = {}
    for row in rows:
        for word in set(row["text"].split()):
            weights[word] = (
                weights.get(word, 0.0) + (row["label"] or -1) / len(rows) * 20
            )
    right = [
        (sum(weights.get(word, 0) for word in row["text"].split()) > 0)
        == bool(row["label"])
        for row in held_out
    ]
    assert sum(right) / len(right) < 0.75
