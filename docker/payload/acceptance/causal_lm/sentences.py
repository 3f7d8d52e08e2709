"""The task: `<s> dofa rula … = dofa rula … </s>`. The words before `=` are drawn at random; those after it repeat them.

A model without attention sees one word and its place. The next word of the answer is independent of both, so its loss
on a word is at least ln 32 = 3.47 nats, and it gets one word in 32 right. Only attention to the words before `=` does
better. There are 32 to the power of 8 sentences, a trillion: what is right on held-out sentences was not memorized.
"""

from __future__ import annotations

import math
import random
from itertools import product
from typing import List, Sequence

LENGTH = 8  # words before `=`
PAD, START, END, UNKNOWN, EQUALS = "<pad>", "<s>", "</s>", "<unk>", "="
SPECIAL = (PAD, START, END, UNKNOWN)

Sentence = List[str]  # the words before `=`


def all_words() -> list[str]:
    """32 words of four letters."""
    first = ("do", "ru", "ki", "me")
    second = ("fa", "la", "so", "tu", "ba", "ne", "wi", "po")
    return [a + b for a, b in product(first, second)]


WORDS = all_words()
# The least loss on a word of the answer without attention, in nats.
ENTROPY = math.log(len(WORDS))


def draw_sentences(count: int, seed: int) -> list[Sentence]:
    generator = random.Random(seed)
    return [generator.choices(WORDS, k=LENGTH) for _ in range(count)]


def copy(sentence: Sentence) -> Sentence:
    """The answer that the whole model learns."""
    return list(sentence)


def translate(sentence: Sentence) -> Sentence:
    """The answer that the adapter learns: of each word its partner, sixteen words further on. Its bound is the same."""
    half = len(WORDS) // 2
    answer = []
    for word in sentence:
        place = WORDS.index(word)
        answer.append(WORDS[(place + half) % len(WORDS)])
    return answer


def prompt(sentence: Sentence, answer: Sequence[str] = ()) -> str:
    """What the model has to continue; `answer` is the part of the answer that it gets."""
    return " ".join([START, *sentence, EQUALS, *answer])


def text(sentence: Sentence, answer: Sentence) -> str:
    """A sentence with its answer."""
    return f"{prompt(sentence, answer)} {END}"
