#!/usr/bin/env python3
"""The command `train`. The job itself is in job.py: importing it takes seconds, so signals and options come first."""

import os
import signal
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # run as a directory: `python …/train`

from train import hub  # noqa: E402
from train.interrupts import interrupted  # noqa: E402
from train.options import parse_settings  # noqa: E402

if __name__ == "__main__":
    # As process 1 of a container, Python would otherwise not even notice SIGTERM.
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    SETTINGS = parse_settings()
    hub.ACCESS.allowed = hub.is_needed(SETTINGS)

    from train.job import end, main

    end(main(SETTINGS))
