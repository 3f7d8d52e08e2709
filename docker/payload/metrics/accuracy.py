"""`evaluate.load("accuracy")` without a hub: the same features and results as the metric of that name on it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):
    """The share of predictions that are right; `multilabel`: of rows whose labels are all right."""

    def _info(self) -> Any:
        label = datasets.Value("int32")
        if self.config_name == "multilabel":
            label = datasets.Sequence(label)
        return evaluate.MetricInfo(
            description="The share of predictions that are right.",
            citation="",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(
        self,
        *,
        predictions: Any,
        references: Any,
        normalize: bool = True,
        sample_weight: Any = None,
    ) -> dict[str, float]:
        score = accuracy_score(
            references, predictions, normalize=normalize, sample_weight=sample_weight
        )
        return {"accuracy": float(score)}
