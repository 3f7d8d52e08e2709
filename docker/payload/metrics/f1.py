"""`evaluate.load("f1")` without a hub: the same features and results as the metric of that name on it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """The harmonic mean of precision and recall.

    `average=None` gives one score for each label, as an array.
    """

    def _info(self) -> Any:
        label = datasets.Value("int32")
        if self.config_name == "multilabel":
            label = datasets.Sequence(label)
        return evaluate.MetricInfo(
            description="The harmonic mean of precision and recall.",
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
    ) -> dict[str, Any]:
        score = f1_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
        )
        if getattr(score, "size", 1) > 1:
            return {"f1": score}
        return {"f1": float(score)}
