"""What an image holds and has proven: its lock, its steps, its packages and its last receipt.

`inspect_image` asks the engine; the rest is pure. A foreign image without a lock, or without Python, is no error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import msgspec
from packaging.utils import canonicalize_name

from envbuilder import resources, serialize
from envbuilder.acceptance import receipts, suite
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.gpu_access import GpuAccess, plan_gpu
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import UsageError
from envbuilder.grammar import Size, one_line
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Layer, Lock, Receipt
from envbuilder.render.context import LABEL_PREFIX, labels_of, layers_of

LOCK_PATH = f"/opt/envbuilder/{LOCK_FILE}"
SYSTEM_PACKAGES_PATH = "/opt/envbuilder/system-packages.txt"
"""Where docker/system/packages.sh lists what it has installed."""
_SYSTEM_PACKAGE = re.compile(
    r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?=[A-Za-z0-9][A-Za-z0-9.+:~-]*"
)
LOCK_LABEL = f"{LABEL_PREFIX}lock"
_PYTHONS = ("python3", "python")
_DEADLINE = (
    120  # seconds for measuring packages: a walk over their files on a cold disk
)
_BASE, _SYSTEM, _PAYLOAD = "base", "system", "payload"
_USER_STEP = re.compile(
    r"^RUN (.*\buseradd .*\btrainer$|sh /system/base\.sh\b)"
)  # the second on a custom base
_PAYLOAD_STEP = re.compile(r"^COPY .* /opt/envbuilder/")
_WHEEL_STEP = re.compile(r"^RUN python3 /install/wheels\.py(?! /wheels/)\b")
_APT_STEP = re.compile(r"^RUN sh /system/packages\.sh\b")
_SHELL = re.compile(
    r"^(?:RUN )?(?:\|[0-9]+ .*?)?/bin/(?:ba)?sh (?:-[a-z]+ (?:pipefail )?)*-c "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStep:
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
    steps: tuple[HistoryStep, ...]
    lock: LockInside | None
    installed: Installed | None
    receipt: Receipt | None
    system_packages: tuple[str, ...] = ()  # name=version, of each that `--apt` brought
    suite: str  # hash of the suite that this envbuilder runs by default


def inspect_image(
    reference: str, engine: DockerEngine, store: receipts.Store | None
) -> Inspection:
    """Look into an image, and for its receipt in `store`. Raises `EngineError` if there is no such image."""
    image = suite.find_image(engine, reference)
    content = engine.read_file(image.id, LOCK_PATH)
    inside = None if content is None else read_lock(content, image.labels)
    layers = tuple(Layer)
    if inside and inside.lock:
        layers = layers_of(inside.lock)
    default_suite = suite.SuiteOptions(
        gpu=plan_gpu(engine.gpu_support(), GpuAccess.NONE)
    )
    return Inspection(
        reference=reference,
        image=image,
        steps=read_steps(
            engine.steps(image.id), ours=LOCK_LABEL in image.labels, layers=layers
        ),
        lock=inside,
        installed=_measure(image.id, engine),
        system_packages=read_system_packages(
            engine.read_file(image.id, SYSTEM_PACKAGES_PATH) or b""
        ),
        receipt=store.newest(image.id) if store else None,
        suite=suite.suite_hash(default_suite),
    )


def _measure(image: str, engine: DockerEngine) -> Installed | None:
    probe = resources.text("probe", "packages.py")
    for python in _PYTHONS:
        lines = engine.output(image, [python, "-I", "-c", probe], _DEADLINE)
        if lines is not None:
            return read_installed(lines)
    return None


# --- history -------------------------------------------------------------------------------------------------------


def read_steps(
    history: Sequence[tuple[int, str]],
    *,
    ours: bool,
    layers: Sequence[Layer] = tuple(Layer),
) -> tuple[HistoryStep, ...]:
    """The history, first step first; in our images each step with what it holds. `layers`: those of its lock."""
    instructions = [read_instruction(text) for _, text in history]
    contents = _contents_of_steps(instructions, layers) if ours else {}
    steps = []
    for number, (size, _) in enumerate(history):
        step = HistoryStep(
            size=size, instruction=instructions[number], holds=contents.get(number, "")
        )
        steps.append(step)
    return tuple(steps)


def read_instruction(text: str) -> str:
    """A line of the history as in its Dockerfile: without the shell, build arguments and notes of the builder."""
    line = one_line(text).removesuffix("# buildkit").rstrip()
    shell = _SHELL.match(line)
    if shell is None:
        return line
    end = shell.end()
    command = line[end:]
    if command.startswith("#(nop)"):  # how the classic builder marks what is not a RUN
        return command.removeprefix("#(nop)").lstrip()
    return f"RUN {command}"


def _contents_of_steps(
    instructions: Sequence[str], layers: Sequence[Layer]
) -> dict[int, str]:
    """What the steps of templates/debian/Dockerfile.j2 hold. All wheel steps look alike; their order tells."""
    contents: dict[int, str] = {}
    wheel_steps = []
    system = None
    for number, instruction in enumerate(instructions):
        if _PAYLOAD_STEP.match(instruction):
            contents[number] = _PAYLOAD
        elif _WHEEL_STEP.match(instruction):
            wheel_steps.append(number)
        elif _APT_STEP.match(instruction):
            contents[number] = _SYSTEM
        elif _USER_STEP.match(instruction) and system is None:
            system = number
    if len(wheel_steps) == len(layers):
        contents.update(zip(wheel_steps, layers, strict=True))
    if system is not None:
        contents[system] = _SYSTEM
        for number in range(system):
            contents[number] = _BASE
    return contents


# --- lock ----------------------------------------------------------------------------------------------------------


def read_lock(content: bytes, labels: Mapping[str, str]) -> LockInside:
    """The lock, and where the image's labels contradict it."""
    digest = f"sha256:{sha256(content).hexdigest()}"
    try:
        text = content.decode()
        lock = parse_lock(text, source=LOCK_PATH)
    except UsageError as error:
        return LockInside(
            sha256=digest, lock=None, problems=(error.message, *error.problems)
        )
    except (
        ValueError,
        RecursionError,
    ) as error:  # a foreign file of that name can be anything
        return LockInside(
            sha256=digest, lock=None, problems=(f"it cannot be read: {error}",)
        )
    problems = []
    for name, expected in labels_of(lock, text).items():
        value = labels.get(name)
        if value is None and name == LOCK_LABEL:
            problems.append(f"no label {name}")
        elif value is not None and value != expected:
            problems.append(
                f"the label {name} says {value}; by the lock it is {expected}"
            )
    return LockInside(sha256=digest, lock=lock, problems=tuple(problems))


# --- system packages -----------------------------------------------------------------------------------------------


def read_system_packages(content: bytes) -> tuple[str, ...]:
    """The lines `name=version` of the list in an image; what is no such line is left out."""
    packages = []
    for line in content.decode(errors="replace").splitlines():
        if _SYSTEM_PACKAGE.fullmatch(line):
            packages.append(line)
    return tuple(packages)


# --- packages ------------------------------------------------------------------------------------------------------


def read_installed(lines: Sequence[str]) -> Installed | None:
    """What docker/probe/packages.py printed, largest first; None if it is not that."""
    if not lines:
        return None
    try:
        installed = serialize.loads(lines[-1], Installed)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    distributions = []
    for item in installed.distributions:
        name = canonicalize_name(item.name)
        distributions.append(replace(item, name=name))
    distributions.sort(key=_largest_first)
    return replace(installed, distributions=tuple(distributions))


def _largest_first(item: Distribution) -> tuple[int, str]:
    return -(item.bytes or 0), item.name
