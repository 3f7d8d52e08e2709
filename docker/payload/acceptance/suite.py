"""The acceptance suite: is what is in this image what the lock says, and does it train?

    accept [--json-lines] [--require-gpu] [--lock FILE] [--only ID,…] [--own FILE]…

Runs inside the image and imports nothing of envbuilder. With --json-lines each line of stdout is one event (plan,
start, progress, result, facts, training, end); whatever a library prints goes to stderr, so nothing but this file can
write an event. Exit code: 0 passed, 7 not passed, 130 interrupted.

Two processes: a worker runs the checks one after the other, this one watches it. A check that hangs, or takes Python
down with it, fails; a new worker goes on with the next. A busy machine is no hang: there a check has more time.
"""

import argparse
import faulthandler
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from functools import partial

from acceptance.checks import CHECKS, LIBRARIES, Failure, Inspection, NotRun, own

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = "/opt/envbuilder"  # an image of ours has its lock and its training job here
LOCK = os.path.join(HOME, "envbuilder.lock")

PASSED, NOT_PASSED, INTERRUPTED = 0, 7, 130
DEADLINE = 120  # seconds, for a check that has none of its own in bounds.json
GRACE = 10  # seconds more for a check that hangs in native code and does not hear its alarm


# --- saying what happens -------------------------------------------------------------------------------------------


class Lines:
    """Events as JSON lines, on a private copy of stdout; the public one becomes stderr."""

    def __init__(self):
        sys.stdout.flush()
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.set_inheritable(self._stream.fileno(), False)
        os.dup2(2, 1)

    def __call__(self, event, **fields):
        fields = sendable(fields, None if event == "training" else str)
        self._stream.write(json.dumps(dict(event=event, **fields), allow_nan=False) + "\n")
        self._stream.flush()


def sendable(value, infinite=str):
    """What JSON can carry: numbers that are none become words, or nothing if `infinite` is None; no half characters."""
    if isinstance(value, float) and not math.isfinite(value):
        return infinite(value) if infinite else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {sendable(str(key)): sendable(item, infinite) for key, item in value.items()}
    return [sendable(item, infinite) for item in value] if isinstance(value, (list, tuple)) else value


class Talk:
    """Events for a person at a terminal."""

    def __call__(self, event, **fields):
        if event == "result":
            value = "" if fields["value"] is None else " %s%s" % (fields["value"], bound_text(fields))
            print("%-8s %s%s  %s" % (fields["status"], fields["title"], value, fields["detail"]))
            if fields["remedy"]:
                print("         remedy: %s" % fields["remedy"])
        elif event == "end":
            print(fields["verdict"])
        sys.stdout.flush()


def bound_text(fields):
    """` (at least 0.95)`; nothing where the bound is the value."""
    bound = fields["bound"]
    if isinstance(bound, dict):
        words = ["at %s %s" % (word, bound[end]) for end, word in (("min", "least"), ("max", "most")) if end in bound]
        return " (%s)" % ", ".join(words)
    return "" if bound in (None, fields["value"]) else " (expected %s)" % (bound,)


# --- the worker: one check after the other -------------------------------------------------------------------------


class Late(BaseException):
    """A check took longer than its deadline. No `Exception`: torch and the checks catch those."""


class Deadline:
    """How long a check may take: its seconds on an idle machine, up to `patience` times as long on a busy one."""

    def __init__(self, seconds, patience):
        self.seconds, self.patience, self.begun = seconds, patience, time.monotonic()

    def left(self):
        """Seconds that are left, as busy as the machine is: it has cores, and processes that want one (`uptime`)."""
        wanted = max(os.getloadavg()[:2])  # over one minute, over five
        times = min(self.patience, max(1.0, wanted / (os.cpu_count() or 1)))
        return self.begun + self.seconds * times - time.monotonic()

    def on_alarm(self, number, frame):
        left = self.left()
        if left <= 0:
            raise Late
        signal.setitimer(signal.ITIMER_REAL, left)
        faulthandler.dump_traceback_later(left + GRACE // 2, file=sys.__stderr__)


def blank(check):
    """A result without a status."""
    return {"id": check.id, "title": check.title, "value": None, "bound": None, "detail": "", "remedy": ""}


def late_fields(seconds):
    return {"detail": "it took longer than %d s" % seconds, "remedy": "is the machine busy, or a device hung?"}


def outcome(check, inspection, deadline):
    """Run one check; whatever Python can catch becomes a result."""
    answer = blank(check)
    signal.signal(signal.SIGALRM, deadline.on_alarm)
    signal.alarm(deadline.seconds)
    faulthandler.dump_traceback_later(deadline.seconds + GRACE // 2, file=sys.__stderr__)
    try:
        status = "passed"
        answer.update(check.run(inspection) or {})
    except NotRun as reason:
        status = "not_run"
        answer.update(reason.fields)
    except Failure as failure:
        status = "failed"
        answer.update(failure.fields)
    except Late:
        status = "failed"
        answer.update(late_fields(deadline.seconds))
    except Exception as error:
        status = "error"
        answer.update(error_fields(error))
        traceback.print_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    answer.update(status=status, seconds=round(time.monotonic() - deadline.begun, 2))
    return answer


def error_fields(error):
    """What broke a check that should not break."""
    if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
        return {"detail": "there is no %s in this image" % error.name, "remedy": "install it, or leave this check out"}
    said = "".join(traceback.format_exception_only(type(error), error)).strip()[-500:]
    return {"detail": said, "remedy": SEE}


def tell_progress(tell, check_id, done, total, text=""):
    tell("progress", id=check_id, done=done, total=total, text=text)


def deadline_of(check_id, bounds):
    """A deadline that begins now."""
    return Deadline(bounds["deadlines"].get(check_id, DEADLINE), bounds["patience"])


def work(checks, inspection, bounds, tell):
    """All checks in order; what is known so far is told after each, for this process may not live to its end."""
    tell("facts", **inspection.facts)
    for check in checks:
        tell("start", id=check.id)
        inspection.on_progress = partial(tell_progress, tell, check.id)
        inspection.on_result = partial(tell, "result")
        facts, training = dict(inspection.facts), dict(inspection.training)
        result = outcome(check, inspection, deadline_of(check.id, bounds))
        if inspection.facts != facts:
            tell("facts", **inspection.facts)
        if inspection.training != training:
            tell("training", **inspection.training)
        tell("result", **result)


# --- the watcher ---------------------------------------------------------------------------------------------------


class Run:
    """All that is known: the results by id, the facts, the figures of the fine-tune."""

    def __init__(self, tell):
        self.tell, self.results, self.facts, self.training = tell, {}, {}, {}

    def result(self, **fields):
        self.results[fields["id"]] = fields
        self.tell("result", **fields)

    def hear(self, event):
        """Take a worker's event, and pass it on."""
        kind, fields = event.pop("event"), event
        if kind == "facts":
            self.facts.update(fields)
        elif kind == "training":
            self.training.update(fields)
        elif kind == "result":
            self.result(**fields)
        else:
            self.tell(kind, **fields)


def watch(checks, command, bounds, run):
    """Have workers run all the checks; one that dies is followed by another for what is left."""
    left = list(checks)
    while left:
        left = [check for check in left if not skipped(check, run)]
        if not left:
            break
        kills = memory_kills()
        code, late, current = one_worker(left, command, bounds, run)
        left = [check for check in left if check.id not in run.results]
        if left:  # it died; its check did it, or the first if it never got so far
            guilty = next((check for check in left if check.id == current), left[0])
            seconds = deadline_of(guilty.id, bounds).seconds
            fields = late_fields(seconds) if late else death_fields(code, memory_kills() > kills)
            run.result(**dict(blank(guilty), status="failed", seconds=0.0, **fields))
            left.remove(guilty)


def skipped(check, run):
    """Whether a check builds on one that took its worker down: then there is nothing to run."""
    before = run.results.get(check.needs)
    if before is None or before["status"] == "passed" or run.training:
        return False
    detail = "not measured: %s (%s)" % (before["title"], before["detail"] or before["status"])
    run.tell("start", id=check.id)
    run.result(**dict(blank(check), status="error", seconds=0.0, detail=detail, remedy=before["remedy"]))
    return True


def one_worker(checks, command, bounds, run):
    """Run one worker to its end: exit code, whether it was killed at a deadline, the id of the check it was in."""
    current, late, over = None, threading.Event(), threading.Event()
    with worker([*command, "--worker", "--only", ",".join(check.id for check in checks)]) as process:
        try:
            for line in process.stdout:
                if not line.endswith("\n"):  # it died in the middle of a word
                    break
                event = json.loads(line)
                if event["event"] == "start":
                    current = event["id"]
                    over.set()
                    over = threading.Event()
                    words = (process, deadline_of(current, bounds), over, late)
                    threading.Thread(target=guard, args=words, daemon=True).start()
                run.hear(event)
        finally:
            over.set()
        return process.wait(), late.is_set(), current


def guard(process, deadline, over, late):
    """Kill a worker whose check does not hear its own alarm, unless it is `over` before; `late`: it was killed."""
    left = deadline.seconds
    while left > 0:
        if over.wait(left):
            return
        left = deadline.left()
    if not over.wait(GRACE):
        late.set()
        end(process)


@contextmanager
def worker(command):
    """A process in a session of its own, ended with all that it started when the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True, start_new_session=True)
    try:
        yield process
    finally:
        end(process)
        process.wait()
        process.stdout.close()


def end(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


SEE = "see its last words on stderr: `docker run --rm IMAGE accept`"
DEATHS = {
    signal.SIGBUS: ("/dev/shm may be full", "start it with `--shm-size 1g`"),
    signal.SIGSEGV: ("a library read memory that is not its own", "do two copies of a library lie in the image?"),
    signal.SIGILL: ("a library uses instructions that this CPU does not have", "use another build of it"),
}


def death_fields(code, out_of_memory):
    """Why a worker died, and what to do."""
    if code >= 0:
        return {
            "detail": "Python ended with exit code %d in the middle" % code,
            "remedy": SEE,
        }
    if out_of_memory:
        return {"detail": "Python was killed: it ran out of memory", "remedy": "give the container more (`--memory`)"}
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "signal %d" % -code
    why, remedy = DEATHS.get(-code, ("", SEE))
    return {"detail": "Python died of %s%s" % (name, ": " + why if why else ""), "remedy": remedy}


def memory_kills():
    """How many processes of this container the kernel has killed for memory (cgroups 2, then 1)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path, encoding="ascii") as stream:
                return sum(int(line.split()[1]) for line in stream if line.startswith("oom_kill "))
        except (OSError, ValueError, IndexError):
            continue
    return 0


# --- the command ---------------------------------------------------------------------------------------------------


def verdict(results):
    """As the host derives it: evidence against the image, no evidence from some check, or neither."""
    found = {result["status"] for result in results}
    if "failed" in found:
        return "failed"
    return "incomplete" if "error" in found or "passed" not in found else "passed"


def parse_options():
    parser = argparse.ArgumentParser(prog="accept", description="Is what is in this image what the lock says?")
    parser.add_argument("--json-lines", action="store_true", help="one JSON event a line, for envbuilder")
    parser.add_argument("--require-gpu", action="store_true", help="no GPU is a failure")
    parser.add_argument("--lock", metavar="FILE", default=LOCK, help="what to compare with [%(default)s]")
    parser.add_argument("--only", metavar="ID[,ID]", help="these checks alone; never enough for a tag")
    parser.add_argument("--own", metavar="FILE", action="append", default=[], help="a check of your own")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for file in options.own + ([options.lock] if options.lock != parser.get_default("lock") else []):
        if not os.path.exists(file):
            parser.error("%s: there is no such file" % file)
    options.checks = list(CHECKS) + [own.as_check(file) for file in options.own]
    if options.only:
        wanted = options.only.split(",")
        strange = set(wanted) - {check.id for check in options.checks}
        if strange:
            parser.error("--only: no such check: %s" % ", ".join(sorted(strange)))
        options.checks = [check for check in options.checks if check.id in wanted]
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tell = Lines() if options.json_lines or options.worker else Talk()
    with open(os.path.join(HERE, "bounds.json"), encoding="utf-8") as stream:
        bounds = json.load(stream)
    try:
        if options.worker:
            inspection = Inspection(options.lock, bounds, options.require_gpu)
            work(options.checks, inspection, bounds, tell)
            return PASSED
        return accept(options, bounds, tell)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def accept(options, bounds, tell):
    """The whole suite, told from plan to end; returns the exit code."""
    plan = [{"id": check.id, "title": check.title} for check in options.checks]
    tell("plan", suite=bounds["suite"], checks=plan)
    command = [sys.executable, os.path.abspath(sys.argv[0]), "--lock", options.lock]
    command += ["--require-gpu"] if options.require_gpu else []
    command += [word for file in options.own for word in ("--own", file)]
    run = Run(tell)
    watch(options.checks, command, bounds, run)
    tell("facts", **run.facts)
    if run.training:
        tell("training", **run.training)
    found = verdict(run.results.values())
    tell("end", verdict=found)
    return PASSED if found == "passed" else NOT_PASSED
