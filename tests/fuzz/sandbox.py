"""Runs one command of envbuilder in this process, in a separate directory; records output, programs and cost.

No program is started: programs and the container engine are stand-ins. Nothing is written outside the directory: an
audit hook (https://peps.python.org/pep-0578/) refuses it and says so.
"""

import io
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from standin.engine import StandInEngine
from standin.suite_output import IMAGE

from envbuilder import catalog, cli, processes
from envbuilder.catalog.rows import Catalog
from envbuilder.cli import accept_command, base_command, build_command, inspect_command
from envbuilder.processes import Completed

ROOT = Path(__file__).parents[2]
CODES = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 130})  # as README.md lists them; 1 is a bug
MOST_SECONDS = 3  # of the processor
MOST_BYTES = 300 << 20
_PATIENCE = 20  # seconds of the processor after which a case is ended
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_WRITING = frozenset(
    "os.mkdir os.rename os.remove os.rmdir os.link os.symlink os.chmod os.chown os.truncate shutil.rmtree".split()
)
_STARTING = frozenset(
    {
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.system",
        "os.fork",
        "socket.connect",
    }
)


class Finding(AssertionError):
    """A violated property."""


class Late(BaseException):
    """A case that does not end."""


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str
    started: tuple[tuple[str, ...], ...]  # the words of every program

    @property
    def accepted(self) -> bool:
        """Whether the command succeeded, or reported a cause other than its input."""
        return self.code not in (2, 3, 5)


class Engine(StandInEngine):
    """The stand-in engine, with the answers that `inspect` needs."""

    lock: bytes | None = None
    packages: Sequence[str] | None = None

    def read_file(self, image: str, path: str) -> bytes | None:
        return self.lock

    def output(
        self, image: str, command: Sequence[str], deadline: float
    ) -> Sequence[str] | None:
        return self.packages


@dataclass
class Sandbox:
    """A directory, and the stand-ins that commands use there."""

    place: Path
    home: Path
    folder: Path = field(init=False)
    engine: Any = None
    started: list[tuple[str, ...]] = field(default_factory=list)
    escaped: list[str] = field(
        default_factory=list
    )  # what was tried outside of the folder
    _number: int = 0

    def fresh(self) -> Path:
        """An empty folder, from now on the working directory."""
        self._number += 1
        if self._number > 1:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = self.place / f"case-{self._number}"
        self.folder.mkdir()
        os.chdir(self.folder)
        shutil.rmtree(
            self.home / "state", ignore_errors=True
        )  # receipts of the case before
        self.engine = None
        return self.folder

    def run(self, *words: str) -> Answer:
        """Run one command; raises `Finding` for what must not happen whatever was given."""
        out, err = (
            _stream("strict"),
            _stream("backslashreplace"),
        )  # as the interpreter opens them
        self.started.clear()
        self.escaped.clear()
        with redirect_stdout(out), redirect_stderr(err), self.watched():
            code = cli.run(list(words))
        answer = Answer(code, _text(out), _text(err), tuple(self.started))
        check(answer, may_be_stale="render" in words and "--check" in words)
        return answer

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What it costs is measured, and what it does outside of the folder is refused."""
        _reset_peak()
        memory, seconds = _peak(), _seconds()
        _watch(self)
        try:
            with _ending(_PATIENCE):
                yield
        except Late:
            raise Finding(f"hang: more than {_PATIENCE} s of the processor") from None
        finally:
            _watch(None)
        memory, seconds = _peak() - memory, _seconds() - seconds
        if self.escaped:
            raise Finding(f"escape: {self.escaped[0]}")
        if seconds > MOST_SECONDS:
            raise Finding(f"slow: {seconds:.1f} s of the processor")
        if memory > MOST_BYTES:
            raise Finding(f"memory: {memory >> 20} MiB")

    # --- stand-ins ---

    def start(self, argv: Sequence[str], **_: object) -> Completed:
        """In place of `process.run`: no program finds anything."""
        self.started.append(tuple(map(str, argv)))
        return Completed(returncode=2, stdout="", stderr="error: no")

    def stream(
        self, argv: Sequence[str], on_text: Callable[[str], None], **_: object
    ) -> int:
        """In place of `process.stream`: mmdebstrap writes a file, buildx gives the stand-in's image."""
        words = [str(word) for word in argv]
        self.started.append(tuple(words))
        if "mmdebstrap" in words:
            Path(words[-1]).write_text("a file system")
        else:
            Path(words[words.index("--iidfile") + 1]).write_text(IMAGE.id)
        return 0

    def connect(self) -> Any:
        """In place of `new_engine`."""
        return self.engine or Engine()


def check(answer: Answer, *, may_be_stale: bool = False) -> None:
    """Properties of every command."""
    # `render --check` says by 1 that a file is stale, as README.md has it; a bug says that it is one.
    known = answer.code in CODES or (
        answer.code == 1 and may_be_stale and "a bug in" not in answer.err
    )
    if not known:
        raise Finding(f"exit {answer.code}: {answer.err[:600]}")
    for name, text in (("stdout", answer.out), ("stderr", answer.err)):
        if "Traceback" in text:
            raise Finding(f"traceback on {name}: {text[-600:]}")
        found = _CONTROL.search(text)
        if found:
            around = text[max(0, found.start() - 60) : found.end() + 20]
            raise Finding(f"control character on {name}: {around!r}")


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """A sandbox while the block lasts; the working directory and the environment are restored."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        place = Path(name).resolve()
        home, temporary = place / "home", place / "tmp"
        home.mkdir()
        temporary.mkdir()
        made = Sandbox(place, home)
        with (
            mock.patch.dict(os.environ, _environment(home, temporary), clear=True),
            mock.patch.object(tempfile, "tempdir", str(temporary)),
            mock.patch.object(processes, "run", made.start),
            mock.patch.object(processes, "stream", made.stream),
            mock.patch.object(sys, "dont_write_bytecode", True),
            mock.patch.object(catalog, "load", _load_once(catalog.load)),
        ):
            for module in (
                accept_command,
                base_command,
                build_command,
                inspect_command,
            ):
                mock.patch.object(module, "new_engine", made.connect).start()
            try:
                yield made
            finally:
                mock.patch.stopall()
                os.chdir(before)


def _load_once(load: Callable[..., Catalog]) -> Callable[..., Catalog]:
    """The built-in catalog is always the same; fuzzed rows are added to it."""
    ours = cache(load)
    return lambda *words, **named: (
        load(*words, **named) if any(named.values()) else ours(*words)
    )


def _environment(home: Path, temporary: Path) -> Mapping[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "ENVBUILDER_STATE_DIR": str(home / "state"),
        "COLUMNS": "100",
        "DOCKER_HOST": f"unix://{home}/no-engine.sock",
        "LANG": "C.UTF-8",
    }


# --- streams, costs ------------------------------------------------------------------------------------------------


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BytesIO(), encoding="utf-8", errors=errors, newline="", write_through=True
    )


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return str(raw.decode("utf-8", errors="replace"))


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _reset_peak() -> None:
    """https://docs.kernel.org/filesystems/proc.html, clear_refs"""
    with suppress(OSError):  # the peak of the whole process is an upper bound too
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


@contextmanager
def _ending(seconds: float) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Late

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# --- the audit hook: it stays for as long as the process lives ------------------------------------------------------

_watching: list[Sandbox] = []
_hooked: list[bool] = []


def _watch(sandbox: Sandbox | None) -> None:
    _watching[:] = [sandbox] if sandbox else []
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_hook)


def _hook(event: str, values: tuple[Any, ...]) -> None:
    if not _watching:
        return
    box = _watching[0]
    if event in _STARTING and not (
        event == "socket.connect" and isinstance(values[1], str)
    ):  # no engine is there
        box.escaped.append(f"{event} {values[:2]!r}")
        raise PermissionError(13, "refused by the fuzzer")
    paths: list[Any] = []
    if event == "open":
        name, _, flags = values
        writes = isinstance(flags, int) and flags & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        )
        paths = [name] if writes else []
    elif event in _WRITING:
        paths = [value for value in values[:2] if isinstance(value, str | bytes)]
        if event == "os.symlink":
            paths = paths[
                1:
            ]  # where it leads is looked at when something is written through it
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike) and not _is_inside(
            os.fsdecode(path), box
        ):
            box.escaped.append(f"{event} {os.fsdecode(path)!r}")
            raise PermissionError(13, "refused by the fuzzer")


def _is_inside(name: str, box: Sandbox) -> bool:
    whole = os.path.realpath(os.path.join(os.getcwd(), name))  # noqa: PTH109, PTH118 - of bytes, half-made paths
    return whole == os.devnull or Path(whole).is_relative_to(box.place)
