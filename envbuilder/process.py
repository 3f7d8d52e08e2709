"""The one module that starts processes."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from envbuilder.errors import EngineError, UsageError

_HINTS = {
    "docker": "install Docker with buildx; on Debian 12 and 13 `tools/engine up` does it",
    "mmdebstrap": "install it (`tools/engine bootstrap-tools`), or let the engine reach a registry",
}
_PATIENCE = 10  # seconds between asking a process to end and making it


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a process ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float | None = None) -> Completed:
    """Run to the end with nothing on stdin. Raises `EngineError` if the program is missing or takes too long."""
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _not_started(argv, error) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"`{argv[0]}` did not answer within {timeout:.0f} s") from error
    return Completed(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def stream(argv: Sequence[str], on_text: Callable[[str], None], *, env: Mapping[str, str] | None = None) -> int:
    """Run to the end, giving what it writes (stdout and stderr, as it comes) to `on_text`; returns the exit code.

    The process gets a session of its own, so that a Ctrl-C reaches us alone; we end it, with its children, and wait.
    """
    try:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _not_started(argv, error) from error
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    try:
        for line in process.stdout:
            on_text(line)
        return process.wait()
    except BaseException:
        _end_group(process)
        raise
    finally:
        process.stdout.close()


def _end_group(process: "subprocess.Popen[str]") -> None:
    """Ask the process to end as Ctrl-C would, then end whatever is left of it and of those it started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)


def _not_started(argv: Sequence[str], error: OSError | ValueError) -> EngineError | UsageError:
    if isinstance(error, ValueError):  # NUL, or a character that the system's encoding lacks
        return UsageError(f"`{argv[0]}` cannot be given these words: {error}")
    hint = _HINTS.get(argv[0], "install it, and check your PATH")
    return EngineError(f"`{argv[0]}` cannot be started: {error.strerror}", hint=hint)
