"""A receipt as a page for a browser."""

from envbuilder.acceptance.receipts import failures
from envbuilder.acceptance.report import summary
from envbuilder.acceptance.report.loss_plot import loss_plot
from envbuilder.grammar import JsonObject
from envbuilder.model import Receipt
from envbuilder.templates import fill


def html(receipt: Receipt) -> str:
    """One page that needs nothing else: no script, no font, no picture, no network."""
    return fill("report.html.j2", _values(summary.sanitize(receipt)), html=True)


def _values(receipt: Receipt) -> JsonObject:
    """What the template is filled with."""
    epochs = summary.epochs(receipt.training)
    return {
        "receipt": receipt,
        "title": summary.title(receipt),
        "meaning": summary.meaning(receipt),
        "tally": summary.tally(receipt.checks),
        "marks": summary.MARKS,
        "words": summary.WORDS,
        "failures": [
            (check, list(summary.notes(check))) for check in failures(receipt)
        ],
        "figures": summary.figures(receipt),
        "epochs": epochs,
        "curve": loss_plot(receipt.training.get("losses"), epochs),
        "families": summary.families(receipt.checks),
        "warnings": [check for check in receipt.checks if check.findings],
        "value_text": summary.value_text,
        "found_text": summary.found_text,
        "bound_text": summary.bound_text,
        "seconds_text": summary.seconds_text,
        "percent": summary.percent,
        "code_parts": summary.code_parts,
    }
