"""How the process ends: Ctrl-C, `docker stop`, and the last line. Imports nothing heavy, as signals come first."""

from __future__ import annotations

import atexit
import os
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

# Under torchrun one Ctrl-C may arrive twice: from the terminal (or Slurm), and passed on by torchrun.
DUPLICATE_SECONDS = 1.0


@dataclass
class Stop:
    """Whether the user wants the run to end, and whether it can save its work first."""

    requested: bool = False
    can_save: bool = False
    since: float = 0.0


STOP = Stop()


def handle_interrupt(number: int, frame: FrameType | None) -> None:
    """A run that can save its work ends at its next step; any other ends here."""
    if STOP.can_save and not STOP.requested:
        STOP.requested = True
        STOP.since = time.monotonic()
        os.write(
            2, b"interrupted: saving a checkpoint (press Ctrl-C again to quit now)\n"
        )
        return
    if STOP.can_save and time.monotonic() - STOP.since < DUPLICATE_SECONDS:
        return
    os.write(2, b"interrupted\n")
    # No exception: one raised while a destructor runs is lost, and the job would go on.
    os._exit(130)


def end_process(code: int) -> NoReturn:
    """End this process. One of several is not cleaned up by Python, which would end its groups: parallel.GROUPS."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        sys.exit(code)
    # Temporary directories are removed.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
