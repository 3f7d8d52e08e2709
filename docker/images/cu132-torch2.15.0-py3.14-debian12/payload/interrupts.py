"""Ctrl-C and `docker stop`. Imports nothing heavy: it has to be in place before what takes seconds to import."""

import os

STOP = {"asked": False, "may_wait": False}


def interrupted(number, frame):
    """A run that can save its work does so at its next step, any other ends here."""
    if STOP["may_wait"] and not STOP["asked"]:
        STOP["asked"] = True
        os.write(2, b"interrupted: saving; once more ends it at once\n")
        return
    os.write(2, b"interrupted\n")
    os._exit(130)  # no exception: one that is raised in a destructor is lost, and the job would go on
