"""Whether an engine still answers: it is pinged, on a separate connection, while something waits for it.

A frozen engine accepts every request and answers none, and some answers may rightly take minutes: no time limit for a
single answer tells the two apart. A ping without an answer does.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_any
from functools import partial
from queue import Empty, Full, Queue
from threading import Event
from typing import Generic, TypeVar

from envbuilder.engine.background import in_background
from envbuilder.errors import EngineError

T = TypeVar("T")
TICK = 0.25  # seconds between two checks while waiting
_BETWEEN_PINGS = 1.0
_CHUNKS = 8  # of a stream, that are read ahead


class Pulse:
    """Waits for an engine's answers, for as long as it answers a ping at least every `limit` seconds.

    `ping` asks it once, and fails or takes its time if it does not answer. The first ping comes with the first wait.
    """

    def __init__(self, ping: Callable[[], object], limit: float) -> None:
        self.limit = limit
        self._ping = ping
        self._last_answer: float | None = None
        self._closed = Event()

    def close(self) -> None:
        """Stop pinging."""
        self._closed.set()

    def silence(self) -> float:
        """For how many seconds it has not answered."""
        now = time.monotonic()
        if self._last_answer is None:
            self._last_answer = now
            in_background(self._beat, Future())
        return now - self._last_answer

    def _beat(self) -> None:
        while not self._closed.is_set():
            try:
                self._ping()
                self._last_answer = time.monotonic()
            except Exception:  # noqa: S110 - whatever the error is, there was no answer
                pass
            self._closed.wait(_BETWEEN_PINGS)

    def check(self, limit: float | None = None) -> None:
        """Raise `EngineError` if it has not answered for too long."""
        most = self.limit if limit is None else limit
        if self.silence() > most:
            raise EngineError(
                f"the container engine has not answered for {most:.0f} s",
                hint="see whether `docker version` answers; restart the engine, then run the same command",
            )

    def wait(
        self,
        answer: "Future[T]",
        limit: float | None = None,
        within: float | None = None,
    ) -> T:
        """The result of a call of the engine that runs in another thread.

        Raises `TimeoutError` if it takes longer than `within` seconds, although the engine answers.
        """
        started = time.monotonic()
        while not wait_for_any([answer], timeout=TICK).done:
            self.check(limit)
            if within is not None and time.monotonic() - started > within:
                raise TimeoutError(f"no answer within {within:.0f} s")
        return answer.result()

    def ask(
        self,
        call: Callable[[], T],
        limit: float | None = None,
        within: float | None = None,
    ) -> T:
        """The result of a call of the engine; it runs in another thread, so that an interrupt ends the waiting."""
        answer: Future[T] = Future()
        in_background(call, answer)
        return self.wait(answer, limit, within)

    def follow(
        self, chunks: Iterator[T], check: Callable[[], None] = lambda: None
    ) -> Iterator[T]:
        """The chunks of a stream as they come; `check` is called while none does."""
        reading = _Reading(chunks)
        try:
            while True:
                try:
                    chunk = reading.arrived.get(timeout=TICK)
                except Empty:
                    self.check()
                    check()
                    continue
                if chunk is None:
                    reading.ended.result()
                    return
                yield chunk[0]
        finally:
            reading.stopped.set()


class _Reading(Generic[T]):
    """A stream that another thread reads, a few chunks ahead; None follows the last one."""

    def __init__(self, chunks: Iterator[T]) -> None:
        self.arrived: Queue[tuple[T] | None] = Queue(_CHUNKS)
        self.stopped = Event()
        self.ended: Future[None] = Future()
        read = partial(self._read, chunks)
        in_background(read, self.ended)

    def _read(self, chunks: Iterator[T]) -> None:
        try:
            for chunk in chunks:
                self._put((chunk,))
                if self.stopped.is_set():
                    return
        finally:
            self._put(None)

    def _put(self, chunk: tuple[T] | None) -> None:
        while not self.stopped.is_set():
            try:
                self.arrived.put(chunk, timeout=TICK)
                return
            except Full:
                continue
