"""How texts become pairs for the pre-training, without torch; what it gains is measured in tests/container."""

import random
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from train import reviews


class Tokenizer:
    """One token a letter; 1 begins a text and 2 ends it."""

    cls_token_id, sep_token_id = 1, 2

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.fixture
def pretrain(job: ModuleType) -> ModuleType:
    return sys.modules["train.pretrain"]


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("One. Two.", ("One.", "Two.")),
        ("One! Two? Three", {("One!", "Two? Three"), ("One! Two?", "Three")}),
        ("一。二。", ("一。", "二。")),
        ("one\n\ntwo", ("one", "two")),
        ("Version 2.0 is one sentence", ("Version 2.0 is one sentence", "")),
    ],
)
def test_a_text_is_cut_at_the_end_of_a_sentence(
    pretrain: Any, text: str, halves: Any
) -> None:
    seen = {pretrain.split_text(text, random.Random(seed)) for seed in range(20)}
    assert seen == (halves if isinstance(halves, set) else {halves})


def test_half_of_the_pairs_get_a_foreign_second_half(pretrain: Any) -> None:
    texts = [(f"a{number}", f"b{number}") for number in range(1000)]
    examples = pretrain.make_examples(texts, random.Random(0))
    assert [first for first, _, _ in examples] == [first for first, _ in texts]
    assert {
        (second == "b" + first[1:], label) for first, second, label in examples
    } == {(True, 0), (False, 1)}
    assert 450 < sum(label for _, _, label in examples) < 550


def test_texts_of_one_sentence_are_no_pairs(pretrain: Any) -> None:
    assert pretrain.make_examples([("a", ""), ("b", "c"), ("d", "")], random.Random(0)) == [
        ("a", "", pretrain.IGNORED), ("b", "c", pretrain.IGNORED), ("d", "", pretrain.IGNORED)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "said", "kinds"),
    [
        ("ab", "cd", "[ab]cd]", "0000111"),
        ("abcdefgh", "", "[abcdef]", "00000000"),
        ("abcdefgh", "ijklmnop", "[gh]ijk]", "00001111"),  # what is nearest to the cut
        ("abcdefgh", "i", "[efgh]i]", "00000011"),
        ("a", "ijklmnop", "[a]ijkl]", "00011111"),
    ],
)
def test_long_pair_keeps_the_text_around_the_cut(
    pretrain: Any, first: str, second: str, said: str, kinds: str
) -> None:
    row = pretrain.encode(first, second, Tokenizer(), 8)
    assert (
        "".join(
            {1: "[", 2: "]"}.get(number, chr(number)) for number in row["input_ids"]
        )
        == said
    )
    assert "".join(map(str, row["token_type_ids"])) == kinds
    assert row["attention_mask"] == [1] * len(said)


def test_labelled_and_held_out_texts_are_not_used(pretrain: Any) -> None:
    rows, held_out = reviews.make_reviews(500, 200)
    parts = [{"text": [review["text"] for review in part]} for part in (rows, held_out)]
    settings = SimpleNamespace(data="bundled", pretrain_rows=3000)
    texts, others = pretrain.load_texts(settings, *parts)
    assert (len(texts), len(others)) == (3000, 500)
    assert not {first for first, _ in texts + others} & {
        *parts[0]["text"],
        *parts[1]["text"],
    }
    words = {word for pair in texts for half in pair for word in half.split()}
    assert words <= set(reviews.vocabulary())


def test_keywords_share_the_opinion_of_the_sentence() -> None:
    for sentence, keywords in reviews.make_pairs(500, set()):
        negated = not set(reviews.NEGATIONS).isdisjoint(sentence.split())
        good = not set(reviews.POSITIVE).isdisjoint(sentence.split())
        chosen = keywords.split()
        assert set(chosen) <= set(
            reviews.POSITIVE if good != negated else reviews.NEGATIVE
        )
        assert len(set(chosen)) == len(chosen) in (2, 3, 4)
