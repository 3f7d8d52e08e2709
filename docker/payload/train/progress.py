"""Progress of a run without a terminal: one line every 30 seconds, with the time left."""

from __future__ import annotations

import sys
import time

INTERVAL = 30.0


def is_needed() -> bool:
    """A terminal has a progress bar, which says the same and more often."""
    return not sys.stderr.isatty()


class Progress:
    """Tells how far a run is. Only the steps of this process count for its speed, not those before it was resumed."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total = total
        self.first = done
        self.started = time.monotonic()
        self.reported = self.started

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training."""
        self.started += seconds

    def report(self, done: int, loss: float) -> str | None:
        """A line about the run; None if the last one was less than 30 seconds ago."""
        now = time.monotonic()
        if now - self.reported < INTERVAL:
            return None
        self.reported = now
        time_left = format_duration(self.seconds_left(done, now))
        return f"step {done}/{self.total}: loss {loss:.4f}, {time_left} left"

    def seconds_left(self, done: int, now: float) -> float:
        elapsed = now - self.started
        seconds_per_step = elapsed / (done - self.first)
        return seconds_per_step * (self.total - done)


def format_duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
