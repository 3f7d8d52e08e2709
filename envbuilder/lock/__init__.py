"""Stack → Lock: every wheel with its hash, resolved by uv as the index stood on the stack's `as_of` day.

uv does the resolving (`uv pip compile --format pylock.toml`), `packaging` picks the one wheel per package that the
image will install. What comes out holds no URL, so it is as good with a mirror as with the index it came from.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
from packaging import tags
from packaging.markers import Environment, default_environment
from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from envbuilder import grammar, serialize
from envbuilder.catalog.rows import PYPI
from envbuilder.errors import EngineError, LockError, NoStackError, UsageError
from envbuilder.files import read_text, temporary_folder, write_file
from envbuilder.model import SCHEMA, Layer, Lock, Stack, Wheel
from envbuilder.network import find_network_cause
from envbuilder.processes import Completed

FILE = "envbuilder.lock"
TORCH_FAMILY = frozenset({"torch", "torchvision", "torchaudio", "triton"})
_LOCAL_INDEXES = "pytorch-"  # PyTorch's own indexes put the CUDA into the version: 2.5.1+cu118
_NVIDIA_PREFIXES = ("nvidia-", "cuda-")
_CUDA_WHEELS = ("nvidia-cuda-runtime", "nvidia-cudnn")  # what every torch with CUDA asks for, where wheels bring CUDA
_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_UV_GLIBC_MINORS = range(28, 41)  # the manylinux_2_* platforms uv has a name for
_DISK_FULL = "No space left on device"
Again = Callable[[Sequence[str]], str]
"""The command that asks for the same stack with these packages."""
_YANKED = re.compile(r"warning: `([A-Za-z0-9._-]+)==[^`]+` is yanked(?: \(reason: \"(.*)\"\))?")
_LONGEST_REASON = 200  # characters of what the index says about a yanked release


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """How to call uv: its path, what starts it, and the index it asks (None: uv's own default).

    `run` hands the address to uv in the environment (`network.uv_environment`): it may hold a password, and the words
    of a command can be read by everybody on the machine.
    """

    program: str
    run: Callable[[Sequence[str]], Completed]
    index_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What uv found: the parsed pylock document (None: nothing), and what it said on stderr."""

    document: Mapping[str, Any] | None
    stderr: str

    @property
    def causes(self) -> list[str]:
        """uv's own words, without its prefixes and hints about its own options."""
        return _causes(self.stderr)


def compile_argv(uv: Uv, stack: Stack, folder: Path, *, alone: bool = False) -> list[str]:
    """The one command that decides which versions are locked; everything it depends on is in it.

    `alone`: only the named packages, not what they depend on, with warnings on stderr.
    """
    return [
        uv.program, "pip", "compile", str(folder / "requirements.in"),
        "--output-file", str(folder / "pylock.toml"), "--format", "pylock.toml",
        "--no-config", "--no-header", "--no-deps" if alone else "--quiet",
        "--python", sys.executable, "--python-version", str(stack.python),
        "--python-platform", _uv_platform(stack),
        "--only-binary", ":all:", "--exclude-newer", _end_of(stack.as_of),
        "--excludes", str(folder / "excludes.txt"),
        "--index-strategy", "first-index", "--keyring-provider", "disabled",
    ]  # fmt: skip


def _end_of(day: date) -> str:
    """The first instant after a day in UTC. uv reads a bare date as the end of the day in the local time zone."""
    last = date.max - timedelta(days=1)
    return f"{min(day, last) + timedelta(days=1)}T00:00:00Z"


def refuse(stack: Stack, *, index_url: str | None = None, again: Again | None = None) -> None:
    """Raise `LockError` for a stack that is resolved and cannot be locked, rather than lock another one."""
    if stack.index != PYPI and index_url is None:
        raise _unnamed_index(stack, again(stack.extras) if again else "envbuilder lock")


def _unnamed_index(stack: Stack, command: str) -> LockError:
    """The wheels are not where uv would look, and the same version there is of another CUDA."""
    other = "another CUDA" if stack.cuda else f"CUDA on {stack.platform}; the runtime image trains on a CPU too"
    return LockError(
        f"{stack.torch_text} is not on PyPI: its wheels are on the index {stack.index}",
        problems=[f"of torch {stack.torch}, PyPI has only the build for {other}"],
        hint="name an index that has them, PyPI's packages and upload dates, such as a mirror of both: "
        f"`{command} --index-url URL`",
    )


def make_lock(stack: Stack, *, uv: Uv, catalog: str, again: Again, base_digest: str | None = None) -> Lock:
    """Resolve and pin the whole stack.

    Raises `NoStackError` naming the culprits when the user's packages clash with the stack, `EngineError` when the
    index cannot be reached, `LockError` when the stack itself has no complete set of wheels.
    """
    refuse(stack, index_url=uv.index_url, again=again)
    answer = ask(uv, stack, [*stack.requirements, *stack.extras])
    if answer.document is None:
        raise _refusal(uv, stack, answer, again)
    lock = Lock(
        schema=SCHEMA,
        catalog=catalog,
        stack=stack,
        base_digest=base_digest,
        wheels=select_wheels(answer.document, stack),
    )
    problems = list(find_problems(lock))
    if problems:
        raise LockError("the resolved wheels do not make the stack that was asked for", problems=problems)
    return lock


def ask(uv: Uv, stack: Stack, requirements: Sequence[str], *, alone: bool = False) -> Answer:
    """What the index has for these requirements, as of the stack's day, for its Python and platform.

    `alone`: without what they depend on. Raises `EngineError` if the index cannot be reached.
    """
    with temporary_folder("lock") as folder:
        write_file(folder / "requirements.in", "".join(f"{line}\n" for line in requirements))
        write_file(folder / "excludes.txt", "".join(f"{line}\n" for line in stack.excluded))
        return read_answer(uv.run(compile_argv(uv, stack, folder, alone=alone)), folder)


def read_answer(done: Completed, folder: Path) -> Answer:
    """What uv wrote into `folder`. Raises `EngineError` if it could not reach the index."""
    if done.returncode == 0:
        return Answer(document=tomllib.loads(read_text(folder / "pylock.toml")), stderr=done.stderr)
    if _DISK_FULL in done.stderr:
        raise EngineError(
            "uv cannot resolve: the disk is full",
            problems=_causes(done.stderr),
            hint="make space where temporary files (`TMPDIR`) and uv's cache (`UV_CACHE_DIR`) are",
        )
    cause = find_network_cause(done.stderr)
    if cause:
        raise EngineError(
            f"the package index cannot be reached: {cause[0]}", problems=_causes(done.stderr), hint=cause[1]
        )
    return Answer(document=None, stderr=done.stderr)


def _resolves(uv: Uv, stack: Stack, requirements: Sequence[str]) -> bool:
    return ask(uv, stack, requirements).document is not None


def _refusal(uv: Uv, stack: Stack, answer: Answer, again: Again) -> LockError | NoStackError:
    """What uv's failure means for the person who asked."""
    told = answer.causes
    if not stack.extras or not _resolves(uv, stack, stack.requirements):
        return LockError(f"there is no complete set of wheels for torch {stack.torch} here", problems=told)
    culprits = _culprits(uv, stack)
    return NoStackError(
        f"{' and '.join(culprits)} cannot be installed beside {stack.torch_text}",
        conflict=[("package", line) for line in culprits],
        reasons=[*told, f"packages are resolved as of {stack.as_of}, and nothing moves the torch family"],
        suggestions=[again(_unpinned(uv, stack, culprits))],
    )


def _culprits(uv: Uv, stack: Stack) -> list[str]:
    """A smallest set of the user's packages that clashes: drop any one of it and the rest resolves."""
    needed = list(stack.extras)
    for line in stack.extras:
        fewer = [other for other in needed if other != line]
        if not _resolves(uv, stack, [*stack.requirements, *fewer]):
            needed = fewer
    return needed


def _unpinned(uv: Uv, stack: Stack, culprits: Sequence[str]) -> list[str]:
    """The packages with the culprits' version bounds dropped, if that resolves; else without the culprits."""
    names = [_bare(line) for line in culprits]
    kept = [line for line in stack.extras if line not in culprits]
    if names == list(culprits) or not _resolves(uv, stack, [*stack.requirements, *kept, *names]):
        names = []
    return [*kept, *names]


def _bare(line: str) -> str:
    """`xformers[cuda]==0.0.20` → `xformers[cuda]`."""
    wanted = Requirement(line)
    return wanted.name + (f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else "")


def yanked(stderr: str) -> dict[str, str]:
    """The releases that uv took although the index has withdrawn them: package → "was yanked: why"."""
    found: dict[str, str] = {}
    for name, reason in _YANKED.findall(stderr):
        because = f": {reason[:_LONGEST_REASON]}" if reason else ""
        found[canonicalize_name(name)] = f"was yanked{because}"
    return found


def _causes(stderr: str) -> list[str]:
    """uv's own words, without its prefixes and hints about its own options."""
    lines = (line.strip() for line in stderr.splitlines())
    told = (re.sub(r"^(error|cause|×|╰─▶|hint):?\s*", "", line) for line in lines if not line.startswith("hint"))
    return [line for line in told if line]


def select_wheels(document: Mapping[str, Any], stack: Stack) -> tuple[Wheel, ...]:
    """The one wheel per package that an installer picks on the stack's platform, sorted by layer and name."""
    order = list(Layer)
    try:
        chosen = Pylock.from_dict(document).select(environment=markers(stack), tags=list(wheel_tags(stack)))
        moving = {*stack.moving, *(canonicalize_name(Requirement(line).name) for line in stack.extras)}
        wheels = [_wheel(str(package.name), package.version, file, moving) for package, file in chosen]
    except PylockSelectError as error:
        raise LockError(f"a locked package has no wheel for {stack.platform}: {error}") from error
    return tuple(sorted(wheels, key=lambda wheel: (order.index(wheel.layer), wheel.name)))


def _wheel(name: str, version: Any, file: object, moving: Collection[str]) -> Wheel:
    if not isinstance(file, PackageWheel) or version is None:
        raise LockError(f"{name} comes without a wheel", hint="only wheels can be locked; choose another version")
    if file.size is None or "sha256" not in file.hashes:
        raise LockError(
            f"the index gives no size or no sha256 for {file.filename}",
            hint="use an index that follows PEP 503 and PEP 691, or a mirror of one (`--index-url URL`)",
        )
    return Wheel(
        name=canonicalize_name(name),
        version=version,
        file=file.filename,
        size=file.size,
        sha256=file.hashes["sha256"],
        layer=_layer(canonicalize_name(name), moving),
    )


def _layer(name: str, moving: Collection[str]) -> Layer:
    if name.startswith(_NVIDIA_PREFIXES):
        return Layer.NVIDIA
    if name in TORCH_FAMILY:
        return Layer.TORCH
    return Layer.STACK if name in moving else Layer.LIBRARIES


def _machine(stack: Stack) -> str:
    return _MACHINES[stack.platform]


def _uv_platform(stack: Stack) -> str:
    newest = min(stack.base.glibc.minor, _UV_GLIBC_MINORS[-1])
    minor = newest if newest in _UV_GLIBC_MINORS else 17
    return f"{_machine(stack)}-manylinux_2_{minor}"


def wheel_tags(stack: Stack) -> tuple[tags.Tag, ...]:
    """What pip inside the image would accept, best first (PEP 425, 600)."""
    return _tags_of(stack.python.major, stack.python.minor, stack.base.glibc.minor, _machine(stack))


def _accepted_tags(stack: Stack) -> frozenset[tags.Tag]:
    return _tag_set_of(stack.python.major, stack.python.minor, stack.base.glibc.minor, _machine(stack))


@cache  # a set: there are a thousand tags, and every wheel of a lock is looked up in them
def _tag_set_of(major: int, minor: int, glibc_minor: int, machine: str) -> frozenset[tags.Tag]:
    return frozenset(_tags_of(major, minor, glibc_minor, machine))


@cache
def _tags_of(major: int, minor: int, glibc_minor: int, machine: str) -> tuple[tags.Tag, ...]:
    version = (major, minor)
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    platforms: list[str] = []
    for number in range(glibc_minor, 4, -1):
        platforms.append(f"manylinux_2_{number}_{machine}")
        if number in legacy:
            platforms.append(f"{legacy[number]}_{machine}")
    platforms.append(f"linux_{machine}")
    interpreter = f"cp{version[0]}{version[1]}"
    return (
        *tags.cpython_tags(version, platforms=platforms),
        *tags.compatible_tags(version, interpreter=interpreter, platforms=platforms),
    )


def markers(stack: Stack) -> Environment:
    """PEP 508 markers as they will be inside the image, not as they are here."""
    here = cast("dict[str, str]", dict(default_environment()))
    here |= {
        "python_version": str(stack.python),
        "python_full_version": f"{stack.python}.0",
        "implementation_version": f"{stack.python}.0",
        "platform_machine": _machine(stack),
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    return cast("Environment", here)


def find_problems(lock: Lock) -> Iterator[str]:
    """What is wrong with a lock in itself; a good one yields nothing."""
    if lock.schema != SCHEMA:
        yield f"it has schema {lock.schema}; this envbuilder reads {SCHEMA}"
    if len({wheel.name for wheel in lock.wheels}) != len(lock.wheels):
        yield "a package is locked twice"
    for wheel in lock.wheels:
        yield from _wheel_problems(wheel, lock.stack)
    yield from _cuda_problems(lock)
    for line in [*lock.stack.requirements, *lock.stack.extras]:
        yield from _requirement_problems(line, lock)


def _cuda_problems(lock: Lock) -> Iterator[str]:
    """Wheels of another CUDA than the stack's."""
    stack = lock.stack
    for wheel in lock.wheels:
        if wheel.name == "torch" and stack.index.startswith(_LOCAL_INDEXES) and wheel.version.local != stack.cuda_tag:
            on_index = f"{wheel.version.public}+{stack.cuda_tag}"
            yield f"torch {wheel.version} is locked; on the index {stack.index} it is {on_index}"
    brought = sorted(wheel.name for wheel in lock.wheels if wheel.name.startswith(_CUDA_WHEELS))
    if stack.cuda is None and brought:
        yield f"{' and '.join(brought)} is locked; the stack has no CUDA"


def _requirement_problems(line: str, lock: Lock) -> Iterator[str]:
    """A requirement of the stack that is malformed, or that no wheel of the lock answers."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        yield f"{line!r} is not a package with an optional version"
        return
    found = next((wheel for wheel in lock.wheels if wheel.name == canonicalize_name(wanted.name)), None)
    if found is None:
        yield f"{wanted.name} is required but missing from the lock"
    elif not wanted.specifier.contains(found.version, prereleases=True):
        yield f"{wanted.name} {found.version} is locked; the stack asks for {wanted.specifier}"


def _wheel_problems(wheel: Wheel, stack: Stack) -> Iterator[str]:
    if not grammar.matches(grammar.Sha256, wheel.sha256):
        yield f"{wheel.name}: {wheel.sha256!r} is not a sha256"
    try:
        name, version, _, tags_of_file = parse_wheel_filename(wheel.file)
    except InvalidWheelFilename:
        yield f"{wheel.name}: {wheel.file!r} is not a wheel's file name"
        return
    if (name, version) != (wheel.name, wheel.version):
        yield f"{wheel.name} {wheel.version}: {wheel.file} is the file of another package or version"
    if tags_of_file.isdisjoint(_accepted_tags(stack)):
        yield f"{wheel.file} does not install on Python {stack.python} for {stack.platform}"


def parse_lock(text: str, *, source: str) -> Lock:
    """Read a lock somebody gives us. Raises `UsageError` that names the file and the field at fault."""
    again = f"make it again: `envbuilder lock --output {source}`"
    try:
        lock = serialize.loads(text, Lock)
    except msgspec.ValidationError as error:
        problem = _named(text, grammar.explained(str(error)))
        raise UsageError(f"{source} is not a lock of envbuilder's: {problem}", hint=again) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{source} cannot be read as a lock: {error}", hint=again) from error
    problems = list(find_problems(lock))
    if problems:
        raise UsageError(f"{source} is damaged", problems=problems, hint=again)
    return lock


def _named(text: str, message: str) -> str:
    """Add the wheel's name to a message that only has its number (`$.wheels[17]`)."""
    row = re.search(r"\$\.wheels\[([0-9]+)\]", message)
    if not row:
        return message
    try:
        wheel = msgspec.json.decode(text)["wheels"][int(row[1])]
    except msgspec.DecodeError:  # a number that no field may hold
        return message
    name = wheel.get("name") if isinstance(wheel, dict) else None
    known = isinstance(name, str) and grammar.matches(grammar.Project, name)
    return f"{message} (the wheel of {name})" if known else message


def requirements_text(lock: Lock, *layers: Layer) -> str:
    """A hashed requirements file of the given layers (none: all) for uv and pip alike; installs wheels only."""
    wanted = layers or tuple(Layer)
    lines = [f"{w.name}=={w.version} --hash=sha256:{w.sha256}" for w in lock.wheels if w.layer in wanted]
    return "\n".join(["--only-binary :all:", *lines, ""])
