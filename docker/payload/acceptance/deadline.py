"""How long a check may take: its seconds on an idle machine, several times as long on a busy one."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from types import FrameType

    from acceptance.limits import Limits

GRACE = 10  # seconds more for a check that hangs in native code, where its alarm is not heard
STDERR = 2  # the descriptor: a library may have replaced sys.stderr


class TimedOut(BaseException):
    """A check took longer than its deadline. No `Exception`, because torch and the checks catch those."""


class Deadline:
    """The time of one check, from now on."""

    def __init__(self, seconds: int, patience: float) -> None:
        self.seconds = seconds
        self.patience = patience
        self.started = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def remaining(self) -> float:
        """Seconds left, as busy as the machine is now."""
        return self.seconds * self._slowdown() - self.elapsed()

    def _slowdown(self) -> float:
        """How many times longer than on an idle machine: processes that want a core for each core (`uptime`)."""
        one_minute, five_minutes, _ = os.getloadavg()
        waiting = max(one_minute, five_minutes)
        cores = os.cpu_count() or 1
        load = waiting / cores
        return min(self.patience, max(1.0, load))

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """Raise `TimedOut` in this thread when the time is over; where Python cannot hear it, print where it hangs."""
        signal.signal(signal.SIGALRM, self.on_alarm)
        self._arm(self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        remaining = self.remaining()
        if remaining <= 0:
            raise TimedOut
        self._arm(remaining)

    def _arm(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        faulthandler.dump_traceback_later(seconds + GRACE // 2, file=STDERR)


def deadline_for(check_id: str, limits: Limits) -> Deadline:
    """The deadline of a check that starts now."""
    return Deadline(limits.seconds_for(check_id), limits.patience)
