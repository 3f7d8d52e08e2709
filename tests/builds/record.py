"""Record the output of buildx for a real build, as a test case. Needs an engine, the base image and the index.

    PYTHONPATH=tests .venv/bin/python -m builds.record KIND > tests/builds/KIND.rawjson

KIND is one of `KINDS`; `built` comes first, for the others take its layers from the builder's cache. It downloads
2.4 GB into a separate cache mount (`id=record`), which stays in the builder: `docker builder prune` frees it.
"""

import base64
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from envbuilder import processes
from envbuilder.engine.buildx import BuildOptions, build_argv
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.network import find_network
from envbuilder.render.context import IMAGES, place_of, render_context
from envbuilder.render.context_folder import write_context

KINDS = ("built", "hash-mismatch", "no-network", "disk-full")
STACK = "cu117-torch2.0.1-py3.9-debian11"
LOCK = Path(__file__).parents[2] / "docker" / IMAGES / STACK / LOCK_FILE
FOLDER = Path(__file__).parent
CACHE = "type=cache,target=/root/.cache/uv,id=uv"
OWN_CACHE = "type=cache,target=/root/.cache/uv,id=record"
SMALL_CACHE = "type=tmpfs,size=40m,target=/root/.cache/uv"
HOST = re.compile(rb"https?://[^\s/`\"')]+")


def main() -> None:
    kind = sys.argv[1]
    if kind not in KINDS:
        sys.exit(f"KIND is one of {', '.join(KINDS)}")
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        code = build(kind, Path(folder), said)
    if (code == 0) != (kind == "built"):
        sys.exit(f"the build ended with {code}:\n{''.join(said)}")
    sys.stdout.write(without_hosts("".join(said)).replace(OWN_CACHE, CACHE))


def build(kind: str, folder: Path, said: list[str]) -> int:
    """Build today's Dockerfile, broken as `kind` says."""
    lock = parse_lock(LOCK.read_text(), source=str(LOCK))
    write_context(render_context(lock), folder)
    place = place_of(lock.stack)
    edit(
        folder / place / "Dockerfile",
        CACHE,
        SMALL_CACHE if kind == "disk-full" else OWN_CACHE,
    )
    if kind == "hash-mismatch":
        numpy = next(wheel for wheel in lock.wheels if wheel.name == "numpy")
        edit(
            folder / place / "layers/libraries.txt",
            numpy.sha256,
            "00000000" + numpy.sha256[8:],
        )
    network = find_network(os.environ, home=Path.home())
    argv = build_argv(
        folder,
        dockerfile=f"{place}/Dockerfile",
        iidfile=folder / "iid",
        metadata=folder / "metadata.json",
        options=BuildOptions(no_cache=kind == "built"),
        network=network,
    )
    if kind == "no-network":
        argv[3:3] = ["--network", "none"]
    return processes.stream(
        argv, said.append, env={**os.environ, **(network.proxies or {})}
    )


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} does not say {old!r}"
    path.write_text(text.replace(old, new))


def without_hosts(text: str) -> str:
    """The same documents with the name of every server replaced, the chunks as they came."""

    def hide(found: re.Match[str]) -> str:
        chunk = base64.b64decode(found[2])
        return (
            found[1]
            + base64.b64encode(HOST.sub(b"https://index.invalid", chunk)).decode()
            + '"'
        )

    return re.sub(r'("data": ")([A-Za-z0-9+/=]+)"', hide, text)


def documents(text: str) -> list[dict[str, Any]]:
    """BuildKit's documents in a recording; what is none (the error at the end) is left out."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while text.startswith("{", place):
        document, end = decoder.raw_decode(text, place)
        found.append(document)
        place = end + 1
    return found


if __name__ == "__main__":
    main()
