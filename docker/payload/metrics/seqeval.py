"""`evaluate.load("seqeval")` without a hub, and without the package seqeval, which PyPI has as source alone.

Scores of whole entities in tagged sequences (`B-PER I-PER O`): an entity counts if its type, its first and its last
word are right. The features and results are those of the metric on the hub, with the rules of CoNLL's `conlleval`.
`mode="strict"` with a `scheme` checks tags against a scheme: that needs the package.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any, Iterator, Sequence, Tuple

import datasets
import evaluate

OUTSIDE = "O"
NAMELESS = "_"  # the type of a tag that names none
AVERAGES = {"micro avg", "macro avg", "weighted avg"}
Entity = Tuple[str, int, int]  # type, first word, last word
Tag = Tuple[str, str]  # "B", "PER"


class Seqeval(evaluate.Metric):
    """Precision, recall and F1 for each type of entity and of all together; the share of tags that are right."""

    def _info(self) -> Any:
        tags = datasets.Sequence(datasets.Value("string", id="label"), id="sequence")
        return evaluate.MetricInfo(
            description="Precision, recall and F1 of the entities in tagged sequences.",
            citation="",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(
        self,
        *,
        predictions: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        suffix: bool = False,
        scheme: str | None = None,
        mode: str | None = None,
        sample_weight: Any = None,
        zero_division: Any = "warn",
    ) -> dict[str, Any]:
        check_lengths(predictions, references)
        empty = 0.0 if zero_division == "warn" else float(zero_division)
        if mode == "strict" and scheme:
            scores = strict_scores(references, predictions, suffix, scheme, empty)
        else:
            true = entities_of(references, suffix)
            predicted = entities_of(predictions, suffix)
            scores = entity_scores(true, predicted, empty)
        scores["overall_accuracy"] = accuracy(references, predictions)
        return scores


def check_lengths(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> None:
    """Raise `ValueError` for a sequence whose prediction has another length."""
    for row, (predicted, true) in enumerate(zip(predictions, references)):
        if len(predicted) != len(true):
            raise ValueError(
                f"row {row} has {len(true)} tags, and {len(predicted)} are predicted"
            )


# --- entities ------------------------------------------------------------------------------------------------------


def entities_of(rows: Sequence[Sequence[str]], suffix: bool) -> set[Entity]:
    """The entities of all rows; words are counted through, with one between two rows that is outside of any."""
    words: list[str] = []
    for row in rows:
        words += [*row, OUTSIDE]
    return set(entities(words, suffix))


def entities(words: Sequence[str], suffix: bool) -> Iterator[Entity]:
    """Yield the entities of a sequence of tags."""
    last: Tag = (OUTSIDE, "")
    first_word = 0
    for place, word in enumerate([*words, OUTSIDE]):
        tag = split(word, suffix)
        if ends(last, tag):
            yield last[1], first_word, place - 1
        if starts(last, tag):
            first_word = place
        last = tag


def split(word: str, suffix: bool) -> Tag:
    """`B-PER`, or `PER-B` with `suffix`, in its two parts."""
    if suffix:
        return word[-1:], word[:-1].rpartition("-")[0] or word[:-1] or NAMELESS
    head, dash, rest = word[1:].partition("-")
    return word[:1], (rest if dash else head) or NAMELESS


def ends(last: Tag, tag: Tag) -> bool:
    """Whether an entity ends before `tag`."""
    if last[0] in ("E", "S"):
        return True
    if last[0] in ("B", "I") and tag[0] in ("B", "S", OUTSIDE):
        return True
    return last[0] not in (OUTSIDE, ".") and last[1] != tag[1]


def starts(last: Tag, tag: Tag) -> bool:
    """Whether an entity starts at `tag`."""
    if tag[0] in ("B", "S"):
        return True
    if last[0] in ("E", "S", OUTSIDE) and tag[0] in ("E", "I"):
        return True
    return tag[0] not in (OUTSIDE, ".") and last[1] != tag[1]


# --- scores --------------------------------------------------------------------------------------------------------


def entity_scores(
    true: set[Entity], predicted: set[Entity], empty: float
) -> dict[str, Any]:
    """The scores by type, then those of all; `empty` is a share of nothing."""
    right = Counter(kind for kind, _, _ in true & predicted)
    real = Counter(kind for kind, _, _ in true)
    found = Counter(kind for kind, _, _ in predicted)
    scores: dict[str, Any] = {}
    for kind in sorted({*real, *found}):
        precision, recall, f1 = shares(right[kind], found[kind], real[kind], empty)
        scores[kind] = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "number": real[kind],
        }
    overall = shares(len(true & predicted), len(predicted), len(true), empty)
    for name, share in zip(("precision", "recall", "f1"), overall):
        scores[f"overall_{name}"] = share
    return scores


def shares(
    right: int, found: int, real: int, empty: float
) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    precision = right / found if found else empty
    recall = right / real if real else empty
    total = precision + recall
    f1 = 2 * precision * recall / total if total else 0.0
    return precision, recall, f1


def accuracy(
    references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> float:
    """The share of tags that are right."""
    right = 0
    count = 0
    for true, predicted in zip(references, predictions):
        count += len(true)
        right += sum(map(str.__eq__, true, predicted))
    return right / count if count else 0.0


def strict_scores(
    references: Sequence[Sequence[str]],
    predictions: Sequence[Sequence[str]],
    suffix: bool,
    scheme: str,
    empty: float,
) -> dict[str, Any]:
    """The scores of entities tagged as a scheme, such as `IOB2`, allows. Raises `ImportError` without seqeval."""
    try:
        metrics = importlib.import_module("seqeval.metrics")
        rules = importlib.import_module("seqeval.scheme")
    except ImportError as error:
        raise ImportError(
            'mode="strict" needs the package seqeval: `envbuilder build --package seqeval` and the image\'s options'
        ) from error
    report = metrics.classification_report(
        references,
        predictions,
        output_dict=True,
        mode="strict",
        scheme=getattr(rules, scheme),
        suffix=suffix,
        zero_division=empty,
    )
    overall = report["micro avg"]
    scores: dict[str, Any] = {}
    for kind in sorted(report.keys() - AVERAGES):
        row = report[kind]
        scores[kind] = {
            "precision": row["precision"],
            "recall": row["recall"],
            "f1": row["f1-score"],
            "number": row["support"],
        }
    scores["overall_precision"] = overall["precision"]
    scores["overall_recall"] = overall["recall"]
    scores["overall_f1"] = overall["f1-score"]
    return scores
