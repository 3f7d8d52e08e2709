"""The command `train`. The job is in job.py, which takes seconds to import: signals and options come first."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

# `python …/train` puts this directory first on the path; the package is found from the one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from train import hub
from train.interrupts import end_process, handle_interrupt
from train.options import parse_settings


def main() -> None:
    # As process 1 of a container, Python would not even notice SIGTERM by default.
    signal.signal(signal.SIGINT, handle_interrupt)
    signal.signal(signal.SIGTERM, handle_interrupt)
    settings = parse_settings()
    hub.ACCESS.allowed = hub.is_needed(settings)

    from train import job

    code = job.main(settings)
    end_process(code)


if __name__ == "__main__":
    main()
