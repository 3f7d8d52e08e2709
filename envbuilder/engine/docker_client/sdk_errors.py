"""Every way the Docker SDK can fail, as one error of ours that names the cause."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3.exceptions
from docker.errors import APIError, DockerException

from envbuilder.engine.gpu_access import find_gpu_failure
from envbuilder.errors import EngineError

# The SDK also lets through errors of the libraries below it: a stream that breaks off is urllib3's, not requests'.
CONNECTION_ERRORS = (
    DockerException,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
)
_LONGEST = 200  # characters of a connection error
_DEEPEST = 20  # errors that one came from
_NO_ENGINE_HINT = "start Docker, or run `envbuilder doctor` to find the problem"
_NO_GPU_HINT = "run `envbuilder doctor` to find the problem, or run without GPUs: `--gpu-access none`"

# Docker reports "no such file or directory" for other things too: a missing folder, a socket, its own storage.
_NO_PROGRAM = re.compile(
    r'executable file not found|exec: "[^"]*": stat [^:]*: no such file|exec [^:]*: no such file'
)


@contextmanager
def docker_errors(action: str) -> Iterator[None]:
    """Turn every way the SDK can fail into one `EngineError`; `action` is what failed: "cannot tag cu117"."""
    try:
        yield
    except APIError as error:
        raise _refused(action, api_message(error)) from error
    except (*CONNECTION_ERRORS, OSError) as error:
        reason = connection_message(error)
        raise EngineError(
            f"{action}: no Docker engine answers ({reason})", hint=_NO_ENGINE_HINT
        ) from error


def _refused(action: str, message: str) -> EngineError:
    """The error for a request that the engine answered with an error of its own."""
    gpu_failure = find_gpu_failure(message)
    if gpu_failure:
        return EngineError(f"{gpu_failure}: {message}", hint=_NO_GPU_HINT)
    if _NO_PROGRAM.search(message):
        return EngineError(
            f"the suite cannot start in this image: {message}",
            hint="it needs a shell and Python",
        )
    if "no space left" in message:
        return EngineError(
            f"{action}: the disk is full: {message}",
            hint="see what uses it: `docker system df`",
        )
    return EngineError(f"{action}: {message}")


def api_message(error: APIError) -> str:
    """What the engine itself says."""
    return str(error.explanation or error)


def connection_message(error: BaseException) -> str:
    """The short part of a connection error: urllib3 nests every error in another."""
    for cause in _causes(error):
        # The system's own words: "No such file or directory", "Permission denied", "Connection refused".
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    outermost = str(error).split("(Caused by")[0]
    return outermost.strip().rstrip("(").strip()[:_LONGEST]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from."""
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
