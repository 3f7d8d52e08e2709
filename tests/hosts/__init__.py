"""Recorded hosts: answers of real machines, replayed to `host.collect`.

A recording contains `commands` (command line → `[exit code, stdout, stderr]`), `files` (path → text) and `environ`.
What it does not contain does not exist: a command exits with 127, a file cannot be read. `like` names a recording that
it changes; null removes something. `source` says where the answers are from, `ask` which stack was requested, `expect`
what is reported first.
"""

import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from envbuilder.host.collect import Probe
from envbuilder.host.parse import NOT_FOUND
from envbuilder.processes import Completed

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
CA = "/etc/ssl/certs/ca-certificates.crt"
_PARTS = ("commands", "files", "environ")


def read(name: str) -> dict[str, Any]:
    """A recording, with what it is like filled in."""
    recording = json.loads((FOLDER / f"{name}.json").read_text())
    base = read(recording["like"]) if "like" in recording else {}
    for part in _PARTS:
        merged = {**base.get(part, {}), **recording.get(part, {})}
        recording[part] = {
            key: value for key, value in merged.items() if value is not None
        }
    return recording


def play(recording: dict[str, Any]) -> Probe:
    """The recording as something to ask."""
    commands, files = recording["commands"], recording["files"]

    def run(argv: Any) -> Completed:
        line = shlex.join(argv)
        code, out, err = commands.get(
            line, (NOT_FOUND, "", f"{argv[0]}: command not found")
        )
        return Completed(
            returncode=code,
            stdout=out if isinstance(out, str) else json.dumps(out),
            stderr=err,
        )

    def answer(name: str) -> Any:
        return lambda: run([name])

    def names(folder: str) -> list[str]:
        inside = (
            PurePosixPath(path)
            for path in files
            if PurePosixPath(folder) in PurePosixPath(path).parents
        )
        return sorted({path.relative_to(folder).parts[0] for path in inside})

    return Probe(
        run=run,
        read=files.get,
        names=names,
        reach_index=answer("index"),
        reach_registry=answer("registry"),
        start_cuda=answer("cuda"),
        environ=recording["environ"],
        ca=recording.get("ca", CA),
    )
