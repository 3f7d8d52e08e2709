"""The loss curve as a drawing: the places of lines, ticks and labels, in percent of the plot from its top left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envbuilder.acceptance.report.summary import EpochShares, number, percent

_TICKS = 6  # about so many on an axis
_SMALLEST = 1e-9  # a loss below is drawn as zero
_LABELLED_EPOCHS = 5  # more labels would overlap on a phone

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMark:
    """The end of an epoch, and the middle of it, where its label is."""

    at: float
    middle: float
    name: str
    accuracy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPlot:
    """One line for each unbroken run of losses, a dot for each loss between two gaps."""

    lines: tuple[str, ...]  # as SVG's `points`
    dots: tuple[Point, ...]
    steps: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    marks: tuple[EpochMark, ...]
    summary: str


def loss_plot(losses: Any, epochs: Sequence[EpochShares]) -> LossPlot | None:
    """The plot of a list of losses; None if there is nothing to draw. A loss that is not a number is a gap."""
    values: list[float | None] = []
    if isinstance(losses, list):
        values = [number(loss) for loss in losses]
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    steps = len(values)
    ticks = _loss_ticks(min(numbers), max(numbers))
    lines, dots = [], []
    for run in _runs(values, bottom=ticks[0], top=ticks[-1]):
        if len(run) > 1:
            lines.append(_points(run))
        else:
            dots.append(run[0])
    return LossPlot(
        lines=tuple(lines),
        dots=tuple(dots),
        steps=_step_ticks(steps),
        losses=_labelled(ticks),
        marks=_marks(epochs, steps),
        summary=_sentence(steps, numbers),
    )


def _sentence(steps: int, numbers: Sequence[float]) -> str:
    """The plot in words, for somebody who cannot see it."""
    first, last, lowest = numbers[0], numbers[-1], min(numbers)
    return f"{steps} steps: the loss begins at {first:.4g}, ends at {last:.4g}, and is {lowest:.4g} at its lowest."


def _points(run: Sequence[Point]) -> str:
    return " ".join(f"{x},{y}" for x, y in run)


def _runs(
    values: Sequence[float | None], *, bottom: float, top: float
) -> list[list[Point]]:
    """The points of the losses, cut at the gaps."""
    runs: list[list[Point]] = [[]]
    for place, value in enumerate(values, 1):
        if value is None:
            runs.append([])
            continue
        x = _across(place, len(values))
        y = _share(top - value, top - bottom)
        runs[-1].append((x, y))
    return [run for run in runs if run]


def _across(place: float, count: int) -> float:
    """Where a step is between left and right."""
    if count == 1:
        return 50.0
    return _share(place - 1, count - 1)


def _share(part: float, whole: float) -> float:
    return round(100 * part / whole, 2)


def _loss_ticks(low: float, high: float) -> list[float]:
    """Multiples of a round step that enclose zero, the lowest and the highest loss."""
    low = min(0.0, low)
    high = max(0.0, high)
    span = max(high - low, _SMALLEST)
    step = _round_step(span / _TICKS)
    first = math.floor(low / step)
    last = max(1, math.ceil(high / step))
    ticks = []
    for place in range(first, last + 1):
        ticks.append(place * step)
    return ticks


def _labelled(ticks: Sequence[float]) -> tuple[Tick, ...]:
    bottom, top = ticks[0], ticks[-1]
    return tuple(
        Tick(at=_share(top - tick, top - bottom), label=f"{tick:.4g}") for tick in ticks
    )


def _round_step(least: float) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that is at least `least`."""
    power: float = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5):
        if power * factor >= least * (1 - 1e-9):
            return power * factor
    return power * 10


def _step_ticks(count: int) -> tuple[Tick, ...]:
    places = [1]
    if count > 1:
        step = max(1, round(_round_step(count / _TICKS)))
        places += range(max(step, 2), count + 1, step)
    ticks = []
    for place in places:
        tick = Tick(at=_across(place, count), label=str(place))
        ticks.append(tick)
    return tuple(ticks)


def _marks(epochs: Sequence[EpochShares], count: int) -> tuple[EpochMark, ...]:
    """Epochs have equal lengths: the job sees all of its reviews in each."""
    every = math.ceil(len(epochs) / _LABELLED_EPOCHS)
    marks = []
    for place, epoch in enumerate(epochs, 1):
        end = max(1.0, count * place / len(epochs))
        middle = _share(place - 0.5, len(epochs))
        name = accuracy = ""
        if (place - 1) % every == 0:
            name = epoch.name
            accuracy = percent(epoch.accuracy)
        mark = EpochMark(
            at=_across(end, count), middle=middle, name=name, accuracy=accuracy
        )
        marks.append(mark)
    return tuple(marks)
