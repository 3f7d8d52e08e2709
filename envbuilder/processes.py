"""The one module that starts processes."""

import codecs
import io
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from envbuilder.errors import EngineError, EnvbuilderError, UsageError

_HINTS = {
    "docker": "install Docker with buildx: https://docs.docker.com/engine/install/",
    "mmdebstrap": "install it (`sudo apt-get install mmdebstrap`), or make a registry reachable for the engine",
}
_PATIENCE = 10  # seconds between SIGINT and SIGKILL
_SILENCE = 2.0  # the same, if the process waits for a peer that is silent
_TICK = 0.25  # seconds between two checks while waiting
Check = Callable[[float | None], None]
"""Raises `EnvbuilderError` if the peer of a process has been silent for too long, or for so many seconds."""


def no_check(limit: float | None) -> None:
    """The process has no peer to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a process ended, and its output."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run to the end with nothing on stdin. Raises `EngineError` if the program is missing or takes too long."""
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _not_started(argv, error) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"`{argv[0]}` did not answer within {timeout:.0f} s"
        ) from error
    return Completed(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def stream(
    argv: Sequence[str],
    on_text: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    check: Check = no_check,
    timeout: float | None = None,
) -> int:
    """Run to the end, passing its output (stdout and stderr, as it comes) to `on_text`; returns the exit code.

    The process runs in its own session, so that a Ctrl-C reaches only us; we end it, with its children, and wait. The
    same if `check` raises, or if it has not ended after `timeout` seconds.
    """
    started = time.monotonic()

    def check_all() -> None:
        if timeout is not None and time.monotonic() - started > timeout:
            raise EngineError(
                f"`{argv[0]}` did not end within {timeout / 60:.0f} minutes"
            )
        check(None)

    process: subprocess.Popen[bytes] | None = None
    try:
        with _interrupts_later():
            process = _start(argv, env)
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        for line in _lines(process.stdout.fileno(), check_all):
            on_text(line)
        return process.wait()
    except BaseException:
        if process:
            _end_group(process, check)
        raise
    finally:
        if process and process.stdout:
            process.stdout.close()


def _start(
    argv: Sequence[str], env: Mapping[str, str] | None
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _not_started(argv, error) from error


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Delay signals until the end of the block: a process that is being started has no id yet to end it by."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if callable(handler):
            ours[number] = handler
    for number in ours:
        signal.signal(number, lambda *details: received.append(details[0]))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    for received_number in received:
        signal.raise_signal(received_number)


def contain(argv: Sequence[str], *, env: Mapping[str, str]) -> list[str]:
    """The same command, wrapped so that its child processes and its mounts end with it, and it ends with us.

    Needs root and util-linux. Without root only the command itself ends with us; it cannot mount anything either.
    """
    path = env.get("PATH")
    for program in ("setpriv", argv[0]):
        if not shutil.which(program, path=path):
            return [*argv]
    ends_with_us = ["setpriv", "--pdeathsig", "KILL"]
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not _can_run([*apart, "true"], env):
        return [*ends_with_us, *argv]
    # The first process of a namespace ignores most signals, so it is a shell, not the command.
    return [*ends_with_us, *apart, "sh", "-c", '"$@"; exit "$?"', "sh", *argv]


def _can_run(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether root can run this here: some containers allow no namespaces, even to root."""
    if os.geteuid() != 0:
        return False
    try:
        return run(argv, env=env, timeout=_PATIENCE).returncode == 0
    except EngineError:
        return False


def _lines(descriptor: int, check: Callable[[], None]) -> Iterator[str]:
    """The lines of a pipe as they come; `check` is called between them, and while none comes."""
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8")("replace"), translate=True
    )
    rest, is_open = "", True
    while is_open:
        ready, _, _ = select.select([descriptor], [], [], _TICK)
        if ready:
            chunk = os.read(descriptor, 1 << 16)
            is_open = bool(chunk)
            text = rest + decoder.decode(chunk, final=not is_open)
            *lines, rest = text.split("\n")
            for line in lines:
                yield f"{line}\n"
        check()
    if rest:
        yield rest


def _end_group(process: "subprocess.Popen[bytes]", check: Check) -> None:
    """Interrupt the process as Ctrl-C would, then kill what is left of it and of its children."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired, EnvbuilderError):
            _wait(process, check if number is signal.SIGINT else no_check)


def _wait(process: "subprocess.Popen[bytes]", check: Check) -> None:
    """Wait for a process that was interrupted, unless its peer is silent: then it cannot end."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        check(_SILENCE)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TICK)


def _not_started(
    argv: Sequence[str], error: OSError | ValueError
) -> EngineError | UsageError:
    program = argv[0]
    # NUL, or a character that the system's encoding lacks
    if isinstance(error, ValueError):
        message = f"`{program}` cannot take these arguments: {error}"
        return UsageError(message)
    hint = _HINTS.get(program, "install it, and check your PATH")
    message = f"`{program}` cannot be started: {error.strerror}"
    return EngineError(message, hint=hint)
