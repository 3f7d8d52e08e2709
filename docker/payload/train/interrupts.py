"""Ctrl-C and `docker stop`. Imports nothing heavy: it has to be in place before what takes seconds to import."""

import os
import time

STOP = {"asked": False, "may_wait": False, "since": 0.0}
SAME = 1.0  # seconds: under torchrun one Ctrl-C may come twice, from the terminal (or Slurm) and passed on by torchrun


def interrupted(number, frame):
    """A run that can save its work does so at its next step, any other ends here."""
    if STOP["may_wait"] and not STOP["asked"]:
        STOP["asked"] = True
        STOP["since"] = time.monotonic()
        os.write(2, b"interrupted: saving; once more ends it at once\n")
        return
    if STOP["may_wait"] and time.monotonic() - STOP["since"] < SAME:
        return
    os.write(2, b"interrupted\n")
    os._exit(130)  # no exception: one that is raised in a destructor is lost, and the job would go on
