"""Receipts for reports: two of real images, and one of an image that attacks its reader."""

from dataclasses import replace
from pathlib import Path

from envbuilder import serialize
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict

_FOLDER = Path(__file__).parent
ATTACK = (
    "</td></table><script>alert(1)</script> | `code` | <img src=x onerror=alert(2)> {{ 7 * 7 }} [a](javascript:b)\n\n"
    "# heading\r\n| a | b |\n--- ]]> &amp; *bold* \\| \x1b[31mred\x00 \ud800 \ufffe \u202e &#60;"
)


def passed() -> Receipt:
    return serialize.loads((_FOLDER / "passed.json").read_bytes(), Receipt)


def failed() -> Receipt:
    return serialize.loads((_FOLDER / "failed.json").read_bytes(), Receipt)


def bare(*checks: Check, verdict: Verdict = Verdict.INCOMPLETE) -> Receipt:
    """Nothing but what a receipt must have."""
    return Receipt(
        schema=SCHEMA,
        image="sha256:0",
        suite={},
        host={},
        verdict=verdict,
        checks=checks,
    )


def hostile() -> Receipt:
    """Every text is an attack, every number is none."""
    checks = [
        Check(
            id=ATTACK if status is Status.FAILED else f"a.{status}",
            title=ATTACK,
            status=status,
            value=[float("nan"), {ATTACK: ATTACK}],
            bound={"min": ATTACK, "max": float("inf")},
            unit=ATTACK,
            detail=ATTACK,
            remedy=ATTACK,
            seconds=float("nan"),
            findings=(ATTACK,),
        )
        for status in Status
    ]
    return replace(
        bare(*checks, verdict=Verdict.FAILED),
        image=ATTACK,
        suite={ATTACK: ATTACK},
        host={ATTACK: [ATTACK]},
        facts={ATTACK: {ATTACK: None}},
        stack=ATTACK,
        reference=ATTACK,
        started=ATTACK,
        training={
            "accuracy": float("nan"),
            "seconds": ATTACK,
            "device": ATTACK,
            "losses": [0.7, None, float("inf"), "x", 10**400, 0.5, True, 0.4, 0.3],
            "epochs": [
                {"epoch": ATTACK, "accuracy": None},
                ATTACK,
                {"negated": float("-inf")},
            ],
        },
    )
