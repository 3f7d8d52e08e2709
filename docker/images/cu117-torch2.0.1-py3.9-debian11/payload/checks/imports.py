"""Does every package import?"""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig

from checks.identity import normal
from checks.inspection import Failure

_IMPORTER = """
import importlib, json, sys, warnings
failed, said = {}, {}
for distribution, names in json.load(sys.stdin):
    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                importlib.import_module(name)
            except BaseException as error:
                failed[name] = "%s: %s" % (type(error).__name__, str(error).strip()[:300])
        for one in caught:
            line = "%s: %s" % (one.category.__name__, str(one.message).strip().split("\\n")[0][:200])
            said.setdefault(line, name)
    print(json.dumps({"done": distribution}), flush=True)
print(json.dumps({"failed": failed, "said": said}), flush=True)
"""


def top_level(distribution):
    """The packages and modules that a distribution puts at the top, by its RECORD."""
    names = set()
    for path in distribution.files or ():
        first = path.parts[0]
        if len(path.parts) == 1 and first.endswith(".py"):
            names.add(first[:-3])
        elif len(path.parts) == 2 and path.parts[1] == "__init__.py":
            names.add(first)
    return sorted(name for name in names if name.isidentifier() and not name.startswith("_"))


def check_imports(inspection):
    found = list(importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]))
    names = sorted((normal(item.metadata["Name"]), top_level(item)) for item in found)
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", _IMPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    try:
        process.stdin.write(json.dumps(names))
        process.stdin.close()
        answer, done = None, 0
        for line in process.stdout:
            event = read_event(line)
            if "done" in event:
                done += 1
                inspection.on_progress(done, len(names), event["done"])
            elif "failed" in event:
                answer = event
        if answer is None:
            code, last = process.wait(), process.stderr.read().strip().splitlines()[-1:]
            detail = "Python died (exit code %d) after %d packages: %s" % (code, done, " ".join(last))
            raise Failure(value=len(names) - done, detail=detail, remedy="import them one by one to find which")
    finally:
        process.kill()
        process.wait()
    return inspection.judge(
        "imports.failed",
        len(answer["failed"]),
        detail="; ".join("%s: %s" % pair for pair in sorted(answer["failed"].items())),
        remedy="two packages do not fit together: lock them again, as of the stack's date",
        findings=["%s (%s)" % (said, name) for said, name in sorted(answer["said"].items())],
    )


def read_event(line):
    """One of the importer's lines; what the packages themselves print is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
