"""What the suite in a container writes, event by event, and the facts that go with the labels of `IMAGE`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from envbuilder.acceptance import suite
from envbuilder.engine.image import ImageFacts

WHEEL_BYTES = 1_000_000_000
FACTS = {
    "python": "3.9", "torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "", "cuda": "11.7.99",
    "cudnn": "8.5.0", "nccl": "2.14.3", "arch_list": ["sm_37", "sm_50"], "os": "debian 11", "lock": "sha256:1",
    "wheel_bytes": WHEEL_BYTES,
}  # fmt: skip
_STATED = {
    "name": "a-stack", "python": "3.9", "torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "",
    "cuda": "11.7.99", "cudnn": "8.5.0.96", "nccl": "2.14.3", "arch-list": "sm_37 sm_50", "os": "debian 11",
    "lock": "sha256:1",
}  # fmt: skip
LABELS = {f"dev.envbuilder.{name}": value for name, value in _STATED.items()}
LABELS |= {f"org.opencontainers.image.{name}": "said" for name in ("title", "description", "base.name")}
IMAGE = ImageFacts(
    id="sha256:" + "1" * 64, labels=LABELS, env=(), platform="linux/amd64", size=WHEEL_BYTES, digest=None
)

INSIDE: Sequence[str] = tuple(suite.bounds()["bounds"])


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"event": kind, **fields})


def plan(names: Sequence[str] = INSIDE) -> str:
    return event("plan", suite="3", checks=[{"id": name, "title": f"title of {name}"} for name in names])


def start(name: str) -> str:
    return event("start", id=name)


def result(name: str, status: str = "passed", **fields: Any) -> str:
    return event("result", id=name, title=f"title of {name}", status=status, seconds=0.5, **fields)


def passing(
    names: Sequence[str] = INSIDE, *, changed: Mapping[str, str] | None = None, facts: Mapping[str, Any] = FACTS
) -> list[str]:
    """A whole run; `changed` is what came of a check that did not pass."""
    lines = [plan(names), event("facts", **facts)]
    for name in names:
        status = (changed or {}).get(name, "passed")
        lines += [start(name), result(name, status, detail="" if status == "passed" else f"{name} says why")]
    return [*lines, event("training", accuracy=1.0, loss=0.002), event("end", verdict="passed")]
