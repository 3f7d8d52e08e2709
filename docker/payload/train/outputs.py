"""What a run leaves to look at: metrics as JSON lines, TensorBoard files, a learning-curve picture, a page."""

import html
import json
import os


class Metrics:
    """One event a line in metrics.jsonl, and the same as TensorBoard files where TensorBoard is installed."""

    def __init__(self, folder, going_on=False):
        path = os.path.join(folder, "metrics.jsonl")
        self._stream = open(path, "a" if going_on else "w", encoding="utf-8")  # noqa: SIM115 - until `close`
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(os.path.join(folder, "tensorboard"))
        except ImportError:
            self._board = None

    def add(self, step, **numbers):
        """Numbers at a step."""
        self._stream.write(json.dumps(dict(step=step, **numbers)) + "\n")
        self._stream.flush()
        if self._board:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self):
        self._stream.close()
        if self._board:
            self._board.close()


def read_metrics(folder):
    """Step → numbers; where a run was resumed, the later line of a step counts."""
    steps = {}
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as stream:
        for line in stream:
            event = json.loads(line)
            steps.setdefault(event.pop("step"), {}).update(event)
    return dict(sorted(steps.items()))


SCORES = {
    "accuracy": ("tab:orange", "held-out accuracy"),
    "masked_words": ("tab:orange", "masked words guessed"),
    "sentence_pairs": ("tab:green", "sentence pairs told apart"),
}


def draw(folder):
    """learning-curve.svg and .png: the loss at each step, the scores after each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = read_metrics(folder)
    losses = [(step, numbers["loss"]) for step, numbers in steps.items() if "loss" in numbers]
    scores = {
        name: [(step, numbers[name]) for step, numbers in steps.items() if name in numbers]
        for name in SCORES
        if any(name in numbers for numbers in steps.values())
    }
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axis.plot(*zip(*losses), color="tab:blue", linewidth=1, label="training loss")
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.set_ylim(bottom=0)
    handles = axis.get_lines()[:]
    if scores:
        right = axis.twinx()
        for name, points in scores.items():
            right.plot(*zip(*points), color=SCORES[name][0], marker="o", label=SCORES[name][1])
        right.set_ylabel("accuracy" if "accuracy" in scores else "share guessed right")
        right.set_ylim(0, 1.02)
        handles += right.get_lines()
    axis.legend(handles=handles, loc="upper right")
    for kind in ("png", "svg"):
        figure.savefig(os.path.join(folder, "learning-curve." + kind), dpi=120)
    pyplot.close(figure)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(title)s</title><style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: auto; padding: 1rem }
figure { margin: 1rem 0; background: white; border-radius: 6px } svg { width: 100%%; height: auto }
table { border-collapse: collapse; width: 100%% } th { text-align: left; font-weight: 600 }
td, th { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
</style></head><body><main>
<h1>%(title)s</h1><p>%(summary)s</p>
<figure role="img" aria-label="Learning curve">%(curve)s</figure>
%(pretraining)s
<h2>Figures</h2><table>%(figures)s</table>
<h2>Settings</h2><table>%(settings)s</table>
</main></body></html>
"""


PRETRAINING = """<h2>Pre-training</h2>
<figure role="img" aria-label="Learning curve of the pre-training">%(curve)s</figure>
<table>%(figures)s</table>"""


def curve(folder):
    """The picture that `draw` left, to be put into a page."""
    with open(os.path.join(folder, "learning-curve.svg"), encoding="utf-8") as stream:
        text = stream.read()
    return text[text.index("<svg") :]


def write_page(folder, measured, settings):
    """report.html: one page that needs nothing else."""
    pretraining, before = "", measured.get("pretraining")
    if before:
        pretraining = PRETRAINING % {
            "curve": curve(os.path.join(folder, "pretrained")),
            "figures": rows(plain(before)),
        }
    page = PAGE % {
        "title": html.escape("Fine-tune of %s" % settings["model"]),
        "summary": html.escape(
            "%(accuracy).1f %% of the held-out texts are classified right, after %(steps)d steps in %(seconds).0f s."
            % dict(measured, accuracy=100 * measured["accuracy"])
        ),
        "curve": curve(folder),
        "pretraining": pretraining,
        "figures": rows(plain(measured)),
        "settings": rows(settings),
    }
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as stream:
        stream.write(page)


def plain(measured):
    """What of the figures fits into a table."""
    return {name: value for name, value in measured.items() if isinstance(value, (int, float, str))}


def rows(pairs):
    """Names and values as rows of a table."""
    lines = []
    for name, value in pairs.items():
        text = "%.4g" % value if isinstance(value, float) else str(value)
        lines.append(
            "<tr><th scope=row>%s</th><td>%s</td></tr>" % (html.escape(name.replace("_", " ")), html.escape(text))
        )
    return "\n".join(lines)
