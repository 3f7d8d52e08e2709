"""Does every package import?"""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES

from acceptance.checks.identity import normal
from acceptance.checks.inspection import Failure

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


_BELOW = {"tensorboard": ["torch.utils.tensorboard"]}  # `train` goes without if this breaks, and nobody would know
_MODULES = (".py", *(suffix for suffix in EXTENSION_SUFFIXES if suffix != ".so"))  # a bare .so may be any library


def top_level(distribution):
    """What a distribution puts at the top, by its RECORD: packages, modules; inside a namespace if there are none."""
    names, below = set(), set()
    for path in distribution.files or ():
        parts = path.parts
        if len(parts) == 1 and parts[0].endswith(_MODULES):
            names.add(parts[0].split(".")[0])
        elif len(parts) == 2 and parts[1] == "__init__.py":
            names.add(parts[0])
        elif len(parts) == 3 and parts[2] == "__init__.py":
            below.add("%s.%s" % parts[:2])
    return sorted(name for name in names or below if is_public(name))


def modules(distribution):
    """A distribution's name, and what is imported of it."""
    name = normal(distribution.metadata["Name"])
    return name, top_level(distribution) + _BELOW.get(name, [])


def is_public(name):
    return all(word.isidentifier() and not word.startswith("_") for word in name.split("."))


def check_imports(inspection):
    found = importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]])
    names = sorted(map(modules, found))
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8", errors="replace"
    ) as talk:  # no pipe: it would fill, and the imports would wait
        answer = import_all(names, inspection.on_progress, talk)
    return inspection.hold(
        "imports.failed",
        len(answer["failed"]),
        detail="; ".join("%s: %s" % pair for pair in sorted(answer["failed"].items())),
        remedy="two packages do not fit together: lock them again, as of the stack's date",
        findings=["%s (%s)" % (said, name) for said, name in sorted(answer["said"].items())],
    )


def import_all(names, on_progress, talk):
    """Import everything in one other Python, whose stderr is `talk`; raises `Failure` if it dies of it."""
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", _IMPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=talk,
        universal_newlines=True,
    )
    answer, done = None, 0
    try:
        process.stdin.write(json.dumps(names))
        process.stdin.close()
        for line in process.stdout:
            event = read_event(line)
            if "done" in event:
                done += 1
                on_progress(done, len(names), event["done"])
            elif "failed" in event:
                answer = event
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if answer is None:
        talk.seek(0)
        last = " ".join(talk.read().strip().splitlines()[-1:])
        detail = "Python died (exit code %d) after %d packages: %s" % (code, done, last)
        raise Failure(value=len(names) - done, detail=detail, remedy="import them one by one to find which")
    return answer


def read_event(line):
    """One of the importer's lines; what the packages themselves print is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
