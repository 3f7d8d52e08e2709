"""The Docker SDK, behind the few verbs this tool needs. The one module that imports `docker`; it is imported late.

Every container it makes carries a label with this run's id and is removed by the context manager that made it, also
after Ctrl-C; `sweep` removes what a killed run left behind.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import requests
import urllib3.exceptions
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, NullResource

import docker
from envbuilder.engine import archive, machine
from envbuilder.engine.background import in_background
from envbuilder.engine.image import ImageFacts, facts_of
from envbuilder.engine.job import RUN_LABEL, Job, create_options
from envbuilder.engine.output import TooMuchOutput, lines_of
from envbuilder.engine.registry import refusal_hint
from envbuilder.engine.run_id import is_alive
from envbuilder.errors import EngineError
from envbuilder.gpu import Offers, find_gpu_failure
from envbuilder.grammar import one_line

# What the SDK lets through of the libraries below it: a stream that breaks off is urllib3's error, not requests'.
_CONNECTION_ERRORS = (DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
_CREATE_SECONDS = 10  # how long an interrupt waits for a container that is being made
_NO_ENGINE_HINT = "start Docker; on Debian 12 and 13 `tools/engine up` sets one up"


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn every way the SDK can fail into one error that names the cause."""
    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        gpu = find_gpu_failure(text)
        if gpu:
            raise EngineError(
                f"{gpu}: {text}", hint="mend it, or run without GPUs: `--gpu-access none`; see `envbuilder doctor`"
            ) from error
        if "executable file not found" in text or "no such file or directory" in text:
            raise EngineError(
                f"the suite cannot start in this image: {text}", hint="it needs a shell and Python"
            ) from error
        full = "the disk is full: " if "no space left" in text else ""
        raise EngineError(f"{doing}: {full}{text}") from error
    except (*_CONNECTION_ERRORS, OSError) as error:
        raise EngineError(f"{doing}: no Docker engine answers ({_short(error)})", hint=_NO_ENGINE_HINT) from error


def _short(error: BaseException) -> str:
    return str(error).split("(Caused by")[0].strip().rstrip("(").strip()[:200]


class Engine:
    """A connection to a container engine, made on first use from the usual `DOCKER_*` variables."""

    def __init__(self, run_id: str, *, timeout: int = 120) -> None:
        self.run_id = run_id
        with _explained("cannot reach the container engine"):
            self._client = docker.from_env(timeout=timeout)
            try:
                self._client.ping()
            except BaseException:
                self._client.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # --- images ---

    def image(self, reference: str) -> ImageFacts | None:
        """The image of that name or id in the engine's store, or None."""
        with _explained(f"cannot look at {reference}"):
            try:
                attrs = self._client.images.get(reference).attrs
            except (ImageNotFound, NullResource):
                return None
        return facts_of(attrs)

    def steps(self, image: str) -> list[tuple[int, str]]:
        """The bytes that each step added to the image and what it was, the first step first."""
        with _explained("cannot read the history"):
            entries = self._client.images.get(image).history()
        return [
            (entry.get("Size") or 0, entry.get("CreatedBy") or entry.get("Comment") or "")
            for entry in reversed(entries)
        ]

    def pull(self, reference: str, platform: str) -> str | None:
        """Pull from a registry; returns None, or why it could not be had."""
        try:
            self._client.images.pull(reference, platform=platform)
        except (APIError, ImageNotFound) as error:
            return str(error.explanation or error)
        except _CONNECTION_ERRORS as error:
            return _short(error)
        return None

    def registry_trouble(self, reference: str) -> str | None:
        """Have the engine look an image up in its registry, without pulling; returns None, or why it cannot."""
        try:
            self._client.images.get_registry_data(reference)
        except APIError as error:
            return str(error.explanation or error)
        except _CONNECTION_ERRORS as error:
            return _short(error)
        return None

    def import_tar(self, tar: Path, reference: str, changes: Sequence[str]) -> None:
        """Make an image of a file system in a tar."""
        with _explained(f"cannot import {reference}"):
            name, tag = reference.rsplit(":", 1)
            self._client.api.import_image_from_file(str(tar), repository=name, tag=tag, changes=list(changes))

    def tag(self, image: str, reference: str) -> None:
        """Give an image a name, moving it from whichever image had it."""
        with _explained(f"cannot tag {reference}"):
            name, _, tag = reference.rpartition(":")
            self._client.images.get(image).tag(name, tag)

    def push(self, reference: str) -> str:
        """Push a tag; returns the digest that the registry gave it."""
        name, _, tag = reference.rpartition(":")
        digest = ""
        with _explained(f"cannot push {reference}"):
            for line in self._client.api.push(name, tag=tag, stream=True, decode=True):
                if "error" in line:
                    raise EngineError(
                        f"cannot push {reference}: {line['error']}", hint=refusal_hint(line["error"], name)
                    )
                digest = (line.get("aux") or {}).get("Digest", digest)
        if not digest:
            raise EngineError(f"cannot push {reference}: the engine gave no digest", hint=refusal_hint("", name))
        return digest

    # --- the engine's machine ---

    def offers(self) -> Offers:
        """What there is for GPUs."""
        return machine.offers(self._info())

    def host(self) -> dict[str, Any]:
        """Facts about the engine's machine for a receipt; no names, no addresses."""
        return machine.facts(self._info())

    def platform(self) -> str:
        """What the engine's machine runs without emulation: `linux/amd64`."""
        return machine.platform(self._info())

    def maps_users(self) -> bool:
        """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
        return machine.maps_users(self._info())

    def _info(self) -> dict[str, Any]:
        with _explained("cannot ask the engine about itself"):
            return self._client.info()

    # --- containers ---

    @contextmanager
    def container(self, image: str, job: Job) -> Iterator["Container"]:
        """A container that is made, not yet started, and removed when the block ends, whatever happens in it."""
        options = create_options(job, self.run_id, machine.memory_to_give(self._info()))
        answer: Future[Any] = Future()
        try:
            with _explained(f"cannot make a container of {image[:19]}"):
                in_background(partial(self._client.containers.create, image, list(job.command), **options), answer)
                made = answer.result()
            if job.files:
                with _explained("cannot put the suite into the container"):
                    made.put_archive("/", archive.pack(job.files))
            yield Container(made)
        finally:
            # An interrupt may come before the engine's answer: what it makes all the same is removed too.
            with suppress(*_CONNECTION_ERRORS, TimeoutError):
                answer.result(_CREATE_SECONDS).remove(force=True, v=True)

    def layer_files(self, image: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
        """(path, size, its first 100 kB) of every wanted file in every layer, whether a later layer hides it or not.

        The engine writes the whole image out for this: as many bytes of its disk, for half a minute.
        """
        with _explained("cannot read the layers"):
            yield from archive.files_of_layers(self._client.api.get_image(image), wanted)

    def read_file(self, image: str, path: str) -> bytes | None:
        """A file of an image, read without starting it; None if it has no plain file there, or a huge one."""
        with self.container(image, Job(command=("none",))) as container:
            return container.read_file(path)

    def read_folder(self, image: str, path: str) -> Mapping[str, bytes]:
        """The plain files below a folder of an image, read without starting it: path below it → content."""
        with self.container(image, Job(command=("none",))) as container:
            return container.read_folder(path)

    def output(self, image: str, program: Sequence[str], deadline: float) -> list[str] | None:
        """The lines a program prints in an image, as root and unable to write; None if it is not there or fails."""
        job = Job(command=(), entrypoint=tuple(program), user="0", read_only=True, capabilities=("DAC_READ_SEARCH",))
        with self.container(image, job) as container:
            try:
                lines = list(container.lines(deadline))
            except TooMuchOutput:
                return None
            except EngineError as error:
                if isinstance(error.__cause__, APIError):
                    return None
                raise
            code, _ = container.wait()
            return lines if code == 0 else None

    def sweep(self) -> int:
        """Remove the containers of runs whose process is gone; returns how many. The label is `host:pid:start`."""
        removed = 0
        with _explained("cannot sweep"):
            for found in self._client.containers.list(all=True, filters={"label": RUN_LABEL}):
                if not is_alive(found.labels[RUN_LABEL]):
                    with suppress(NotFound):
                        found.remove(force=True)
                        removed += 1
        return removed


@dataclass(slots=True)
class Container:
    """One container of ours; `late` once it has been killed at a deadline."""

    _container: Any
    late: bool = False
    _limit: threading.Timer | None = None

    def lines(self, deadline: float) -> Iterator[str]:
        """Start it and give its stdout line by line; it is killed once `deadline` seconds have passed.

        Raises `TooMuchOutput`, and kills it, if it writes more than anybody reads (engine/output.py).
        """
        with _explained("cannot start the container"):
            stream = self._container.attach(stdout=True, stderr=False, stream=True, logs=True)
        try:
            with _explained("cannot start the container"):
                self._container.start()
            with _explained("the container cannot be followed"):
                yield from lines_of(self._until(stream, deadline))
        except TooMuchOutput:
            self.signal("KILL")
            raise
        finally:
            stream._response.close()  # its own close() leaves the descriptor open

    def _until(self, chunks: Iterator[bytes], deadline: float) -> Iterator[bytes]:
        """Chunks until the stream ends; killing the container at its deadline ends the stream too."""

        timer = self._timer(deadline)
        try:
            yield from chunks
        finally:
            timer.cancel()
            self.limit(None)

    def limit(self, seconds: float | None) -> None:
        """Kill it in so many seconds, whatever was said before; None takes that back."""
        if self._limit:
            self._limit.cancel()
        self._limit = None if seconds is None else self._timer(seconds)

    def _timer(self, seconds: float) -> threading.Timer:
        def kill() -> None:
            self.late = True
            self.signal("KILL")

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        return timer

    def signal(self, name: str) -> None:
        """Send a signal to its first process, if it still runs."""
        with suppress(*_CONNECTION_ERRORS):
            self._container.kill(signal=name)

    def read_file(self, path: str) -> bytes | None:
        """A plain file in it, running or not; None if there is none, or a huge one."""
        with _explained(f"cannot read {path}"):
            try:
                chunks, _ = self._container.get_archive(path)
            except NotFound:
                return None
            return archive.first_file(chunks)

    def read_folder(self, path: str) -> Mapping[str, bytes]:
        """The plain files below a folder in it, running or not; raises `EngineError` if they are too many."""
        with _explained(f"cannot read {path}"):
            try:
                chunks, _ = self._container.get_archive(path)
            except NotFound:
                return {}
            return archive.files_below(chunks)

    def wait(self) -> tuple[int, bool]:
        """Exit code, and whether the kernel killed it for memory."""
        with _explained("cannot wait for the container"):
            code = int(self._container.wait(timeout=60)["StatusCode"])
            self._container.reload()
            return code, bool(self._container.attrs["State"].get("OOMKilled"))

    def errors(self, most: int = 20) -> list[str]:
        """The last lines of its stderr."""
        with _explained("cannot read the container's log"):
            text = self._container.logs(stdout=False, stderr=True, tail=most).decode(errors="replace")
        return [one_line(line) for line in text.split("\n") if line.strip()]
