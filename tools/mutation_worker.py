"""Runs pytest again and again without starting Python each time: everything that no mutant changes is imported once.

One line of JSON comes in for a run, {"words": […], "cpu_s": …, "wall_s": …, "output": FILE}; one goes out,
{"code": …, "cpu_s": …}. Each run is a fork; a limit that is reached ends it with -9.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from typing import Any

_IMPORTED_ONCE = (
    "pytest", "hypothesis.strategies", "_hypothesis_pytestplugin", "msgspec", "packaging.pylock", "click.testing",
    "docker", "jinja2", "rich.console", "junitparser", "jsonschema", "yaml", "tomllib", "concurrent.futures",
)  # fmt: skip
# pytest wants to rewrite the assertions of its plugins; those that are imported here have none of interest.
_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
_MEMORY = 6 * 2**30
_LOOK_EVERY_S = 0.02


def main() -> None:
    for name in _IMPORTED_ONCE:
        importlib.import_module(name)
    if any(name.split(".")[0] == "envbuilder" for name in sys.modules):
        raise SystemExit("envbuilder is imported already: no mutant would be seen")
    for line in sys.stdin:
        answer = _run(json.loads(line))
        print(json.dumps(answer), flush=True)


def _run(order: dict[str, Any]) -> dict[str, float]:
    pid = os.fork()
    if pid == 0:
        _child(order)
    deadline = time.monotonic() + order["wall_s"]
    done = 0
    while not done:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done and time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            done, status, usage = os.wait4(pid, 0)
        if not done:
            time.sleep(_LOOK_EVERY_S)
    _end_what_is_left(pid)
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": -9 if code == -signal.SIGXCPU else code,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _child(order: dict[str, Any]) -> None:
    """Be pytest, in a session of its own so that all that it starts can be ended."""
    os.setsid()
    limit = int(order["cpu_s"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    code = 1
    try:
        import pytest  # noqa: PLC0415 - imported already, by the parent

        code = int(pytest.main([*_QUIET, *order["words"]]))
    except (
        BaseException
    ):  # a mutant may raise anything, and this process must not go on as the worker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_what_is_left(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
