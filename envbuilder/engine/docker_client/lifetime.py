"""What the engine makes for this run is removed again, wherever an interrupt comes."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from envbuilder.engine.background import in_background
from envbuilder.engine.docker_client.sdk_errors import CONNECTION_ERRORS, docker_errors
from envbuilder.engine.pulse import Pulse
from envbuilder.errors import EngineError

_CREATE_SECONDS = 10  # how long an interrupt waits for a container that is being made
_SILENCE_AT_THE_END = (
    2.0  # seconds without an answer, once there is nothing left to do but to clean up
)
_CLEANUP_ERRORS = (*CONNECTION_ERRORS, TimeoutError, EngineError)


@contextmanager
def removed_at_the_end(
    pulse: Pulse, action: str, create: Callable[[], Any], **removal: bool
) -> Iterator[Any]:
    """What `create` makes, removed when the block ends, whatever happens in it."""
    creating: Future[Any] = Future()
    patience = pulse.limit

    def remove() -> None:
        # An interrupt may come before the engine's answer: what it makes all the same is removed too.
        creating.result(_CREATE_SECONDS).remove(force=True, **removal)

    try:
        with docker_errors(action):
            in_background(create, creating)
            made = pulse.wait(creating)
        yield made
    except (KeyboardInterrupt, EngineError):
        patience = _SILENCE_AT_THE_END
        raise
    finally:
        # The cause of a failure is already on its way up; one of the removal must not replace it.
        with suppress(*_CLEANUP_ERRORS):
            _finish(pulse, remove, patience)


def _finish(pulse: Pulse, call: Callable[[], Any], patience: float) -> None:
    """Let a call of the engine run to its end: an interrupt meanwhile is raised when it is done."""
    calling: Future[Any] = Future()
    try:
        in_background(call, calling)
        pulse.wait(calling, patience)
    except KeyboardInterrupt:
        with suppress(*_CLEANUP_ERRORS):
            pulse.wait(calling, _SILENCE_AT_THE_END)
        raise
