#!/usr/bin/env python3
"""The acceptance suite: is what is in this image what the lock says, and does it train?

    accept [--json-lines] [--require-gpu] [--lock FILE]

Runs inside the image and imports nothing of envbuilder. With --json-lines each line of stdout is one event (plan,
start, progress, result, facts, training, end); whatever a library prints goes to stderr, so nothing but this file can
write an event. Exit code: 0 passed, 7 failed, 130 interrupted.
"""

import argparse
import faulthandler
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from functools import partial

from checks import CHECKS, Failure, Inspection, NotRun

HERE = os.path.dirname(os.path.abspath(__file__))
PASSED, FAILED, INTERRUPTED = 0, 7, 130
DEADLINE = 120  # seconds, for a check that has none of its own in bounds.json
GRACE = 30  # seconds more for a check that hangs in native code and cannot be told; then the suite ends where it is


def suite_hash():
    """One hash over everything in this folder that decides what a receipt means."""
    sha = hashlib.sha256()
    for folder in ("", "checks"):
        for name in sorted(os.listdir(os.path.join(HERE, folder))):
            if name.endswith((".py", ".json")):
                with open(os.path.join(HERE, folder, name), "rb") as stream:
                    sha.update(name.encode() + b"\0" + stream.read())
    return "sha256:" + sha.hexdigest()


class Lines:
    """Events as JSON lines, on a private copy of stdout; the public one becomes stderr."""

    def __init__(self):
        sys.stdout.flush()
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.set_inheritable(self._stream.fileno(), False)
        os.dup2(2, 1)

    def __call__(self, event, **fields):
        self._stream.write(json.dumps(dict(event=event, **fields)) + "\n")
        self._stream.flush()


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


class Late(BaseException):
    """A check took longer than its deadline. No `Exception`: torch and the checks catch those."""


def on_alarm(number, frame):
    raise Late


def outcome(check, inspection, deadline):
    """Run one check; whatever happens in it becomes a result, and the next one still runs."""
    started = time.monotonic()
    answer = {"id": check.id, "title": check.title, "value": None, "bound": None, "detail": "", "remedy": ""}
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(deadline)
    faulthandler.dump_traceback_later(deadline + GRACE, exit=True, file=sys.__stderr__)
    try:
        status = "passed"
        answer.update(check.run(inspection) or {})
    except NotRun as reason:
        status, answer["detail"] = "not_run", str(reason)
    except Failure as failure:
        status = "failed"
        answer.update(failure.fields)
    except Late:
        status = "failed"
        answer.update(detail="it took longer than %d s" % deadline, remedy="is the machine busy, or a device hung?")
    except Exception as error:
        status = "error"
        answer["detail"] = "".join(traceback.format_exception_only(type(error), error)).strip()[-500:]
        answer["remedy"] = "see the traceback on stderr; a check should not break"
        traceback.print_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    answer.update(status=status, seconds=round(time.monotonic() - started, 2))
    answer.setdefault("findings", [])
    return answer


def tell_progress(tell, check_id, done, total, text=""):
    tell("progress", id=check_id, done=done, total=total, text=text)


def run(checks, inspection, bounds, tell):
    """All checks in order; returns the verdict."""
    tell(
        "plan",
        suite=bounds["suite"],
        suite_hash=suite_hash(),
        checks=[{"id": check.id, "title": check.title} for check in checks],
    )
    results = []
    for check in checks:
        tell("start", id=check.id)
        inspection.on_progress = partial(tell_progress, tell, check.id)
        results.append(outcome(check, inspection, bounds["deadlines"].get(check.id, DEADLINE)))
        tell("result", **results[-1])
    tell("facts", **inspection.facts)
    if inspection.training:
        tell("training", **inspection.training)
    good = all(result["status"] in ("passed", "not_run") for result in results)
    verdict = "passed" if good and any(result["status"] == "passed" for result in results) else "failed"
    tell("end", verdict=verdict)
    return verdict


def main():
    parser = argparse.ArgumentParser(prog="accept", description="Is what is in this image what the lock says?")
    parser.add_argument("--json-lines", action="store_true", help="one JSON event a line, for envbuilder")
    parser.add_argument("--require-gpu", action="store_true", help="no GPU is a failure")
    parser.add_argument("--lock", metavar="FILE", help="what to compare with [the image's own]")
    parser.add_argument("--only", metavar="ID[,ID]", help="these checks alone; never enough for a tag")
    options = parser.parse_args()
    if options.lock and not os.path.exists(options.lock):
        parser.error("--lock %s: there is no such file" % options.lock)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tell = Lines() if options.json_lines else Talk()
    with open(os.path.join(HERE, "bounds.json"), encoding="utf-8") as stream:
        bounds = json.load(stream)
    lock_file = options.lock or os.path.join(os.path.dirname(HERE), "envbuilder.lock")
    inspection = Inspection(lock_file=lock_file, bounds=bounds["bounds"], require_gpu=options.require_gpu)
    wanted = options.only.split(",") if options.only else [check.id for check in CHECKS]
    checks = [check for check in CHECKS if check.id in wanted]
    if len(checks) < len(wanted):
        parser.error("--only: no such check: %s" % ", ".join(sorted(set(wanted) - {check.id for check in CHECKS})))
    try:
        return PASSED if run(checks, inspection, bounds, tell) == "passed" else FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
