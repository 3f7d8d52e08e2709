"""What an image holds and has proven: its lock, its steps, its packages and its last receipt.

`look` asks the engine; the rest is pure. A foreign image has no lock, perhaps no Python: that is an answer, no error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec
from packaging.utils import canonicalize_name

from envbuilder import resources, serialize
from envbuilder.acceptance import receipts, suite
from envbuilder.engine.docker_client import Engine
from envbuilder.engine.gpu_access import GpuAccess, plan_gpu
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import UsageError
from envbuilder.grammar import Size, one_line
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Layer, Lock, Receipt
from envbuilder.render.context import LABEL_PREFIX, labels_of, layers_of

LOCK_PATH = f"/opt/envbuilder/{LOCK_FILE}"
LOCK_LABEL = f"{LABEL_PREFIX}lock"
_PYTHONS = ("python3", "python")
_DEADLINE = 120  # seconds for measuring packages: a walk over their files on a cold disk
_BASE, _SYSTEM, _PAYLOAD = "base", "system", "payload"
_USER_STEP = re.compile(r"^RUN .*\buseradd .*\btrainer$")
_PAYLOAD_STEP = re.compile(r"^COPY .* /opt/envbuilder/")
_WHEEL_STEP = re.compile(r"^RUN python3 /install/wheels\.py\b")
_SHELL = re.compile(r"^(?:RUN )?(?:\|[0-9]+ .*?)?/bin/(?:ba)?sh (?:-[a-z]+ (?:pipefail )?)*-c ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the image's history; `holds` says what an image of ours has in it."""

    size: int  # bytes
    instruction: str  # one line, as a Dockerfile has it
    holds: str = ""  # "base", "system", a `Layer` or "payload"; "" where nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInside:
    """The lock inside an image. `lock` is None where this envbuilder cannot read it; `problems` says what is wrong."""

    sha256: str  # sha256:…
    lock: Lock | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One installed distribution; `bytes` is None where it keeps no RECORD."""

    name: str
    version: str
    bytes: Size | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What docker/probe/packages.py found. `unclaimed`: bytes in the folders that are of no distribution."""

    python: str
    folders: tuple[str, ...]
    distributions: tuple[Distribution, ...]
    unclaimed: Size

    @property
    def total(self) -> int:
        return sum(item.bytes or 0 for item in self.distributions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that `inspect` shows."""

    reference: str
    image: ImageFacts
    steps: tuple[Step, ...]
    lock: LockInside | None
    installed: Installed | None
    receipt: Receipt | None
    suite: str  # hash of the suite that this envbuilder runs when nothing else is asked for


def look(reference: str, engine: Engine, store: receipts.Store | None) -> Inspection:
    """Look into an image, and for its receipt in `store`. Raises `EngineError` if there is no such image."""
    image = suite.find_image(engine, reference)
    content = engine.read_file(image.id, LOCK_PATH)
    inside = read_lock(content, image.labels) if content is not None else None
    layers = layers_of(inside.lock) if inside and inside.lock else tuple(Layer)
    return Inspection(
        reference=reference,
        image=image,
        steps=read_steps(engine.steps(image.id), ours=LOCK_LABEL in image.labels, layers=layers),
        lock=inside,
        installed=_measure(image.id, engine),
        receipt=store.newest(image.id) if store else None,
        suite=suite.suite_hash(suite.Trial(gpu=plan_gpu(engine.offers(), GpuAccess.NONE))),
    )


def _measure(image: str, engine: Engine) -> Installed | None:
    probe = resources.text("probe", "packages.py")
    for python in _PYTHONS:
        lines = engine.output(image, [python, "-I", "-c", probe], _DEADLINE)
        if lines is not None:
            return read_installed(lines)
    return None


# --- history -------------------------------------------------------------------------------------------------------


def read_steps(
    history: Sequence[tuple[int, str]], *, ours: bool, layers: Sequence[Layer] = tuple(Layer)
) -> tuple[Step, ...]:
    """The history, first step first; in an image of ours each step with what it holds. `layers`: those of its lock."""
    told = [read_instruction(text) for _, text in history]
    held = _held(told, layers) if ours else [""] * len(told)
    return tuple(
        Step(size=size, instruction=line, holds=holds)
        for (size, _), line, holds in zip(history, told, held, strict=True)
    )


def read_instruction(text: str) -> str:
    """What the history says, as its Dockerfile said it: no shell, no build arguments, no notes of the builder's."""
    line = one_line(text).removesuffix("# buildkit").rstrip()
    shell = _SHELL.match(line)
    if shell is None:
        return line
    command = line[shell.end() :]
    return command.removeprefix("#(nop)").lstrip() if command.startswith("#(nop)") else f"RUN {command}"


def _held(told: Sequence[str], layers: Sequence[Layer]) -> list[str]:
    """What each step of templates/debian/Dockerfile.j2 holds. All wheel steps look alike; their order tells."""
    held = {number: _PAYLOAD for number, line in enumerate(told) if _PAYLOAD_STEP.match(line)}
    wheels = [number for number, line in enumerate(told) if _WHEEL_STEP.match(line)]
    if len(wheels) == len(layers):
        held |= zip(wheels, layers, strict=True)
    system = next((number for number, line in enumerate(told) if _USER_STEP.match(line)), None)
    if system is not None:
        held |= dict.fromkeys(range(system), _BASE) | {system: _SYSTEM}
    return [held.get(number, "") for number in range(len(told))]


# --- lock ----------------------------------------------------------------------------------------------------------


def read_lock(content: bytes, labels: Mapping[str, str]) -> LockInside:
    """The lock, and where the image's labels say something else."""
    digest = f"sha256:{sha256(content).hexdigest()}"
    try:
        text = content.decode()
        lock = parse_lock(text, source=LOCK_PATH)
    except UsageError as error:
        return LockInside(sha256=digest, lock=None, problems=(error.message, *error.problems))
    except (ValueError, RecursionError) as error:  # a foreign file of that name can be anything
        return LockInside(sha256=digest, lock=None, problems=(f"it cannot be read: {error}",))
    wanted = {name: value for name, value in labels_of(lock, text).items() if name in {*labels, LOCK_LABEL}}
    problems = [
        f"the label {name} says {labels[name]}; by the lock it is {value}" if name in labels else f"no label {name}"
        for name, value in wanted.items()
        if labels.get(name) != value
    ]
    return LockInside(sha256=digest, lock=lock, problems=tuple(problems))


# --- packages ------------------------------------------------------------------------------------------------------


def read_installed(lines: Sequence[str]) -> Installed | None:
    """What docker/probe/packages.py printed, largest first; None if it is not that."""
    try:
        found = serialize.loads(lines[-1] if lines else "", Installed)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    named = [
        Distribution(name=canonicalize_name(item.name), version=item.version, bytes=item.bytes)
        for item in found.distributions
    ]
    return Installed(
        python=found.python,
        folders=found.folders,
        distributions=tuple(sorted(named, key=lambda item: (-(item.bytes or 0), item.name))),
        unclaimed=found.unclaimed,
    )
