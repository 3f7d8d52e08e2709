"""Running the suite on an image: inside, in one container, and from outside; the receipt is what came of it.

The suite is mounted into the container, read-only, so that an image is judged by this envbuilder and not by itself. An
image of ours keeps its own training job, which is what is judged; a foreign one is lent ours.
"""

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from envbuilder import grammar, resources
from envbuilder.acceptance import host_checks, shipped
from envbuilder.acceptance.event_stream import SuiteEvents, ending_text
from envbuilder.acceptance.events import clean
from envbuilder.acceptance.verdict import COMPLETE, check_answered, check_labels, check_layers, check_size, verdict
from envbuilder.console import Row
from envbuilder.engine.background import in_background
from envbuilder.engine.container_spec import SUITE_FOLDER, Job
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.output import TooMuchOutput
from envbuilder.engine.protocol import Container, Engine
from envbuilder.errors import EngineError, UsageError
from envbuilder.files import read_bytes
from envbuilder.model import SCHEMA, Check, Receipt, Status
from envbuilder.render.context import CUDA_LABEL, NO_CUDA

DEADLINE = 3600  # seconds for the whole container: it takes one or two minutes, on a busy machine many times as long
CHECK_DEADLINE, GRACE = (
    120,
    30,
)  # for a check without one in bounds.json; more, for the suite ends late checks by itself
FOLDER = SUITE_FOLDER
_PYTHON = """
for name in python python3; do command -v $name >/dev/null && exec $name "$@"; done
echo "no Python" >&2; exit 127
"""
OUTSIDE = {
    "identity.labels": "labels say what is inside",
    "identity.shipped": shipped.TITLE,
    "contract.layers": "no secret is in a layer, a label, the environment or the history",
    "contract.caches": "no cache is in a layer",
    "contract.size": "the image is as small as its wheels allow",
    "contract.any_user": "any user can train, on a read-only root",
    "contract.signals": "the job hears SIGTERM and ends promptly",
}

_COMPARED = {"identity.labels", "contract.size"}
_OURS = ("identity.shipped", "contract.any_user", "contract.signals")  # what only an image of ours promises


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How an image is tried. What is not the default is part of the suite's hash: it is another suite."""

    gpu: GpuPlan
    require_gpu: bool = False
    user: str | None = None
    memory: str | None = None
    only: tuple[str, ...] = ()
    own: tuple[Path, ...] = ()  # the user's checks
    deadline: float = DEADLINE


@cache
def bounds() -> dict[str, Any]:
    """bounds.json of this envbuilder."""
    document: dict[str, Any] = json.loads(resources.text("payload", "acceptance/bounds.json"))
    return document


def required_checks(trial: Trial) -> list[str]:
    """The checks without which nothing is accepted."""
    return sorted({*bounds()["bounds"], *OUTSIDE, *map(own_id, trial.own)})


def own_id(path: Path) -> str:
    """What the suite calls a check of the user's own. Raises `UsageError` for a file whose name cannot be one."""
    name = f"own.{path.stem}"
    if not grammar.matches(grammar.CheckId, name):
        hint = "name it with letters, digits, dots, hyphens and underscores"
        raise UsageError(f"the check {path.name} is named by its file, and that name cannot be used", hint=hint)
    return name


def files(own: Sequence[Path] = (), *, job: bool = True) -> dict[str, bytes]:
    """The suite as it is put into a container: absolute path → content. Raises `UsageError` for a check it lacks."""
    payload = resources.folder("payload")
    paths = [payload / "acceptance" / "bounds.json", *payload.glob("acceptance/**/*.py")]
    paths += payload.glob("train/**/*.py") if job else []
    found = {f"{FOLDER}/{path.relative_to(payload)}": read_bytes(path) for path in paths}
    names = [path.name for path in own]
    for path in own:
        if names.count(path.name) > 1:
            raise UsageError(f"two checks are called {path.name}", hint="name them differently")
        found[f"{FOLDER}/own/{path.name}"] = read_bytes(path, hint="name a check that is a Python program")
    return found


def validate(trial: Trial) -> None:
    """Raises `UsageError` if the trial names checks that there are not."""
    known = required_checks(trial)
    strange = sorted(set(trial.only) - set(known))
    if strange:
        near = difflib.get_close_matches(strange[0], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"checks: {', '.join(known)}"
        raise UsageError(f"there is no check {', '.join(strange)}", hint=hint)


def suite_hash(trial: Trial) -> str:
    """One hash over everything that decides what a receipt means, but for the image and the host."""
    sha = hashlib.sha256()
    for path, content in sorted(files(trial.own).items()):
        sha.update(f"{path}\0{len(content)}\0".encode() + content)
    sha.update(json.dumps([trial.require_gpu, trial.user, trial.memory, trial.only]).encode())
    return "sha256:" + sha.hexdigest()


def size_bound(labels: Mapping[str, str]) -> dict[str, float]:
    """How many bytes an image may have for each of a wheel; beside few wheels the base weighs more."""
    bound = bounds()["outside"]["contract.size"]
    return {"max": bound["max_without_cuda" if labels.get(CUDA_LABEL) == NO_CUDA else "max"]}


def host_facts(engine: Engine, trial: Trial) -> dict[str, Any]:
    """The host, as a receipt names it."""
    return engine.host() | {"gpu": trial.gpu.access.value}


def accept(engine: Engine, image: str, trial: Trial, *, on_change: Callable[[Sequence[Row]], None]) -> Receipt:
    """Run the suite on `image` (an id or a name) and judge it. Raises `EngineError` if it cannot be started at all."""
    found = find_image(engine, image)
    run = _Run(engine, found, trial, on_change)
    started, clock = datetime.now(UTC), time.monotonic()
    ending = run.inside() if run.wants_inside() else ""
    for check in run.outside():
        run.watch.take(clean(check))
        on_change(run.watch.rows())
    checks = run.watch.checks(ending)
    checks.append(check_answered(required_checks(trial), checks, run.watch.protocol(), ending, only=trial.only))
    return Receipt(
        schema=SCHEMA,
        image=found.id,
        suite={"version": bounds()["suite"], "hash": suite_hash(trial)},
        host=host_facts(engine, trial),
        verdict=verdict(checks),
        checks=tuple(checks),
        facts=run.watch.facts,
        training=run.watch.training,
        stack=found.stack,
        reference=image,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
    )


def find_image(engine: Engine, image: str) -> ImageFacts:
    """The image in the engine's store."""
    found = engine.image(image)
    if found is None:
        raise EngineError(
            f"there is no image {image}", hint=f"`docker images` lists what the engine has; `docker pull {image}`"
        )
    return found


class _Run:
    """One acceptance while it goes on."""

    def __init__(
        self, engine: Engine, image: ImageFacts, trial: Trial, on_change: Callable[[Sequence[Row]], None]
    ) -> None:
        self.engine, self.image, self.trial, self.on_change = engine, image, trial, on_change
        self.watch = SuiteEvents(reserved=frozenset({*OUTSIDE, COMPLETE}), gpu=trial.gpu.access is not GpuAccess.NONE)
        self.ours = bool(image.stack)
        self._layers: Future[host_checks.Layers] = Future()
        if self._wants("contract.layers") or self._wants("contract.caches"):
            in_background(partial(host_checks.read_layers, engine, image.id), self._layers)

    def _wants(self, identifier: str) -> bool:
        return not self.trial.only or identifier in self.trial.only

    def wants_inside(self) -> bool:
        """Whether anything runs in the image; labels and size are compared with what is read there."""
        return not self.trial.only or bool(set(self.trial.only) - (OUTSIDE.keys() - _COMPARED))

    def inside(self) -> str:
        """The checks in the container; returns how it ended, if not as it should."""
        with self.engine.container(self.image.id, self._job()) as container:
            try:
                for line in container.lines(self.trial.deadline):
                    self._hear(line, container)
                code, out_of_memory = container.wait()
                if container.late:
                    return f"the suite was killed at its deadline, in {self.watch.running or 'its beginning'}"
                ended = ending_text(code, out_of_memory=out_of_memory, errors=container.errors())
                return ended or ("" if self.watch.verdict else "its output stops before the end of the suite")
            except TooMuchOutput as error:
                return error.message
            except EngineError as error:
                if not self.watch.titles or container.late:  # it was to be killed, and nobody did it
                    raise
                return error.message

    def _hear(self, line: str, container: Container) -> None:
        before, strange = self.watch.running, self.watch.violation_count
        self.watch.feed(line)
        if self.watch.violation_count > strange:  # it has changed nothing; there may be many
            return
        if self.watch.running != before:
            deadline = bounds()["deadlines"].get(self.watch.running, CHECK_DEADLINE) * bounds()["patience"]
            container.limit(deadline + GRACE if self.watch.running else None)
        if not self.trial.only and self.watch.titles:
            self.watch.expect({name: title for name, title in OUTSIDE.items() if self._wants(name)})
        self.on_change(self.watch.rows())

    def _job(self) -> Job:
        words = ["--json-lines", *(["--require-gpu"] if self.trial.require_gpu else [])]
        for path in self.trial.own:
            words += ["--own", f"{FOLDER}/own/{path.name}"]
        inside = [name for name in self.trial.only if name not in OUTSIDE]
        if self.trial.only:
            words += ["--only", ",".join(inside or ["identity.packages"])]
        program = f"{FOLDER}/acceptance"
        shell = None if self.ours else ("/bin/sh", "-c", _PYTHON, "sh")
        return Job(
            command=("python", program, *words) if self.ours else (program, *words),
            entrypoint=shell,
            gpu=self.trial.gpu,
            user=self.trial.user,
            memory=self.trial.memory,
            files=files(self.trial.own, job=not self.ours),
            read_only=self.ours,  # where others write, only they know: it is one of the checks
        )

    def _history(self) -> list[str]:
        """The commands that made the layers, as anybody who has the image can read them."""
        return [text for _, text in self.engine.steps(self.image.id)]

    def outside(self) -> Iterator[Check]:
        """The checks from outside, one after the other."""
        ours = self.ours or "lock" in self.watch.facts
        image, facts, bound = self.image, self.watch.facts, bounds()["outside"]
        makers: Mapping[str, Callable[[], Check]] = {
            "identity.labels": lambda: check_labels(image.labels, facts, ours=ours),
            "identity.shipped": lambda: shipped.check_shipped(
                self.engine.read_folder(image.id, shipped.FOLDER), image.labels, facts
            ),
            "contract.size": lambda: check_size(image.size, facts, size_bound(image.labels)),
            "contract.layers": lambda: check_layers(
                image.labels, image.env, self._history(), self._layers.result().secrets, ours=ours
            ),
            "contract.caches": lambda: host_checks.judge_caches(self._layers.result(), bound["contract.caches"]),
            "contract.any_user": lambda: host_checks.check_any_user(self.engine, image.id),
            "contract.signals": lambda: host_checks.check_signals(self.engine, image.id),
        }
        for name, title in OUTSIDE.items():
            if not self._wants(name):
                continue
            if name in _OURS and not ours:
                yield Check(id=name, title=title, status=Status.NOT_RUN, detail=host_checks.FOREIGN)
                continue
            self.watch.begin(name)
            self.on_change(self.watch.rows())
            yield host_checks.attempt(title, name, makers[name])
