"""One container: start it, follow what it prints, end it in time, read its files."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from docker.errors import DockerException, NotFound

from envbuilder.engine import archive
from envbuilder.engine.docker_client.sdk_errors import CONNECTION_ERRORS, docker_errors
from envbuilder.engine.output import TooMuchOutput, lines_of
from envbuilder.engine.pulse import Pulse
from envbuilder.errors import EngineError
from envbuilder.grammar import one_line

_KILL_SECONDS = 15  # how long an engine may take to end a container


@dataclass(slots=True)
class DockerContainer:
    """One container of ours; `late` once it has been killed at a deadline."""

    _container: Any
    _pulse: Pulse
    late: bool = False
    _killed: float = 0  # when that was
    _limit: threading.Timer | None = None

    def lines(self, deadline: float) -> Iterator[str]:
        """Start it and give its stdout line by line; it is killed once `deadline` seconds have passed.

        Raises `TooMuchOutput`, and kills it, if it writes more than anybody reads (engine/output.py).
        """
        # Attached before it starts: a program that ends at once has printed everything by then.
        with docker_errors("cannot start the container"):
            attach = partial(
                self._container.attach,
                stdout=True,
                stderr=False,
                stream=True,
                logs=True,
            )
            stream = self._pulse.ask(attach)
        try:
            with docker_errors("cannot start the container"):
                self._pulse.ask(self._container.start)
            with docker_errors("cannot follow the container's output"):
                yield from lines_of(self._until(stream, deadline))
        except TooMuchOutput:
            self.signal("KILL")
            raise
        finally:
            # It may have ended; or the connection goes over SSH, which cannot be cut off.
            with suppress(OSError, DockerException):
                stream.close()  # wakes the thread that still reads it
            stream._response.close()  # its own close() leaves the descriptor open

    def _until(self, chunks: Iterator[bytes], deadline: float) -> Iterator[bytes]:
        """Chunks until the stream ends; killing the container at its deadline ends the stream too."""
        timer = self._timer(deadline)
        try:
            yield from self._pulse.follow(chunks, self._check_kill)
        finally:
            timer.cancel()
            self.limit(None)

    def _check_kill(self) -> None:
        """A deadline also holds if the engine does not obey the kill."""
        if self.late and time.monotonic() - self._killed > _KILL_SECONDS:
            raise EngineError(
                f"the container engine did not end a container within {_KILL_SECONDS} s of its deadline",
                hint="see whether `docker ps` answers; restart the engine, then run the same command",
            )

    def limit(self, seconds: float | None) -> None:
        """Kill it in so many seconds, instead of an earlier limit; None only takes that one back."""
        if self._limit:
            self._limit.cancel()
        self._limit = None if seconds is None else self._timer(seconds)

    def _timer(self, seconds: float) -> threading.Timer:
        def kill() -> None:
            self._killed = time.monotonic()
            self.late = True
            self.signal("KILL")

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        return timer

    def signal(self, name: str) -> None:
        """Send a signal to its first process, if it still runs."""
        with suppress(*CONNECTION_ERRORS, EngineError):
            self._pulse.ask(partial(self._container.kill, signal=name))

    def read_file(self, path: str) -> bytes | None:
        """A plain file in it, running or not; None if there is none, or a huge one."""
        with docker_errors(f"cannot read {path}"):
            chunks = self._archive(path)
            return None if chunks is None else archive.first_file(chunks)

    def read_folder(self, path: str) -> Mapping[str, bytes]:
        """The plain files below a folder in it, running or not; raises `EngineError` if they are too many."""
        with docker_errors(f"cannot read {path}"):
            chunks = self._archive(path)
            return {} if chunks is None else archive.files_below(chunks)

    def _archive(self, path: str) -> Iterator[bytes] | None:
        """A file or folder in it as a tar; None if it does not exist."""
        try:
            chunks, _ = self._pulse.ask(partial(self._container.get_archive, path))
        except NotFound:
            return None
        return self._pulse.follow(chunks)

    def wait(self) -> tuple[int, bool]:
        """Exit code, and whether the kernel killed it for memory."""
        wait = partial(self._container.wait, timeout=60)
        with docker_errors("cannot wait for the container"):
            result = self._pulse.ask(wait)
            # Its state has the reason of its end only when it is read again.
            self._pulse.ask(self._container.reload)
        code = int(result["StatusCode"])
        state = self._container.attrs["State"]
        return code, bool(state.get("OOMKilled"))

    def errors(self, most: int = 20) -> list[str]:
        """The last lines of its stderr."""
        read_log = partial(self._container.logs, stdout=False, stderr=True, tail=most)
        with docker_errors("cannot read the container's log"):
            log = self._pulse.ask(read_log)
        lines = []
        for line in log.decode(errors="replace").split("\n"):
            if line.strip():
                lines.append(one_line(line))
        return lines
