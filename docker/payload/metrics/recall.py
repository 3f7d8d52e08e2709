"""`evaluate.load("recall")` without a hub: the same features and results as the metric of that name on it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import recall_score


class Recall(evaluate.Metric):
    """The share of positive rows that were found.

    `average=None` gives one score for each label, as an array.
    """

    def _info(self) -> Any:
        label = datasets.Value("int32")
        if self.config_name == "multilabel":
            label = datasets.Sequence(label)
        return evaluate.MetricInfo(
            description="The share of positive rows that were found.",
            citation="",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(
        self,
        *,
        predictions: Any,
        references: Any,
        labels: Any = None,
        pos_label: Any = 1,
        average: str | None = "binary",
        sample_weight: Any = None,
        zero_division: Any = "warn",
    ) -> dict[str, Any]:
        score = recall_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
            zero_division=zero_division,
        )
        if getattr(score, "size", 1) > 1:
            return {"recall": score}
        return {"recall": float(score)}
