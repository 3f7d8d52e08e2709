"""What a run leaves to look at: metrics as JSON lines, TensorBoard files, a plot of the learning curve, a report."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template
from typing import Any, Dict, List, Mapping, Tuple

Points = List[Tuple[int, float]]
Steps = Dict[int, Dict[str, float]]


class Metrics:
    """One event per line in metrics.jsonl, and the same as TensorBoard files if TensorBoard is installed."""

    def __init__(self, output: Path, *, append: bool = False) -> None:
        mode = "a" if append else "w"
        self._stream = (output / "metrics.jsonl").open(mode, encoding="utf-8")
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(output / "tensorboard"))

    def add(self, step: int, **numbers: float) -> None:
        """Numbers that were measured at a step."""
        line = json.dumps({"step": step, **numbers})
        self._stream.write(f"{line}\n")
        self._stream.flush()
        if self._board:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._stream.close()
        if self._board:
            self._board.close()


def read_metrics(output: Path) -> Steps:
    """The numbers of each step; where a run was resumed, the later line of a step counts."""
    steps: Steps = {}
    with (output / "metrics.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            event = json.loads(line)
            step = event.pop("step")
            steps.setdefault(step, {}).update(event)
    return dict(sorted(steps.items()))


SCORES = {
    "accuracy": ("tab:orange", "evaluation accuracy"),
    "masked_words": ("tab:orange", "masked words predicted"),
    "sentence_pairs": ("tab:green", "sentence pairs classified"),
}


def points_of(steps: Steps, name: str) -> Points:
    """The steps at which a number was measured, with the number."""
    return [(step, numbers[name]) for step, numbers in steps.items() if name in numbers]


def plot(output: Path) -> None:
    """Write learning-curve.svg and .png: the loss at each step, the scores after each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = read_metrics(output)
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axis.plot(
        *zip(*points_of(steps, "loss")),
        color="tab:blue",
        linewidth=1,
        label="training loss",
    )
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.set_ylim(bottom=0)
    handles = [*axis.get_lines(), *plot_scores(axis, steps)]
    axis.legend(handles=handles, loc="upper right")
    for suffix in ("png", "svg"):
        figure.savefig(str(output / f"learning-curve.{suffix}"), dpi=120)
    pyplot.close(figure)


def plot_scores(loss_axis: Any, steps: Steps) -> list[Any]:
    """Add the scores on an axis of their own; returns their lines for the legend."""
    scores = {name: points_of(steps, name) for name in SCORES}
    measured = {name: points for name, points in scores.items() if points}
    if not measured:
        return []
    axis = loss_axis.twinx()
    for name, points in measured.items():
        color, label = SCORES[name]
        axis.plot(
            *zip(*points),
            color=color,
            marker="o",
            label=label,
        )
    axis.set_ylabel(
        "accuracy" if "accuracy" in measured else "share predicted correctly"
    )
    axis.set_ylim(0, 1.02)
    return list(axis.get_lines())


PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: auto; padding: 1rem }
figure { margin: 1rem 0; background: white; border-radius: 6px } svg { width: 100%; height: auto }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
td, th { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
</style></head><body><main>
<h1>$title</h1><p>$summary</p>
<figure role="img" aria-label="Learning curve">$curve</figure>
$pretraining
<h2>Results</h2><table>$results</table>
<h2>Settings</h2><table>$settings</table>
</main></body></html>
""")

PRETRAINING = Template("""<h2>Pre-training</h2>
<figure role="img" aria-label="Learning curve of the pre-training">$curve</figure>
<table>$results</table>""")


def read_plot(output: Path) -> str:
    """The SVG that `plot` wrote, to be put into a page."""
    text = (output / "learning-curve.svg").read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def write_report(
    output: Path, measured: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write report.html: one page that needs no other file."""
    accuracy = 100 * measured["accuracy"]
    summary = (
        f"{accuracy:.1f} % of the evaluation texts are classified correctly, "
        f"after {measured['steps']} steps in {measured['seconds']:.0f} s."
    )
    page = PAGE.substitute(
        title=html.escape(f"Fine-tune of {settings['model']}"),
        summary=html.escape(summary),
        curve=read_plot(output),
        pretraining=pretraining_section(output, measured),
        results=html_rows(scalars(measured)),
        settings=html_rows(settings),
    )
    (output / "report.html").write_text(page, encoding="utf-8")


def pretraining_section(output: Path, measured: Mapping[str, Any]) -> str:
    results = measured.get("pretraining")
    if not results:
        return ""
    return PRETRAINING.substitute(
        curve=read_plot(output / "pretrained"),
        results=html_rows(scalars(results)),
    )


def scalars(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The results that fit into a table."""
    return {
        name: value
        for name, value in measured.items()
        if isinstance(value, (int, float, str))
    }


def html_rows(values: Mapping[str, Any]) -> str:
    """Names and values as rows of a table."""
    rows = []
    for name, value in values.items():
        text = str(value)
        if isinstance(value, float):
            text = f"{value:.4g}"
        heading = html.escape(name.replace("_", " "))
        cell = html.escape(text)
        rows.append(f"<tr><th scope=row>{heading}</th><td>{cell}</td></tr>")
    return "\n".join(rows)
