"""The Docker SDK, behind the few verbs this tool needs. The one module that imports `docker`; it is imported late.

Every container it makes carries a label with this run's id and is removed by the context manager that made it, also
after Ctrl-C; `sweep` removes what a killed run left behind.
"""

import io
import os
import platform as host_platform
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, NullResource

import docker
from envbuilder.engine.registry import refusal_hint
from envbuilder.errors import EngineError
from envbuilder.gpu import CDI_ALL, GpuPlan, Offers, find_gpu_failure, run_options

RUN_LABEL = "dev.envbuilder.run"
SHM_SIZE = "1g"  # Docker's 64 MB break DataLoader workers (SIGBUS)
_LARGEST = 16_000_000  # bytes of a file that is read out of an image
_MOST = 100_000  # bytes of a file that are given to whoever looks into layers
_NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void"}  # where NVIDIA's runtime is the default, it adds no driver
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as the kernel and as images call them
_NO_ENGINE_HINT = "start Docker; on Debian 12 and 13 `tools/engine up` sets one up"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the engine says about an image. `size` in bytes; `digest` is the registry's, if it came from one."""

    id: str
    labels: Mapping[str, str]
    env: tuple[str, ...]  # NAME=value
    created: str = ""  # ISO 8601
    platform: str = ""  # linux/amd64
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    size: int
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs in a container, and how. No network unless it asks for one."""

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    gpu: GpuPlan | None = None
    user: str | None = None
    memory: str | None = None  # as `docker run --memory` takes it
    files: Mapping[str, bytes] = field(default_factory=dict)  # absolute path → content, put there before it starts
    folder: tuple[Path, str] | None = None  # (on the host, in the container), writable
    read_only: bool = False  # its root file system, but for /tmp and /dev/shm
    environment: Mapping[str, str] = field(default_factory=dict)


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
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
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
        config = attrs.get("Config") or {}
        digests = [item.split("@")[1] for item in attrs.get("RepoDigests") or ()]
        return ImageFacts(
            id=attrs["Id"],
            labels=config.get("Labels") or {},
            env=tuple(config.get("Env") or ()),
            created=attrs.get("Created") or "",
            platform="/".join(attrs[key] for key in ("Os", "Architecture", "Variant") if attrs.get(key)),
            user=config.get("User") or "",
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            size=attrs["Size"],
            digest=digests[0] if digests else None,
        )

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
        except (DockerException, requests.exceptions.RequestException) as error:
            return _short(error)
        return None

    def registry_trouble(self, reference: str) -> str | None:
        """Have the engine look an image up in its registry, without pulling; returns None, or why it cannot."""
        try:
            self._client.images.get_registry_data(reference)
        except APIError as error:
            return str(error.explanation or error)
        except (DockerException, requests.exceptions.RequestException) as error:
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
        return digest

    # --- what the host is ---

    def offers(self) -> Offers:
        """What there is for GPUs, by the engine's own account and, if it runs here, by this host's device nodes."""
        info = self._info()
        discovered = info.get("DiscoveredDevices") or ()
        cdi = [item["ID"] for item in discovered if item.get("Source") == "cdi"]
        return Offers(
            runtimes=tuple(sorted(info.get("Runtimes") or ())),
            cdi_devices=tuple(cdi or _cdi_files(info.get("CDISpecDirs") or ())),
            device_nodes=info.get("Name") == host_platform.node() and Path("/dev/nvidiactl").exists(),
        )

    def host(self) -> dict[str, Any]:
        """Facts about the engine's machine for a receipt; no names, no addresses."""
        info = self._info()
        return {
            "engine": info.get("ServerVersion"),
            "kernel": info.get("KernelVersion"),
            "os": info.get("OperatingSystem"),
            "architecture": info.get("Architecture"),
            "cpus": info.get("NCPU"),
            "memory": info.get("MemTotal"),
        }

    def platform(self) -> str:
        """What the engine's machine runs without emulation: `linux/amd64`."""
        info = self._info()
        machine = info.get("Architecture", "")
        return f"{info.get('OSType', 'linux')}/{_MACHINES.get(machine, machine)}"

    def maps_users(self) -> bool:
        """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
        options = self._info().get("SecurityOptions") or ()
        return any(word in option for option in options for word in ("rootless", "userns"))

    def root_folder(self) -> str | None:
        """Where the engine keeps its images, if that is on this machine."""
        root = self._info().get("DockerRootDir")
        return root if root and Path(root).is_dir() else None

    def _info(self) -> dict[str, Any]:
        with _explained("cannot ask the engine about itself"):
            return self._client.info()

    # --- containers ---

    @contextmanager
    def container(self, image: str, job: Job) -> Iterator["Container"]:
        """A container that is made, not yet started, and removed when the block ends, whatever happens in it."""
        with _explained(f"cannot make a container of {image[:19]}"):
            made = self._client.containers.create(image, list(job.command), **self._options(job))
        try:
            if job.files:
                with _explained("cannot put the suite into the container"):
                    made.put_archive("/", _tar(job.files))
            yield Container(made)
        finally:
            with suppress(DockerException, requests.exceptions.RequestException):
                made.remove(force=True, v=True)

    def _options(self, job: Job) -> dict[str, Any]:
        options: dict[str, Any] = dict(run_options(job.gpu)) if job.gpu else {}
        options["environment"] = {**options.get("environment", {}), **job.environment}
        if job.entrypoint:
            options["entrypoint"] = list(job.entrypoint)
        if job.memory:
            options |= {"mem_limit": job.memory, "memswap_limit": job.memory}
        if job.folder:
            options["volumes"] = [f"{job.folder[0]}:{job.folder[1]}"]
        if job.read_only:
            options |= {"read_only": True, "tmpfs": {"/tmp": "mode=1777"}}  # noqa: S108 - the container's
        labels = {RUN_LABEL: self.run_id}
        return options | {
            "labels": labels, "network_mode": "none", "shm_size": SHM_SIZE, "user": job.user, "init": False
        }  # fmt: skip

    def layer_files(self, image: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
        """(path, size, its first 100 kB) of every wanted file in every layer, whether a later layer hides it or not.

        The engine writes the whole image out for this: as many bytes of its disk, for half a minute.
        """
        with (
            _explained("cannot read the layers"),
            _Stream(self._client.api.get_image(image)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as whole,
        ):
            for member in whole:
                content = whole.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield from _files_of_layer(content, wanted)

    def read_file(self, image: str, path: str) -> bytes | None:
        """A file of an image, read without starting it; None if it has no plain file there, or a huge one."""
        with self.container(image, Job(command=("none",))) as container:
            return container.read_file(path)

    def output(self, image: str, program: Sequence[str], deadline: float) -> list[str] | None:
        """The lines a program prints in an image, as root and unable to write; None if it is not there or fails."""
        job = Job(command=(), entrypoint=tuple(program), user="0", read_only=True, environment=_NO_GPU)
        with self.container(image, job) as container:
            try:
                lines = list(container.lines(deadline))
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


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Files as a tar that anybody in the container can read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class _Stream(io.RawIOBase):
    """Chunks as a file that is read once; closing it ends the download."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, have = [self._left], len(self._left)
        while size < 0 or have < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        self._left = whole[size:] if size >= 0 else b""
        return whole[:size] if size >= 0 else whole

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close and not self.closed:
            close()
        super().close()


def _files_of_layer(content: Any, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
    """The wanted files of one member of a saved image, if it is a layer: the others are JSON."""
    try:
        layer = tarfile.open(fileobj=content, mode="r|*")  # noqa: SIM115 - not every member is a tar
    except tarfile.ReadError:
        return
    with layer:
        for member in layer:
            path = "/" + member.name.removeprefix("./").lstrip("/")
            if member.isfile() and wanted(path):
                file = layer.extractfile(member)
                yield path, member.size, file.read(_MOST) if file else b""


@dataclass(slots=True)
class Container:
    """One container of ours; `late` once it has been killed at a deadline."""

    _container: Any
    late: bool = False
    _limit: threading.Timer | None = None

    def lines(self, deadline: float) -> Iterator[str]:
        """Start it and give its stdout line by line; it is killed once `deadline` seconds have passed."""
        with _explained("cannot start the container"):
            stream = self._container.attach(stdout=True, stderr=False, stream=True, logs=True)
        try:
            with _explained("cannot start the container"):
                self._container.start()
            buffer = b""
            with _explained("the container cannot be followed"):
                for chunk in self._until(stream, deadline):
                    buffer += chunk
                    *whole, buffer = buffer.split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
            if buffer:
                yield buffer.decode(errors="replace")
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
        with suppress(DockerException, requests.exceptions.RequestException):
            self._container.kill(signal=name)

    def read_file(self, path: str) -> bytes | None:
        """A plain file in it, running or not; None if there is none, or a huge one."""
        with _explained(f"cannot read {path}"):
            try:
                chunks, _ = self._container.get_archive(path)
            except NotFound:
                return None
            with _Stream(chunks) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                member = archive.next()
                file = archive.extractfile(member) if member and member.isfile() else None
                return file.read() if file and member and member.size <= _LARGEST else None

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
        return [line for line in text.splitlines() if line.strip()]


def _cdi_files(folders: Sequence[str]) -> list[str]:
    """What this host's CDI specifications call all GPUs, for engines that read them and do not list them."""
    for path in (path for name in folders for path in Path(name).glob("*")):
        with suppress(OSError):
            text = path.read_text(errors="replace")
            if "nvidia.com/gpu" in text and re.search(r"name\W{1,4}all\b", text):
                return [CDI_ALL]
    return []


# --- whose container is it -----------------------------------------------------------------------------------------


def new_run_id() -> str:
    """This process as `host:pid:start`: enough to tell later whether it still lives."""
    return f"{host_platform.node()}:{os.getpid()}:{_started(os.getpid())}"


def is_alive(run_id: str) -> bool:
    """Whether the process that a run id names may still live; true where that cannot be told."""
    try:
        host, pid, started = run_id.rsplit(":", 2)
    except ValueError:
        return True
    return host != host_platform.node() or _started(int(pid)) == started


def _started(pid: int) -> str:
    """The kernel's start time of a process (proc(5), stat field 22), or "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
