"""What guides take for granted next to torch: the metrics of evaluate without a hub, plots with Chinese words."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from acceptance.text import describe, first_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Answer, Inspection

WORDS = "训练损失 准确率 中文"
# Two of three rows are right, one of two positives was found; one of two entities, three of four tags.
PREDICTIONS = [0, 0, 1]
REFERENCES = [0, 1, 1]
TAGGED = [["B-PER", "I-PER", "O", "O"]]
TAGS = [["B-PER", "I-PER", "O", "B-LOC"]]
SCORES = {
    "accuracy": {"accuracy": 2 / 3},
    "f1": {"f1": 2 / 3},
    "precision": {"precision": 1.0},
    "recall": {"recall": 0.5},
    "seqeval": {
        "overall_precision": 1.0,
        "overall_recall": 0.5,
        "overall_f1": 2 / 3,
        "overall_accuracy": 0.75,
    },
}


def check_metrics(inspection: Inspection) -> Answer:
    """`evaluate.load` gives each metric of the course without a network, and each computes what it should."""
    problems = []
    for name, expected in SCORES.items():
        problem = metric_problem(name, expected)
        if problem:
            problems.append(f"{name}: {problem}")
    return inspection.require_if_locked(
        "features.metrics",
        len(problems),
        detail="; ".join(problems),
        remedy="start the container through the image's entrypoint, which copies the metrics into the cache of "
        "Hugging Face, and let that cache be writable; their library is scikit-learn",
    )


def metric_problem(name: str, expected: dict[str, float]) -> str:
    """What is wrong with a metric; "" if nothing is."""
    try:
        scores = compute(name)
    except Exception as error:
        return describe(error)
    for key, value in expected.items():
        if abs(scores[key] - value) > 1e-9:
            return f"{key} is {scores[key]}, not {value}"
    return ""


def compute(name: str) -> dict[str, Any]:
    """The scores of a metric on the rows above, loaded as without a network: no hub is waited for."""
    import evaluate

    online = evaluate.config.HF_EVALUATE_OFFLINE
    evaluate.config.HF_EVALUATE_OFFLINE = True
    evaluate.logging.set_verbosity_error()
    try:
        metric = evaluate.load(name)
    finally:
        evaluate.config.HF_EVALUATE_OFFLINE = online
    rows = (TAGGED, TAGS) if name == "seqeval" else (PREDICTIONS, REFERENCES)
    scores: dict[str, Any] = metric.compute(predictions=rows[0], references=rows[1])
    return scores


def check_fonts(inspection: Inspection) -> Answer:
    """matplotlib has a glyph for each letter of a Chinese title, without a setting of the user's."""
    missing = missing_glyphs(WORDS)
    return inspection.require_if_locked(
        "features.fonts",
        len(missing),
        detail="; ".join(missing[:3]),
        remedy="the image needs the Debian package fonts-wqy-microhei, and MATPLOTLIBRC the file of its payload",
    )


def missing_glyphs(text: str) -> list[str]:
    """What matplotlib says of glyphs that it has not when it draws a text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().set_title(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(io.BytesIO(), format="png")
    problems = []
    for warning in caught:
        message = first_line(str(warning.message))
        if "missing" in message:
            problems.append(message)
    return problems
