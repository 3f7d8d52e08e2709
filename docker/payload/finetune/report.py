"""What a run leaves to look at: the learning curve, a page that needs no other file, and a model card."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, fields
from pathlib import Path
from string import Template
from typing import Any, Dict, List, Mapping, Sequence

from finetune.options import Settings
from train.outputs import Points, html_rows, points_of, read_metrics, read_plot, scalars

SMOOTHING = 0.9  # of the exponential mean, as TensorBoard's slider has it


def smoothed(
    points: Points,
    weight: float = SMOOTHING,
) -> Points:
    """An exponential mean that starts unbiased, as TensorBoard's."""
    mean, total = 0.0, 0.0
    result = []
    for step, value in points:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        result.append((step, mean / total))
    return result


def plot(output: Path, metric: str) -> None:
    """Write learning-curve.svg and .png: losses, smoothed, and the metric that chose the best checkpoint."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = read_metrics(output)
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    losses = points_of(steps, "loss")
    evaluated = points_of(steps, "eval_loss")
    if losses:
        axis.plot(*zip(*losses), color="tab:blue", alpha=0.3, linewidth=1)
        axis.plot(
            *zip(*smoothed(losses)), color="tab:blue", label="training loss, smoothed"
        )
    if evaluated:
        axis.plot(
            *zip(*evaluated), color="tab:red", marker="o", label="evaluation loss"
        )
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.set_ylim(bottom=0)
    lines = list(axis.get_lines())
    scores = points_of(steps, f"eval_{metric}")
    if scores and metric != "loss":
        second = axis.twinx()
        second.plot(*zip(*scores), color="tab:orange", marker="o", label=metric)
        second.set_ylabel(metric)
        lines += second.get_lines()
    named = [line for line in lines if not line.get_label().startswith("_")]
    axis.legend(handles=named, loc="upper right")
    for suffix in ("png", "svg"):
        figure.savefig(str(output / f"learning-curve.{suffix}"), dpi=120)
    pyplot.close(figure)


# --- the page ------------------------------------------------------------------------------------------------------

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: auto; padding: 1rem }
figure { margin: 1rem 0; background: white; border-radius: 6px } svg { width: 100%; height: auto }
div { overflow-x: auto } table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
td, th { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
.numbers td { text-align: right; font-variant-numeric: tabular-nums }
</style></head><body><main>
<h1>$title</h1><p>$summary</p>
<figure role="img" aria-label="Learning curve">$curve</figure>
<h2>Scores of the best model</h2>$scores
$labels
<h2>The run</h2><table>$results</table>
<h2>The data</h2><table>$data</table>
<h2>Settings</h2><table>$settings</table>
</main></body></html>
""")


def write_report(
    output: Path,
    measured: Mapping[str, Any],
    settings: Settings,
    data: Mapping[str, str],
) -> None:
    """Write report.html."""
    plot(output, settings.metric or "loss")
    page = PAGE.substitute(
        title=html.escape(f"Fine-tune of {settings.model}"),
        summary=html.escape(summary(measured, settings)),
        curve=read_plot(output),
        scores=table(splits_of(measured)),
        labels=label_section(measured),
        results=html_rows(scalars(measured)),
        data=html_rows(data),
        settings=html_rows(changed(settings)),
    )
    (output / "report.html").write_text(page, encoding="utf-8")


def summary(
    measured: Mapping[str, Any],
    settings: Settings,
) -> str:
    """One sentence: task, metric, steps, time."""
    metric = settings.metric or "loss"
    split = "test" if "test" in measured else "validation"
    value = measured[split][metric]
    return (
        f"{settings.task}: {metric} {value:.4g} on the {split} data, "
        f"after {measured['steps']} steps in {measured['seconds']:.0f} s."
    )


def splits_of(measured: Mapping[str, Any]) -> Dict[str, Mapping[str, float]]:
    return {name: measured[name] for name in ("validation", "test") if name in measured}


def label_section(measured: Mapping[str, Any]) -> str:
    """Scores of each label and the confusion matrix, of the test data if there is some."""
    split = "test" if "test" in measured else "validation"
    details = measured.get(f"{split}_labels") or {}
    parts = []
    if details.get("scores"):
        parts += ["<h2>Label by label</h2>", table(details["scores"])]
    if "confusion" in details:
        parts += [
            "<h2>Confusion matrix</h2><p>Rows: the label in the data. Columns: the model's answer.</p>",
            matrix(details["confusion"]["labels"], details["confusion"]["rows"]),
        ]
    return "\n".join(parts)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Named rows of named numbers."""
    names: dict[str, None] = {}
    for row in rows.values():
        names.update(dict.fromkeys(row))
    lines = [heading(["", *names])]
    for label, row in rows.items():
        cells = [f"{row[name]:.4g}" if name in row else "" for name in names]
        lines.append(
            line(
                label,
                cells,
            )
        )
    return wrapped(lines)


def matrix(labels: Sequence[str], rows: Sequence[Sequence[int]]) -> str:
    """Counts, darker where more rows of the label are."""
    lines = [heading(["", *labels])]
    for label, counts in zip(labels, rows):
        cells = []
        total = max(sum(counts), 1)
        for count in counts:
            share = round(100 * count / total)
            cells.append(
                f"<td style='background: rgb(31 119 180 / {share}%)'>{count}</td>"
            )
        lines.append(
            f"<tr><th scope=row>{html.escape(label)}</th>{''.join(cells)}</tr>"
        )
    return wrapped(lines)


def heading(names: Sequence[str]) -> str:
    cells = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
    return f"<tr>{cells}</tr>"


def line(name: str, cells: Sequence[str]) -> str:
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th scope=row>{html.escape(name)}</th>{numbers}</tr>"


def wrapped(lines: List[str]) -> str:
    return f'<div><table class="numbers">{"".join(lines)}</table></div>'


def changed(settings: Settings) -> Dict[str, Any]:
    """The settings that are not the defaults."""
    values = {}
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if value != setting.default:
            values[setting.name] = value
    return values


# --- the model card ------------------------------------------------------------------------------------------------

PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "tokens": "token-classification",
    "mlm": "fill-mask",
    "causal": "text-generation",
}
CARD = Template("""---
$header
---
# $name

$summary

Fine-tuned from `$base` by `finetune` of envbuilder on `$data`.

| | $columns |
| --- |$rules
$rows

## Use

```console
$$ finetune predict DIR $argument
```

## Settings

```json
$settings
```
""")


def write_card(
    output: Path,
    measured: Mapping[str, Any],
    settings: Settings,
) -> None:
    """Write README.md as a hub shows it: metadata, scores, settings."""
    scores = splits_of(measured)
    names = list(next(iter(scores.values())))
    rows = []
    for split, values in scores.items():
        cells = [f"{values.get(name, float('nan')):.4g}" for name in names]
        rows.append(f"| {split} | {' | '.join(cells)} |")
    card = CARD.substitute(
        header="\n".join(header(settings)),
        name=output.resolve().name,
        summary=summary(
            measured,
            settings,
        ),
        base=settings.model,
        data=Path(settings.data).name,
        columns=" | ".join(names),
        rules=" ---: |" * len(names),
        rows="\n".join(rows),
        argument='"a question"' if settings.task == "causal" else '"a text"',
        settings=json.dumps(
            shareable(settings),
            indent=1,
            ensure_ascii=False,
        ),
    )
    (output / "README.md").write_text(
        card,
        encoding="utf-8",
    )


def header(settings: Settings) -> List[str]:
    """The metadata. A path of this machine is no name of a base model on a hub."""
    lines = [
        f"library_name: {'peft' if settings.lora else 'transformers'}",
        f"pipeline_tag: {PIPELINES[settings.task]}",
        f"tags: [{json.dumps(settings.task)}, finetune]",
    ]
    if not Path(settings.model).exists():
        lines.insert(0, f"base_model: {json.dumps(settings.model)}")
    return lines


def shareable(settings: Settings) -> Dict[str, Any]:
    """The settings that describe the training, and none of the paths of this machine."""
    values = asdict(settings)
    for name in ("data", "validation", "test", "predict", "output", "push_to_hub"):
        values.pop(name)
    return {name: value for name, value in values.items() if value is not None}
