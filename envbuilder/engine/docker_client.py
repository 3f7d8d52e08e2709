"""The Docker SDK, behind the few verbs this tool needs. The one module that imports `docker`; it is imported late.

Every container and volume it makes carries a label with this run's id and is removed by the context manager that made
it, also after Ctrl-C; `sweep` removes what a killed run left behind.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import CONFLICT, NOT_FOUND
from pathlib import Path
from typing import Any, Self

import requests
import urllib3.exceptions
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, NullResource
from docker.utils import parse_repository_tag

import docker
from envbuilder.engine import archive, info
from envbuilder.engine.background import in_background
from envbuilder.engine.container_spec import RUN_LABEL, Job, create_options, filler_options, suite_mount
from envbuilder.engine.gpu_access import Offers, find_gpu_failure
from envbuilder.engine.image import ImageFacts, facts_of
from envbuilder.engine.output import TooMuchOutput, lines_of
from envbuilder.engine.pulse import Pulse
from envbuilder.engine.registry import refusal_hint
from envbuilder.engine.run_id import is_alive
from envbuilder.errors import EngineError
from envbuilder.grammar import one_line

# What the SDK lets through of the libraries below it: a stream that breaks off is urllib3's error, not requests'.
_CONNECTION_ERRORS = (DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
_CREATE_SECONDS = 10  # how long an interrupt waits for a container that is being made
SILENCE = 60.0  # seconds without an answer to a ping after which an engine is given up
_SILENCE_AT_THE_END = 2.0  # the same, once there is nothing left to do but to clean up
_KILL_SECONDS = 15  # how long an engine may take to end a container
_PING_SECONDS = 10
_IDLE_SECONDS = 600.0  # how long a registry may send nothing
_NO_ENGINE_HINT = "start Docker, or run `envbuilder doctor` to find out what is wrong"

# Docker says "no such file or directory" of much else: a folder that is not there, a socket, its own storage.
_NO_PROGRAM = re.compile(r'executable file not found|exec: "[^"]*": stat [^:]*: no such file|exec [^:]*: no such file')


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
        if _NO_PROGRAM.search(text):
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

    def __init__(self, run_id: str, *, timeout: int = 120, silence: float = SILENCE) -> None:
        self.run_id = run_id
        answer: Future[docker.DockerClient] = Future()
        with _explained("cannot reach the container engine"):
            in_background(partial(_connect, timeout), answer)
            try:
                self._client = answer.result(min(silence, timeout))
            except TimeoutError as error:
                raise requests.exceptions.Timeout(f"nothing within {min(silence, timeout):.0f} s") from error
        version = self._client.api.api_version
        self.pulse = Pulse(partial(_ping_once, version), min(silence, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pulse.close()
        self._client.close()

    # --- images ---

    def image(self, reference: str) -> ImageFacts | None:
        """The image of that name or id in the engine's store, or None."""
        with _explained(f"cannot look at {reference}"):
            try:
                attrs = self.pulse.ask(lambda: self._client.images.get(reference)).attrs
            except (ImageNotFound, NullResource):
                return None
        return facts_of(attrs)

    def steps(self, image: str) -> list[tuple[int, str]]:
        """The bytes that each step added to the image and what it was, the first step first."""
        with _explained("cannot read the history"):
            entries = self.pulse.ask(lambda: self._client.images.get(image).history())
        return [
            (entry.get("Size") or 0, entry.get("CreatedBy") or entry.get("Comment") or "")
            for entry in reversed(entries)
        ]

    def pull(self, reference: str, platform: str) -> str | None:
        """Pull from a registry; returns None, or why it could not be had."""
        name, tag = parse_repository_tag(reference)
        call = partial(self._client.api.pull, name, tag or "latest", platform=platform, stream=True, decode=True)
        idle = _Idle("the registry")
        try:
            for line in self.pulse.follow(self.pulse.ask(call), idle.check):
                idle.reset()
                if "error" in line:
                    return str(line["error"])
        except (APIError, ImageNotFound) as error:
            return str(error.explanation or error)
        except _CONNECTION_ERRORS as error:
            return _short(error)
        return None

    def registry_trouble(self, reference: str) -> str | None:
        """Have the engine look an image up in its registry, without pulling; returns None, or why it cannot."""
        try:
            self.pulse.ask(lambda: self._client.images.get_registry_data(reference))
        except APIError as error:
            return str(error.explanation or error)
        except _CONNECTION_ERRORS as error:
            return _short(error)
        return None

    def import_tar(self, tar: Path, reference: str, changes: Sequence[str]) -> None:
        """Make an image of a file system in a tar."""
        with _explained(f"cannot import {reference}"):
            name, tag = reference.rsplit(":", 1)
            call = partial(self._client.api.import_image_from_file, str(tar), repository=name, tag=tag)
            self.pulse.ask(partial(call, changes=list(changes)))

    def tag(self, image: str, reference: str) -> None:
        """Give an image a name, moving it from whichever image had it."""
        with _explained(f"cannot tag {reference}"):
            name, _, tag = reference.rpartition(":")
            self.pulse.ask(lambda: self._client.images.get(image).tag(name, tag))

    def push(self, reference: str) -> str:
        """Push a tag; returns the digest that the registry gave it."""
        name, _, tag = reference.rpartition(":")
        digest = ""
        with _explained(f"cannot push {reference}"):
            call = partial(self._client.api.push, name, tag=tag, stream=True, decode=True)
            idle = _Idle("the registry")
            for line in self.pulse.follow(self.pulse.ask(call), idle.check):
                idle.reset()
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
        return info.offers(self._info())

    def host(self) -> dict[str, Any]:
        """Facts about the engine's machine for a receipt; no names, no addresses."""
        return info.facts(self._info())

    def platform(self) -> str:
        """What the engine's machine runs without emulation: `linux/amd64`."""
        return info.platform(self._info())

    def maps_users(self) -> bool:
        """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
        return info.maps_users(self._info())

    def _info(self) -> dict[str, Any]:
        with _explained("cannot ask the engine about itself"):
            return self.pulse.ask(self._client.info)

    # --- containers ---

    @contextmanager
    def container(self, image: str, job: Job) -> Iterator["Container"]:
        """A container that is made, not yet started, and removed when the block ends, whatever happens in it.

        Its files lie in a volume, which goes with it: a read-only root takes none, and a remote engine has no folder of
        ours. They are put there by a container that never starts; the job's own can only read them.
        """
        doing = f"cannot make a container of {image[:19]}"
        memory = info.memory_to_give(self._info())
        create = partial(self._client.containers.create, image, list(job.command))
        with ExitStack() as stack:
            mounts = []
            if job.files:
                volume = stack.enter_context(self._volume())
                with self._made(doing, partial(create, **filler_options(volume.name, self.run_id)), v=True) as filler:
                    self._fill(filler, job.files)
                mounts = [suite_mount(volume.name, read_only=True)]
            options = create_options(job, self.run_id, memory)
            made = stack.enter_context(self._made(doing, partial(create, mounts=mounts, **options), v=True))
            yield Container(made, self.pulse)

    def _fill(self, container: Any, files: Mapping[str, bytes]) -> None:
        with _explained("cannot put the suite into the container"):
            self.pulse.ask(partial(container.put_archive, "/", archive.pack(files)))

    def _volume(self) -> AbstractContextManager[Any]:
        """An empty volume with this run's label, removed when the block ends."""
        create = partial(self._client.volumes.create, labels={RUN_LABEL: self.run_id})
        return self._made("cannot make a volume", create)

    @contextmanager
    def _made(self, doing: str, create: Callable[[], Any], **removal: bool) -> Iterator[Any]:
        """What the engine makes, removed when the block ends, whatever happens in it."""
        answer: Future[Any] = Future()
        patience = self.pulse.limit
        try:
            with _explained(doing):
                in_background(create, answer)
                made = self.pulse.wait(answer)
            yield made
        except (KeyboardInterrupt, EngineError):
            patience = _SILENCE_AT_THE_END
            raise
        finally:
            # An interrupt may come before the engine's answer: what it makes all the same is removed too.
            with suppress(*_CONNECTION_ERRORS, TimeoutError, EngineError):
                self._finish(lambda: answer.result(_CREATE_SECONDS).remove(force=True, **removal), patience)

    def _finish(self, call: Callable[[], Any], patience: float) -> None:
        """Ask the engine for something, to its end: an interrupt meanwhile is raised when it is done."""
        done: Future[Any] = Future()
        try:
            in_background(call, done)
            self.pulse.wait(done, patience)
        except KeyboardInterrupt:
            with suppress(*_CONNECTION_ERRORS, TimeoutError, EngineError):
                self.pulse.wait(done, _SILENCE_AT_THE_END)
            raise

    def layer_files(self, image: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
        """(path, size, its first 100 kB) of every wanted file in every layer, whether a later layer hides it or not.

        The engine writes the whole image out for this: as many bytes of its disk, for half a minute.
        """
        with _explained("cannot read the layers"):
            chunks = self.pulse.ask(partial(self._client.api.get_image, image))
            yield from archive.files_of_layers(self.pulse.follow(chunks), wanted)

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
        """Remove the containers and volumes of runs whose process is gone; returns how many.

        Their label is `host:pid:start`.
        """
        removed = 0
        ours: dict[str, Any] = {"label": RUN_LABEL}
        with _explained("cannot sweep"):
            call = partial(self._client.containers.list, all=True, filters=ours, ignore_removed=True)
            for container in self.pulse.ask(call):
                if not is_alive(container.labels[RUN_LABEL]):
                    removed += self._remove(partial(container.remove, force=True, v=True))
            for volume in self.pulse.ask(partial(self._client.volumes.list, filters=ours)):
                if not is_alive(volume.attrs["Labels"][RUN_LABEL]):
                    removed += self._remove(volume.remove)
        return removed

    def _remove(self, call: Callable[[], Any]) -> bool:
        """Whether something was removed; another sweep may have been faster, or be in the middle of it."""
        try:
            self.pulse.ask(call)
        except APIError as error:
            if error.status_code not in (NOT_FOUND, CONFLICT):
                raise
            return False
        return True


def _connect(timeout: int) -> docker.DockerClient:
    client = docker.from_env(timeout=timeout)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


def _ping_once(version: str) -> None:
    """Ask the engine on a connection of its own: those of other requests may be waited for."""
    client = docker.from_env(version=version, timeout=_PING_SECONDS)
    try:
        client.ping()
    finally:
        client.close()


class _Idle:
    """How long nothing has come from somebody behind the engine, which itself answers."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.reset()

    def reset(self) -> None:
        self._last = time.monotonic()

    def check(self) -> None:
        if time.monotonic() - self._last > _IDLE_SECONDS:
            raise EngineError(
                f"{self._who} has sent nothing for {_IDLE_SECONDS:.0f} s",
                hint="check the network and the proxy of the engine, then run the same command",
            )


@dataclass(slots=True)
class Container:
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
        with _explained("cannot start the container"):
            attach = partial(self._container.attach, stdout=True, stderr=False, stream=True, logs=True)
            stream = self._pulse.ask(attach)
        try:
            with _explained("cannot start the container"):
                self._pulse.ask(self._container.start)
            with _explained("the container cannot be followed"):
                yield from lines_of(self._until(stream, deadline))
        except TooMuchOutput:
            self.signal("KILL")
            raise
        finally:
            with suppress(OSError, DockerException):  # it may have ended; or it is ssh's, which cannot be cut off
                stream.close()  # whoever still reads it is woken
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
        """A deadline holds also where the engine does not do what it is told."""
        if self.late and time.monotonic() - self._killed > _KILL_SECONDS:
            raise EngineError(
                f"the container engine did not end a container within {_KILL_SECONDS} s of its deadline",
                hint="see whether `docker ps` answers; restart the engine, then run the same command",
            )

    def limit(self, seconds: float | None) -> None:
        """Kill it in so many seconds, whatever was said before; None takes that back."""
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
        with suppress(*_CONNECTION_ERRORS, EngineError):
            self._pulse.ask(partial(self._container.kill, signal=name))

    def read_file(self, path: str) -> bytes | None:
        """A plain file in it, running or not; None if there is none, or a huge one."""
        with _explained(f"cannot read {path}"):
            try:
                chunks, _ = self._pulse.ask(partial(self._container.get_archive, path))
            except NotFound:
                return None
            return archive.first_file(self._pulse.follow(chunks))

    def read_folder(self, path: str) -> Mapping[str, bytes]:
        """The plain files below a folder in it, running or not; raises `EngineError` if they are too many."""
        with _explained(f"cannot read {path}"):
            try:
                chunks, _ = self._pulse.ask(partial(self._container.get_archive, path))
            except NotFound:
                return {}
            return archive.files_below(self._pulse.follow(chunks))

    def wait(self) -> tuple[int, bool]:
        """Exit code, and whether the kernel killed it for memory."""
        with _explained("cannot wait for the container"):
            code = int(self._pulse.ask(partial(self._container.wait, timeout=60))["StatusCode"])
            self._pulse.ask(self._container.reload)
            return code, bool(self._container.attrs["State"].get("OOMKilled"))

    def errors(self, most: int = 20) -> list[str]:
        """The last lines of its stderr."""
        with _explained("cannot read the container's log"):
            logs = partial(self._container.logs, stdout=False, stderr=True, tail=most)
            text = self._pulse.ask(logs).decode(errors="replace")
        return [one_line(line) for line in text.split("\n") if line.strip()]
