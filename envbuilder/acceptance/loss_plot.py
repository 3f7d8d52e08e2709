"""The loss curve as a drawing: where lines, ticks and labels stand, in percent of the plot from its top left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envbuilder.acceptance.summary import Epoch, number, percent

_TICKS = 6  # about so many on an axis
_SMALLEST = 1e-9  # a loss below is drawn as zero
_LABELLED_EPOCHS = 5  # more labels would run into each other on a phone


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The end of an epoch, and the middle of it, where its label stands."""

    at: float
    middle: float
    name: str
    accuracy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line for each unbroken run of losses, a dot for each that stands alone."""

    lines: tuple[str, ...]  # as SVG's `points`
    dots: tuple[tuple[float, float], ...]
    steps: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    summary: str


def curve(losses: Any, epochs: Sequence[Epoch]) -> Curve | None:
    """The curve of a list of losses; None if there is nothing to draw. A loss that is no number is a gap."""
    values = [number(loss) for loss in losses] if isinstance(losses, list) else []
    seen = [value for value in values if value is not None]
    if not seen:
        return None
    ticks = _loss_ticks(min(seen), max(seen))
    runs = _runs(values, bottom=ticks[0], top=ticks[-1])
    return Curve(
        lines=tuple(" ".join(f"{x},{y}" for x, y in run) for run in runs if len(run) > 1),
        dots=tuple(run[0] for run in runs if len(run) == 1),
        steps=_step_ticks(len(values)),
        losses=tuple(Tick(at=_share(ticks[-1] - tick, ticks[-1] - ticks[0]), label=f"{tick:.4g}") for tick in ticks),
        marks=_marks(epochs, len(values)),
        summary=f"{len(values)} steps: the loss begins at {seen[0]:.4g}, ends at {seen[-1]:.4g}, "
        f"and is {min(seen):.4g} at its lowest.",
    )


def _runs(values: Sequence[float | None], *, bottom: float, top: float) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values, 1):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((_across(place, len(values)), _share(top - value, top - bottom)))
    return [run for run in runs if run]


def _across(place: float, count: int) -> float:
    return 50.0 if count == 1 else _share(place - 1, count - 1)


def _share(part: float, whole: float) -> float:
    return round(100 * part / whole, 2)


def _loss_ticks(low: float, high: float) -> list[float]:
    """Ticks that hold zero, the lowest and the highest loss."""
    low, high = min(0.0, low), max(0.0, high)
    step = _step(max(high - low, _SMALLEST) / _TICKS)
    return [place * step for place in range(math.floor(low / step), max(1, math.ceil(high / step)) + 1)]


def _step(least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _step_ticks(count: int) -> tuple[Tick, ...]:
    if count == 1:
        return (Tick(at=_across(1, 1), label="1"),)
    step = max(1, round(_step(count / _TICKS)))
    places = sorted({1, *range(step, count + 1, step)})
    return tuple(Tick(at=_across(place, count), label=str(place)) for place in places)


def _marks(epochs: Sequence[Epoch], count: int) -> tuple[Mark, ...]:
    """Epochs are of one length: the job sees all of its reviews in each."""
    every = math.ceil(len(epochs) / _LABELLED_EPOCHS)
    return tuple(
        Mark(
            at=_across(max(1.0, count * place / len(epochs)), count),
            middle=_share(place - 0.5, len(epochs)),
            name=epoch.name if (place - 1) % every == 0 else "",
            accuracy=percent(epoch.accuracy) if (place - 1) % every == 0 else "",
        )
        for place, epoch in enumerate(epochs, 1)
    )
