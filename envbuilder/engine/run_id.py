"""A run's id names its process, so that what a killed run left behind can be recognized and removed."""

import os
import platform
from datetime import datetime
from hashlib import sha256
from pathlib import Path


def new_run_id() -> str:
    """This process as `host:pid:start`: enough to tell later whether it still runs."""
    return f"{platform.node()}:{os.getpid()}:{_started(os.getpid())}"


def stamp(run_id: str, now: datetime) -> str:
    """A run and an instant as part of a file's name, in order of time: `20261127T120001-5f3a9c`."""
    return f"{now:%Y%m%dT%H%M%S}-{sha256(run_id.encode()).hexdigest()[:6]}"


def is_alive(run_id: str) -> bool:
    """Whether the process of a run id may still run; true if that cannot be known."""
    try:
        host, pid, started = run_id.rsplit(":", 2)
        number = int(pid)
    except ValueError:
        return True
    return host != platform.node() or _started(number) == started


def _started(pid: int) -> str:
    """The kernel's start time of a process (proc(5), stat field 22), or "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the program's name in brackets, which may itself hold blanks and brackets.
        _, after_name = stat.rsplit(")", 1)
        return after_name.split()[19]
    except (OSError, ValueError, IndexError):
        return ""
