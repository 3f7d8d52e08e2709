"""`evaluate.load("seqeval")` without a hub, and without the package seqeval, which PyPI has as source alone.

Scores of whole entities in tagged sequences (`B-PER I-PER O`): an entity counts if its type, its first and its last
word are right. The features and results are those of the metric on the hub, with the rules of CoNLL's `conlleval`.
`mode="strict"` with a `scheme` checks tags against a scheme: that needs the package.
"""

from __future__ import annotations

import importlib
from typing import Any, Counter, Iterator, Sequence, Tuple

import datasets
import evaluate

OUTSIDE = "O"
NO_ENTITY = (OUTSIDE, ".")
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
        words += row
        words.append(OUTSIDE)
    found = entities(words, suffix)
    return set(found)


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
        head, name = word[-1:], word[:-1]
        kind = name.rpartition("-")[0] or name
    else:
        head, name = word[:1], word[1:]
        kind = name.partition("-")[2] or name
    if kind in ("", "-"):
        kind = NAMELESS
    return head, kind


def ends(last: Tag, tag: Tag) -> bool:
    """Whether an entity ends before `tag`."""
    head, kind = last
    if head in ("E", "S"):
        return True
    if head in ("B", "I") and tag[0] in ("B", "S", OUTSIDE):
        return True
    if head in NO_ENTITY:
        return False
    return kind != tag[1]


def starts(last: Tag, tag: Tag) -> bool:
    """Whether an entity starts at `tag`."""
    head, kind = tag
    if head in ("B", "S"):
        return True
    if head in ("E", "I") and last[0] in ("E", "S", OUTSIDE):
        return True
    if head in NO_ENTITY:
        return False
    return kind != last[1]


# --- scores --------------------------------------------------------------------------------------------------------


def entity_scores(
    true: set[Entity], predicted: set[Entity], empty: float
) -> dict[str, Any]:
    """The scores by type, then those of all; `empty` is a share of nothing."""
    right = count_types(true & predicted)
    real = count_types(true)
    found = count_types(predicted)
    scores: dict[str, Any] = {}
    kinds = {*real, *found}
    for kind in sorted(kinds):
        number = real[kind]
        precision, recall, f1 = shares(right[kind], found[kind], number, empty)
        scores[kind] = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "number": number,
        }
    overall = shares(len(true & predicted), len(predicted), len(true), empty)
    scores["overall_precision"] = overall[0]
    scores["overall_recall"] = overall[1]
    scores["overall_f1"] = overall[2]
    return scores


def count_types(entities: set[Entity]) -> Counter[str]:
    """How many entities of each type there are."""
    count: Counter[str] = Counter()
    for kind, _, _ in entities:
        count[kind] += 1
    return count


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
