"""`evaluate.load("precision")` without a hub: the same features and results as the metric of that name on it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import precision_score


class Precision(evaluate.Metric):
    """The share of rows predicted to be positive that are.

    `average=None` gives one score for each label, as an array.
    """

    def _info(self) -> Any:
        label = datasets.Value("int32")
        if self.config_name == "multilabel":
            label = datasets.Sequence(label)
        return evaluate.MetricInfo(
            description="The share of rows predicted to be positive that are.",
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
        score = precision_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
            zero_division=zero_division,
        )
        if getattr(score, "size", 1) > 1:
            return {"precision": score}
        return {"precision": float(score)}
