"""Running the suite on an image: inside it, in one container, and on the host; the result is a receipt.

The suite is mounted into the container, read-only, so that an image is judged by this envbuilder and not by itself. An
image of ours keeps its own training job, which is judged too; a foreign one runs ours.
"""

import difflib
import hashlib
import json
import re
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
from envbuilder.acceptance.verdict import (
    COMPLETE,
    check_answered,
    check_labels,
    check_layers,
    check_size,
    verdict,
)
from envbuilder.console import Row
from envbuilder.engine.background import in_background
from envbuilder.engine.container_spec import SUITE_FOLDER, ContainerSpec
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.output import TooMuchOutput
from envbuilder.engine.protocol import Container, Engine
from envbuilder.errors import AcceptanceError, EngineError, UsageError
from envbuilder.files import read_bytes
from envbuilder.model import SCHEMA, Check, Receipt, Status
from envbuilder.render.context import CUDA_LABEL, NO_CUDA

DEADLINE = 3600  # seconds for the whole container: it takes one or two minutes, on a busy machine many times as long
CHECK_DEADLINE = 120  # seconds for a check without a deadline in bounds.json
GRACE = (
    30  # seconds after a check's deadline: normally the suite itself ends a late check
)
FOLDER = SUITE_FOLDER
OUR_REPOSITORY = "envbuilder"  # images get this name, unless --tag says otherwise
_MOST_NAMES = 8  # in a hint
_NO_PYTHON = "this image has no Python 3.8 or newer"
_PYTHON = f"""
for name in python python3; do
  if $name -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then exec $name "$@"; fi
done
echo "{_NO_PYTHON}" >&2; exit 127
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

_NEEDS_FACTS = {
    "identity.labels",
    "contract.size",
}  # compared with what the suite reads inside
_OURS = (
    "identity.shipped",
    "contract.any_user",
    "contract.signals",
)  # only an image of ours promises these


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """How the suite runs. Other values than the defaults change the suite's hash: they make another suite."""

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
    document: dict[str, Any] = json.loads(
        resources.text("payload", "acceptance/bounds.json")
    )
    return document


def required_checks(options: SuiteOptions) -> list[str]:
    """The checks that an acceptance needs."""
    return sorted({*bounds()["bounds"], *OUTSIDE, *map(own_id, options.own)})


def own_id(path: Path) -> str:
    """The id of a custom check. Raises `UsageError` for a file whose name cannot be one."""
    name = f"own.{path.stem}"
    if not grammar.matches(grammar.CheckId, name):
        hint = "use letters, digits, dots, hyphens and underscores"
        raise UsageError(
            f"the file name {path.name} cannot be used as the name of a check",
            hint=hint,
        )
    return name


def files(own: Sequence[Path] = (), *, job: bool = True) -> dict[str, bytes]:
    """The suite's files for a container: absolute path → content. Raises `UsageError` for a missing custom check."""
    payload = resources.folder("payload")
    paths = [
        payload / "acceptance" / "bounds.json",
        *payload.glob("acceptance/**/*.py"),
    ]
    if job:
        paths += payload.glob("train/**/*.py")
    contents = {}
    for path in paths:
        contents[f"{FOLDER}/{path.relative_to(payload)}"] = read_bytes(path)
    for path in own:
        target = f"{FOLDER}/own/{path.name}"
        if target in contents:
            raise UsageError(
                f"two checks are called {path.name}", hint="rename one of them"
            )
        contents[target] = read_bytes(path, hint="pass the path of a Python program")
    return contents


def validate(options: SuiteOptions) -> None:
    """Raise `UsageError` if the options name checks that do not exist."""
    names = required_checks(options)
    unknown = sorted(set(options.only) - set(names))
    if not unknown:
        return
    similar = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
    nearest = difflib.get_close_matches(unknown[0], names, n=4, cutoff=0)
    hint = f"the nearest are {', '.join(nearest)}"
    if similar:
        hint = f"did you mean {similar[0]}?"
    raise UsageError(f"there is no check {', '.join(unknown)}", hint=hint)


def check_gpu(options: SuiteOptions) -> None:
    """Raise `AcceptanceError` if a GPU is required and no container would get one: the suite could only fail."""
    if not options.require_gpu or options.gpu.access is not GpuAccess.NONE:
        return
    reason = options.gpu.reason.removesuffix("; running on the CPU")
    raise AcceptanceError(
        f"--require-gpu: {reason.removesuffix(': running on the CPU')}",
        hint="choose how to reach it, e.g. `--gpu-access gpus`, or see why there is none: `envbuilder doctor`",
    )


def suite_hash(options: SuiteOptions) -> str:
    """One hash of everything that decides what a receipt means, except for the image and the host."""
    sha = hashlib.sha256()
    contents = files(options.own)
    for path in sorted(contents):
        content = contents[path]
        header = f"{path}\0{len(content)}\0"
        sha.update(header.encode() + content)
    settings = json.dumps(
        [options.require_gpu, options.user, options.memory, options.only]
    )
    sha.update(settings.encode())
    return f"sha256:{sha.hexdigest()}"


def size_bound(labels: Mapping[str, str]) -> dict[str, float]:
    """How many bytes an image may have for each byte of its wheels; with few wheels the base counts for more."""
    bound = bounds()["outside"]["contract.size"]
    without_cuda = labels.get(CUDA_LABEL) == NO_CUDA
    return {"max": bound["max_without_cuda" if without_cuda else "max"]}


_BASE_STEP = re.compile(r"\bsh /system/base\.sh\b")
_PACKAGES_STEP = re.compile(r"\bsh /system/packages\.sh\b")


def system_bytes(history: Sequence[tuple[int, str]]) -> int:
    """What a custom base has in an image, up to the step that prepares it, and what `--apt` brought."""
    total = 0
    so_far = 0
    for size, command in history:
        so_far += size
        if _BASE_STEP.search(command):
            total = so_far
        elif _PACKAGES_STEP.search(command):
            total += size
    return total


def host_facts(engine: Engine, options: SuiteOptions) -> dict[str, Any]:
    """The host, as a receipt describes it."""
    return engine.host() | {"gpu": options.gpu.access.value}


def accept(
    engine: Engine,
    image: str,
    options: SuiteOptions,
    *,
    on_change: Callable[[Sequence[Row]], None],
) -> Receipt:
    """Run the suite on `image` (an id or a name) and judge it. Raises `EngineError` if it cannot be started at all."""
    facts = find_image(engine, image)
    run = _Run(engine, facts, options, on_change)
    started, clock = datetime.now(UTC), time.monotonic()
    ending = run.inside() if run.wants_inside() else ""
    for check in run.outside():
        # A check on the host can quote the image, which can say anything.
        run.events.take(clean(check))
        on_change(run.events.rows())
    checks = run.events.checks(ending)
    required = required_checks(options)
    checks.append(
        check_answered(
            required, checks, run.events.protocol(), ending, only=options.only
        )
    )
    return Receipt(
        schema=SCHEMA,
        image=facts.id,
        suite={"version": bounds()["suite"], "hash": suite_hash(options)},
        host=host_facts(engine, options),
        verdict=verdict(checks),
        checks=tuple(checks),
        facts=run.events.facts,
        training=run.events.training,
        lm=run.events.lm,
        stack=facts.stack,
        reference=image,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
    )


def find_image(engine: Engine, image: str) -> ImageFacts:
    """The image in the engine's store."""
    try:
        facts = engine.image(image)
    except EngineError as error:
        if error.hint or grammar.matches(grammar.ImageReference, image):
            raise
        hint = "an image is named NAME:TAG in lower case; list the engine's images: `docker images`"
        raise EngineError(error.message, hint=hint) from error
    if facts is None:
        raise EngineError(
            f"there is no image {image}", hint=_missing_image_hint(engine, image)
        )
    return facts


def _missing_image_hint(engine: Engine, image: str) -> str:
    """How to get an image. Those that are called envbuilder are built here: a public image of that name is another."""
    repository = image.split("@", maxsplit=1)[0].split(":", maxsplit=1)[0]
    if repository != OUR_REPOSITORY:
        return f"list the engine's images: `docker images`; or pull it: `docker pull {image}`"
    names = engine.tags(OUR_REPOSITORY)
    if not names:
        return "build one: `envbuilder build`"
    if len(names) > _MOST_NAMES:
        return f"it has {len(names)} images of envbuilder: `docker images {OUR_REPOSITORY}`"
    return f"images of envbuilder: {', '.join(names)}"


class _Run:
    """One run of the suite."""

    def __init__(
        self,
        engine: Engine,
        image: ImageFacts,
        options: SuiteOptions,
        on_change: Callable[[Sequence[Row]], None],
    ) -> None:
        self.engine = engine
        self.image = image
        self.options = options
        self.on_change = on_change
        self.ours = bool(image.stack)
        has_gpu = options.gpu.access is not GpuAccess.NONE
        self.events = SuiteEvents(reserved=frozenset({*OUTSIDE, COMPLETE}), gpu=has_gpu)
        # Reading every layer takes half a minute: it runs while the container does.
        self._layers: Future[host_checks.Layers] = Future()
        if self._wants("contract.layers") or self._wants("contract.caches"):
            read = partial(host_checks.read_layers, engine, image.id)
            in_background(read, self._layers)

    def _wants(self, identifier: str) -> bool:
        return not self.options.only or identifier in self.options.only

    def wants_inside(self) -> bool:
        """Whether anything runs in the image; labels and size are compared with what is read there."""
        if not self.options.only:
            return True
        only_on_host = OUTSIDE.keys() - _NEEDS_FACTS
        return not set(self.options.only) <= only_on_host

    def inside(self) -> str:
        """Run the checks in the container; returns how it ended, if not as it should."""
        with self.engine.container(self.image.id, self._spec()) as container:
            try:
                for line in container.lines(self.options.deadline):
                    self._read_line(line, container)
                return self._ending(container)
            except TooMuchOutput as error:
                return error.message
            except EngineError as error:
                # Before the plan, nothing was judged: it cannot run. A late container that still runs needs a person.
                if not self.events.titles or container.late:
                    raise
                return error.message

    def _ending(self, container: Container) -> str:
        """How a container ended that has printed its last line; empty if it ended well."""
        code, out_of_memory = container.wait()
        if not self.events.titles and _NO_PYTHON in container.errors():
            # Said first, and not after a receipt in which nothing was judged.
            raise EngineError(
                f"the suite cannot start in this image: {_NO_PYTHON}",
                hint="it runs on the Python of the image: install one, or check another image",
            )
        if container.late:
            return f"the suite was killed at its deadline, in {self.events.running or 'its beginning'}"
        ending = ending_text(
            code, out_of_memory=out_of_memory, errors=container.errors()
        )
        if ending:
            return ending
        if not self.events.verdict:
            return "its output stops before the end of the suite"
        return ""

    def _read_line(self, line: str, container: Container) -> None:
        running, violations = self.events.running, self.events.violation_count
        self.events.feed(line)
        # An invalid line has changed nothing, and there may be many of them.
        if self.events.violation_count > violations:
            return
        if self.events.running != running:
            container.limit(self._check_deadline())
        if not self.options.only and self.events.titles:
            self.events.expect(OUTSIDE)
        self.on_change(self.events.rows())

    def _check_deadline(self) -> float | None:
        """Seconds until the check that runs is killed; None between checks."""
        if not self.events.running:
            return None
        deadlines = bounds()["deadlines"]
        deadline = deadlines.get(self.events.running, CHECK_DEADLINE)
        patience = bounds()["patience"]
        return float(deadline * patience + GRACE)

    def _spec(self) -> ContainerSpec:
        program = (f"{FOLDER}/acceptance", *self._arguments())
        # A foreign image's Python can have either name, and its entrypoint can be anything.
        shell = None if self.ours else ("/bin/sh", "-c", _PYTHON, "sh")
        return ContainerSpec(
            command=("python", *program) if self.ours else program,
            entrypoint=shell,
            gpu=self.options.gpu,
            user=self.options.user,
            memory=self.options.memory,
            files=files(self.options.own, job=not self.ours),
            read_only=self.ours,  # where a foreign image has to write is not known; a check tells whether ours does
        )

    def _arguments(self) -> list[str]:
        """The suite's command line."""
        arguments = ["--json-lines"]
        if self.options.require_gpu:
            arguments.append("--require-gpu")
        for path in self.options.own:
            arguments += ["--own", f"{FOLDER}/own/{path.name}"]
        if self.options.only:
            inside = [name for name in self.options.only if name not in OUTSIDE]
            # It runs for its facts even if every check is the host's: this one is quick.
            arguments += ["--only", ",".join(inside or ["identity.packages"])]
        return arguments

    def _history(self) -> list[str]:
        """The commands that made the layers: everybody who has the image can read them."""
        return [command for _, command in self.engine.steps(self.image.id)]

    def _host_checks(self, *, ours: bool) -> Mapping[str, Callable[[], Check]]:
        """Each of `OUTSIDE`, as a function that makes the check."""
        engine, image, facts = self.engine, self.image, self.events.facts

        def labels() -> Check:
            return check_labels(image.labels, facts, ours=ours)

        def shipped_files() -> Check:
            contents = engine.read_folder(image.id, shipped.FOLDER)
            return shipped.check_shipped(contents, image.labels, facts)

        def layers() -> Check:
            secrets = self._layers.result().secrets
            return check_layers(
                image.labels, image.env, self._history(), secrets, ours=ours
            )

        def caches() -> Check:
            bound = bounds()["outside"]["contract.caches"]
            return host_checks.judge_caches(self._layers.result(), bound)

        def size() -> Check:
            # Of a custom base, and of system packages, the user decides the size.
            own = image.size - system_bytes(engine.steps(image.id))
            return check_size(own, facts, size_bound(image.labels))

        return {
            "identity.labels": labels,
            "identity.shipped": shipped_files,
            "contract.layers": layers,
            "contract.caches": caches,
            "contract.size": size,
            "contract.any_user": partial(host_checks.check_any_user, engine, image.id),
            "contract.signals": partial(host_checks.check_signals, engine, image.id),
        }

    def outside(self) -> Iterator[Check]:
        """The checks on the host, one after the other."""
        # The lock inside counts too: an image of ours may have lost its labels.
        ours = self.ours or "lock" in self.events.facts
        makers = self._host_checks(ours=ours)
        for name, title in OUTSIDE.items():
            if not self._wants(name):
                continue
            if name in _OURS and not ours:
                yield Check(
                    id=name,
                    title=title,
                    status=Status.NOT_RUN,
                    detail=host_checks.FOREIGN,
                )
                continue
            self.events.begin(name)
            self.on_change(self.events.rows())
            yield host_checks.attempt(title, name, makers[name])
