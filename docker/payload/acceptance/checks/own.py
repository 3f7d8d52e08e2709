"""Checks of the user's own: any program in Python that prints the same JSON lines.

A line is an event: {"event": "progress", "done", "total", "text"} or {"event": "result", "value", "bound" ({"min",
"max"}), "unit", "status", "detail", "remedy"}. A status that is left out follows from value and bound. With an "id" of
its own a result is shown on its own, so that one program can answer several questions. An exit code that is not 0
fails.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections import deque
from functools import partial
from tempfile import TemporaryFile

from acceptance.checks.inspection import Check, Failure, NotRun, within

_FIELDS = ("value", "bound", "unit", "detail", "remedy", "findings")


def as_check(path):
    """A file as a check; its title is the first line of its docstring."""
    name = os.path.splitext(os.path.basename(path))[0]
    return Check("own.%s" % name, title_of(path) or name, partial(check_own, path=path))


def title_of(path):
    try:
        with open(path, encoding="utf-8") as stream:
            text = ast.get_docstring(ast.parse(stream.read())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""  # running it will tell
    return text.split("\n")[0].strip().rstrip(".")


def check_own(inspection, path):
    """Run one of the user's programs and judge what it answers."""
    check = as_check(path)
    results, other = [], deque(maxlen=1)
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, path], stdout=subprocess.PIPE, stderr=errors, universal_newlines=True, errors="replace"
        )
        try:
            for line in process.stdout:
                event = read_event(line)
                if event.get("event") == "progress":
                    done, total = (count(event.get(name)) for name in ("done", "total"))
                    inspection.on_progress(done, total, str(event.get("text", "")))
                elif event.get("event") == "result":
                    results.append(judged(event))
                elif line.strip():
                    other.append(line.strip())
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        said = errors.read()
        sys.stderr.write(said)
        last = (said.strip().splitlines() or list(other) or ["no word"])[-1][:300]
    if code != 0:
        raise Failure(value="exit code %d" % code, bound="exit code 0", detail=last, remedy="see %s" % path)
    if not results:
        detail = "it printed no result; its last line: %s" % last
        raise Failure(detail=detail, remedy='print {"event": "result", "value": …, "bound": {"min": …}}')
    for result in results:
        if result["id"]:
            inspection.on_result(**dict(result, id="%s.%s" % (check.id, result["id"]), seconds=0.0))
    return whole(results)


def read_event(line):
    """A line as an event, or nothing."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def count(value):
    """How much is done, or there is to do; 0 for what is no number."""
    return max(0, int(value)) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0


def judged(event):
    """A result with all its fields; what is said and what the numbers say must agree."""
    told = str(event.get("id") or "")
    result = {"id": re.sub(r"[^A-Za-z0-9_.-]+", "-", told), "value": None, "bound": None, "detail": "", "remedy": ""}
    result.update({name: event[name] for name in _FIELDS if name in event})
    result.update({name: str(result[name] or "") for name in ("detail", "remedy", "unit") if name in result})
    if "findings" in result:
        findings = result["findings"] if isinstance(result["findings"], list) else [result["findings"]]
        result["findings"] = [str(finding) for finding in findings]
    result["title"] = str(event.get("title") or told)
    result["status"] = event.get("status") or "passed"
    if result["status"] not in ("passed", "failed", "error", "not_run"):
        result.update(status="failed", detail="%r is no status" % result["status"])
    value, bound = result["value"], result["bound"]
    if result["status"] == "passed" and bound is not None:
        try:
            good = within(value, bound) if isinstance(bound, dict) else value == bound
        except TypeError:
            good = False
        if not good:
            result["status"] = "failed"
    return result


def whole(results):
    """What one program's results come to: its own one, or the worst of several."""
    order = ("failed", "error", "passed", "not_run")
    worst = min(results, key=lambda result: order.index(result["status"]))
    fields = {name: worst[name] for name in _FIELDS if name in worst} if len(results) == 1 else {"value": len(results)}
    if worst["status"] == "not_run":
        raise NotRun(worst["detail"] or "it was not run", worst["value"])
    if worst["status"] != "passed":
        fields["detail"] = worst["detail"] or "%s is not right" % (worst["title"] or "it")
        raise Failure(**dict(fields, remedy=worst["remedy"]))
    return fields
