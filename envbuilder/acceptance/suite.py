"""Running the suite in an image, once, in one container."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from envbuilder import resources
from envbuilder.acceptance.judge import check_answered, check_labels, check_layers, check_size, verdict
from envbuilder.acceptance.watch import Watch, ending_text
from envbuilder.console import Row
from envbuilder.engine.client import Engine
from envbuilder.errors import EngineError
from envbuilder.gpu import GpuPlan
from envbuilder.model import SCHEMA, Check, Receipt

DEADLINE = 900  # seconds for the whole container; each check inside has its own in bounds.json
NAME_LABEL = "dev.envbuilder.name"


def required_checks() -> list[str]:
    """The checks without which nothing is accepted: those that have a bound in this envbuilder's own suite."""
    return sorted(bounds()["bounds"])


def bounds() -> dict[str, Any]:
    """bounds.json of this envbuilder."""
    document: dict[str, Any] = json.loads((resources.folder("payload") / "bounds.json").read_text())
    return document


def accept(
    engine: Engine,
    image: str,
    *,
    gpu: GpuPlan,
    require_gpu: bool = False,
    user: str | None = None,
    deadline: float = DEADLINE,
    on_change: Callable[[Sequence[Row]], None],
) -> Receipt:
    """Run the suite in `image` (an id or a name) and judge it. Raises `EngineError` if it cannot be started at all."""
    found = engine.image(image)
    if found is None:
        raise EngineError(f"there is no image {image}", hint="`docker images` lists what the engine has")
    started, clock = datetime.now(UTC), time.monotonic()
    watch, ending = Watch(), ""
    command = ["accept", "--json-lines", *(["--require-gpu"] if require_gpu else [])]
    with engine.container(found.id, command, gpu=gpu, user=user) as container:
        try:
            for line in container.lines(deadline):
                watch.feed(line)
                on_change(watch.rows())
            code, out_of_memory = container.wait()
            ending = ending_text(code, out_of_memory=out_of_memory, errors=container.errors())
            if container.late:
                ending = f"the suite was still running at its deadline of {deadline:.0f} s and was killed"
        except EngineError as error:
            if not watch.titles:
                raise
            ending = error.message
    checks: list[Check] = watch.checks(ending)
    checks.append(check_labels(found.labels, watch.facts))
    checks.append(check_layers(found.labels, found.env, engine.history(found.id)))
    checks.append(check_size(found.size, watch.facts, bounds()["outside"]["contract.size"]))
    checks.append(check_answered(required_checks(), checks, watch.strange, ending))
    return Receipt(
        schema=SCHEMA,
        image=found.id,
        suite=watch.suite,
        host=engine.host() | {"gpu": gpu.access.value},
        verdict=verdict(checks),
        checks=tuple(checks),
        facts=watch.facts,
        training=watch.training,
        stack=found.labels.get(NAME_LABEL, ""),
        reference=image,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
    )
