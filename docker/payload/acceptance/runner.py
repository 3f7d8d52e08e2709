"""Run checks in this process, one after the other; whatever Python can catch becomes a result."""

from __future__ import annotations

import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Sequence

from acceptance.checks.inspection import LIBRARIES, Answer, Failure, Skipped
from acceptance.deadline import TimedOut, deadline_for

if TYPE_CHECKING:
    from acceptance.checks.inspection import Check, Inspection
    from acceptance.deadline import Deadline
    from acceptance.events import Emit

SEE_STDERR = "see the traceback on stderr: `docker run --rm IMAGE accept`"


def run_checks(checks: Sequence[Check], inspection: Inspection, emit: Emit) -> None:
    emit("facts", **inspection.facts)
    for check in checks:
        run_and_report(check, inspection, emit)


def run_and_report(check: Check, inspection: Inspection, emit: Emit) -> None:
    """Run one check and emit all that it found; nothing is kept for later, as this process may die in the next."""
    emit("start", id=check.id)
    inspection.on_progress = partial(report_progress, emit, check.id)
    inspection.on_result = partial(emit, "result")
    facts = dict(inspection.facts)
    figures = dict(inspection.training.figures)
    lm_figures = dict(inspection.lm.figures)
    deadline = deadline_for(check.id, inspection.limits)
    result = run_check(check, inspection, deadline)
    if inspection.facts != facts:
        emit("facts", **inspection.facts)
    if inspection.training.figures != figures:
        emit("training", **inspection.training.figures)
    if inspection.lm.figures != lm_figures:
        emit("lm", **inspection.lm.figures)
    emit("result", **result)


def report_progress(
    emit: Emit, check_id: str, done: int, total: int, text: str = ""
) -> None:
    emit("progress", id=check_id, done=done, total=total, text=text)


def run_check(
    check: Check, inspection: Inspection, deadline: Deadline
) -> dict[str, Any]:
    status, answer = attempt(check, inspection, deadline)
    return check.result(status, answer, deadline.elapsed())


def attempt(
    check: Check, inspection: Inspection, deadline: Deadline
) -> tuple[str, Answer]:
    """The status of a check, and its answer."""
    try:
        with deadline.alarm():
            return "passed", check.run(inspection)
    except Skipped as skipped:
        return "not_run", skipped.answer
    except Failure as failure:
        return "failed", failure.answer
    except TimedOut:
        return "failed", timed_out(deadline.seconds)
    except Exception as error:
        traceback.print_exc()
        return "error", explain(error)


def timed_out(seconds: int) -> Answer:
    return Answer(
        detail=f"took longer than {seconds} s",
        remedy="check whether the machine is overloaded or a device hangs",
    )


def explain(error: Exception) -> Answer:
    """What broke a check that should not break."""
    if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
        return Answer(
            detail=f"{error.name} is not installed in this image",
            remedy="install it, or leave this check out",
        )
    lines = traceback.format_exception_only(type(error), error)
    text = "".join(lines).strip()
    return Answer(detail=text[-500:], remedy=SEE_STDERR)
