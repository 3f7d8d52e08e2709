"""The only clock that tests read: to give up on what never happens. Whether something is fast is for `bench/`."""

import time
from collections.abc import Callable

PATIENCE = 120
"""Seconds: far more than anything here takes, on a machine that does other work too."""


def wait_until(
    is_true: Callable[[], object],
    what: str | Callable[[], object],
    *,
    seconds: float = PATIENCE,
) -> None:
    """Return as soon as something is true; say `what` if it never is."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.05)
