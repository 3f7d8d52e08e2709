"""What the suite in a container writes, event by event, and the facts that go with the labels of `IMAGE`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envbuilder.acceptance import shipped, suite
from envbuilder.engine.image import ImageFacts
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.render.context import labels_of

ROOT = Path(__file__).parents[2]
LOCK_TEXT = (
    ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
).read_text(encoding="utf-8")
LOCK = parse_lock(LOCK_TEXT, source="the stand-in's lock")
LABELS = labels_of(LOCK, LOCK_TEXT)
WHEEL_BYTES = sum(wheel.size for wheel in LOCK.wheels)
FACTS = {
    "python": "3.9", "os": "debian 11", "torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "2.0.2",
    "cuda": "11.7.99", "cudnn": "8.5.0", "nccl": "2.14.3", "arch_list": list(LOCK.stack.arch_list),
    "lock": LABELS["dev.envbuilder.lock"], "wheel_bytes": WHEEL_BYTES,
}  # fmt: skip
FILES = {  # of /opt/envbuilder
    LOCK_FILE: LOCK_TEXT.encode(),
    "requirements.txt": requirements_text(LOCK).encode(),
    **shipped.payload(),
}
IMAGE = ImageFacts(
    id="sha256:" + "1" * 64,
    labels=LABELS,
    env=(),
    platform="linux/amd64",
    size=WHEEL_BYTES,
    digest=None,
)

INSIDE: Sequence[str] = tuple(suite.bounds()["bounds"])


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"event": kind, **fields})


def plan(names: Sequence[str] = INSIDE) -> str:
    return event(
        "plan",
        suite="4",
        checks=[{"id": name, "title": f"title of {name}"} for name in names],
    )


def start(name: str) -> str:
    return event("start", id=name)


def result(name: str, status: str = "passed", **fields: Any) -> str:
    return event(
        "result",
        id=name,
        title=f"title of {name}",
        status=status,
        seconds=0.5,
        **fields,
    )


def passing(
    names: Sequence[str] = INSIDE,
    *,
    changed: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] = FACTS,
) -> list[str]:
    """A whole run without a GPU; `changed` is what came of a check that did not pass."""
    lines = [plan(names), event("facts", **facts)]
    for name in names:
        status = (changed or {}).get(
            name, "not_run" if name.startswith("gpu.") else "passed"
        )
        lines += [
            start(name),
            result(
                name, status, detail="" if status == "passed" else f"{name} says why"
            ),
        ]
    return [
        *lines,
        event("training", accuracy=1.0, loss=0.002),
        event("end", verdict="passed"),
    ]
