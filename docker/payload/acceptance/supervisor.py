"""Have worker processes run the checks, and watch them.

A check that hangs, or takes Python down with it, fails; a new worker goes on with the next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

from acceptance.causes import Causes
from acceptance.checks.inspection import Answer
from acceptance.deadline import GRACE, deadline_for
from acceptance.runner import SEE_STDERR, timed_out

if TYPE_CHECKING:
    from acceptance.checks.inspection import Check
    from acceptance.deadline import Deadline
    from acceptance.events import Emit
    from acceptance.limits import Limits

    Process = subprocess.Popen[str]

# What a signal means, and what to do.
DEATHS: dict[int, tuple[str, str]] = {
    signal.SIGBUS: ("/dev/shm may be full", "start it with `--shm-size 1g`"),
    signal.SIGSEGV: (
        "a library read invalid memory",
        "check whether the image has two copies of a library",
    ),
    signal.SIGILL: (
        "a library uses instructions that this CPU does not have",
        "use another build of it",
    ),
}
LANGUAGE_MODEL = "lm."  # the family of the checks of the causal model
# Where cgroups 2 and 1 count what the kernel has killed.
MEMORY_EVENTS = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)


@dataclass
class Run:
    """What the workers have reported so far: results by id, facts, and the figures of both trainings."""

    emit: Emit
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    lm: dict[str, Any] = field(default_factory=dict)
    causes: Causes = field(default_factory=Causes)

    def announce(self, checks: Sequence[Check], limits: Limits) -> None:
        plan = [{"id": check.id, "title": check.title} for check in checks]
        self.emit("plan", suite=limits.suite, checks=plan)

    def add_result(self, fields: dict[str, Any]) -> None:
        fields = self.causes.attribute(fields)
        self.results[fields["id"]] = fields
        self.emit("result", **fields)

    def figures_of(self, check_id: str) -> dict[str, Any]:
        """The figures of the training that a check runs."""
        return self.lm if check_id.startswith(LANGUAGE_MODEL) else self.training

    def statuses(self) -> set[str]:
        return {result["status"] for result in self.results.values()}

    def receive(self, event: dict[str, Any]) -> None:
        """Take a worker's event. Facts and figures are passed on once, at the end."""
        kind = event.pop("event")
        if kind == "facts":
            self.facts.update(event)
        elif kind == "training":
            self.training.update(event)
        elif kind == "lm":
            self.lm.update(event)
        elif kind == "result":
            self.add_result(event)
        else:
            self.emit(kind, **event)


def supervise(
    checks: Sequence[Check], command: Sequence[str], limits: Limits, run: Run
) -> None:
    """Run all checks. `command` starts a worker; one that dies is followed by another for the rest."""
    left = list(checks)
    while True:
        left = [check for check in left if not skip_dependent(check, run)]
        if not left:
            return
        worker = Worker(left, command, limits)
        ending = worker.run(run.receive)
        left = [check for check in left if check.id not in run.results]
        if left:
            culprit = find_culprit(left, ending)
            answer = ending.explain(limits.seconds_for(culprit.id))
            run.add_result(culprit.result("failed", answer))
            left.remove(culprit)


def skip_dependent(check: Check, run: Run) -> bool:
    """Whether a check needs the work of one that took its worker down; if so, its result is an error."""
    needed = run.results.get(check.needs or "")
    if needed is None or needed["status"] == "passed" or run.figures_of(needed["id"]):
        return False
    reason = needed["detail"] or needed["status"]
    answer = Answer(
        detail=f"not measured: {needed['title']} ({reason})",
        remedy=needed["remedy"],
    )
    run.emit("start", id=check.id)
    run.add_result(check.result("error", answer))
    return True


def find_culprit(unanswered: Sequence[Check], ending: Ending) -> Check:
    """The check that a worker died in; the first if it never got that far."""
    for check in unanswered:
        if check.id == ending.check_id:
            return check
    return unanswered[0]


@dataclass(frozen=True)
class Ending:
    """How a worker ended."""

    exit_code: int  # as subprocess has it: -7 for SIGBUS
    check_id: str  # the check it was in
    timed_out: bool
    out_of_memory: bool

    def explain(self, seconds: int) -> Answer:
        """Why it died before its end, and what to do; `seconds` is the deadline of the check it was in."""
        if self.timed_out:
            return timed_out(seconds)
        if self.exit_code >= 0:
            return Answer(
                detail=f"Python exited with code {self.exit_code} during the check",
                remedy=SEE_STDERR,
            )
        if self.out_of_memory:
            return Answer(
                detail="Python was killed: out of memory",
                remedy="give the container more (`--memory`)",
            )
        return explain_signal(-self.exit_code)


def explain_signal(number: int) -> Answer:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    detail = f"Python died of {name}"
    meaning, remedy = DEATHS.get(number, ("", SEE_STDERR))
    if meaning:
        detail = f"{detail}: {meaning}"
    return Answer(detail=detail, remedy=remedy)


@dataclass
class Worker:
    """One process that runs checks, and the guard of each check."""

    checks: Sequence[Check]
    command: Sequence[str]
    limits: Limits
    _guard: Guard | None = None
    _killed: threading.Event = field(default_factory=threading.Event)  # by a guard

    def run(self, on_event: Callable[[dict[str, Any]], None]) -> Ending:
        """Run it to its end, whichever that is."""
        ids = ",".join(check.id for check in self.checks)
        kills = memory_kills()
        with started([*self.command, "--worker", "--only", ids]) as process:
            self._read(process, on_event)
            exit_code = process.wait()
        return Ending(
            exit_code=exit_code,
            check_id=self._guard.check_id if self._guard else "",
            timed_out=self._killed.is_set(),
            out_of_memory=memory_kills() > kills,
        )

    def _read(
        self, process: Process, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.endswith("\n"):  # it died while writing
                    return
                event = json.loads(line)
                if event["event"] == "start":
                    self._watch(process, event["id"])
                on_event(event)
        finally:
            if self._guard:
                self._guard.check_is_over.set()

    def _watch(self, process: Process, check_id: str) -> None:
        if self._guard:
            self._guard.check_is_over.set()
        deadline = deadline_for(check_id, self.limits)
        self._guard = Guard(process, check_id, deadline, self._killed)
        self._guard.start()


class Guard(threading.Thread):
    """Kills a worker whose check does not hear its own alarm, unless the check is over before."""

    def __init__(
        self,
        process: Process,
        check_id: str,
        deadline: Deadline,
        killed: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self.check_id = check_id
        self.check_is_over = threading.Event()
        self._process = process
        self._deadline = deadline
        self._killed = killed

    def run(self) -> None:
        remaining = float(self._deadline.seconds)
        while remaining > 0:
            if self.check_is_over.wait(remaining):
                return
            remaining = self._deadline.remaining()
        if not self.check_is_over.wait(GRACE):
            self._killed.set()
            kill(self._process)


@contextmanager
def started(command: Sequence[str]) -> Iterator[Process]:
    """A process in a session of its own, killed with all that it started when the block ends."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)
        process.wait()
        if process.stdout:
            process.stdout.close()


def kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def memory_kills() -> int:
    """How many processes of this container the kernel has killed for memory."""
    for file in MEMORY_EVENTS:
        with suppress(OSError, ValueError, IndexError):
            return count_kills(file.read_text(encoding="ascii"))
    return 0


def count_kills(text: str) -> int:
    kills = 0
    for line in text.splitlines():
        if line.startswith("oom_kill "):
            kills += int(line.split()[1])
    return kills
