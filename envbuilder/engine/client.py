"""The Docker SDK, behind the few verbs this tool needs. The one module that imports `docker`; it is imported late.

Every container it makes carries a label with this run's id and is removed by the context manager that made it, also
after Ctrl-C; `sweep` removes what a killed run left behind.
"""

import os
import platform as host_platform
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

import docker
from envbuilder.errors import EngineError
from envbuilder.gpu import CDI_ALL, GpuPlan, Offers, find_gpu_failure, run_options

RUN_LABEL = "dev.envbuilder.run"
SHM_SIZE = "1g"  # Docker's 64 MB break DataLoader workers (SIGBUS)
_STOP_SECONDS = 5
_NO_ENGINE_HINT = "start Docker; on Debian 12 and 13 `tools/engine up` sets one up"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the engine says about an image. `size` in bytes; `digest` is the registry's, if it came from one."""

    id: str
    labels: Mapping[str, str]
    env: tuple[str, ...]  # NAME=value
    size: int
    digest: str | None


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
                f"this image has no acceptance suite: {text}", hint="build it: `envbuilder build`"
            ) from error
        full = "the disk is full: " if "no space left" in text else ""
        raise EngineError(f"{doing}: {full}{text}") from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineError(f"{doing}: no Docker engine answers ({_short(error)})", hint=_NO_ENGINE_HINT) from error


def _short(error: BaseException) -> str:
    return str(error).split("(Caused by")[0].strip().rstrip("(").strip()[:200]


class Engine:
    """A connection to a container engine, made on first use from the usual `DOCKER_*` variables."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        with _explained("cannot reach the container engine"):
            self._client = docker.from_env(timeout=120)
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
            except ImageNotFound:
                return None
        digests = [item.split("@")[1] for item in attrs.get("RepoDigests") or ()]
        return ImageFacts(
            id=attrs["Id"],
            labels=attrs["Config"].get("Labels") or {},
            env=tuple(attrs["Config"].get("Env") or ()),
            size=attrs["Size"],
            digest=digests[0] if digests else None,
        )

    def history(self, image: str) -> list[str]:
        """The commands that made the image's layers, as anybody who has it can read them."""
        with _explained("cannot read the history"):
            return [entry.get("CreatedBy", "") for entry in self._client.images.get(image).history()]

    def pull(self, reference: str, platform: str) -> str | None:
        """Pull from a registry; returns None, or why it could not be had."""
        try:
            self._client.images.pull(reference, platform=platform)
        except (APIError, ImageNotFound) as error:
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
                    raise EngineError(f"cannot push {reference}: {line['error']}", hint="`docker login`, then again")
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

    def root_folder(self) -> str | None:
        """Where the engine keeps its images, if that is on this machine."""
        root = self._info().get("DockerRootDir")
        return root if root and Path(root).is_dir() else None

    def _info(self) -> dict[str, Any]:
        with _explained("cannot ask the engine about itself"):
            return self._client.info()

    # --- containers ---

    @contextmanager
    def container(
        self, image: str, command: Sequence[str], *, gpu: GpuPlan, network: bool = False, user: str | None = None
    ) -> Iterator["Container"]:
        """A container that is made, not yet started, and removed when the block ends, whatever happens in it."""
        options = dict(run_options(gpu))
        with _explained(f"cannot make a container of {image[:19]}"):
            made = self._client.containers.create(
                image,
                list(command),
                labels={RUN_LABEL: self.run_id},
                network_mode="bridge" if network else "none",
                shm_size=SHM_SIZE,
                user=user,
                init=False,
                **options,
            )
        try:
            yield Container(made)
        finally:
            with suppress(DockerException, requests.exceptions.RequestException):
                made.remove(force=True)

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
    """One container of ours; `late` once it has been killed at its deadline."""

    _container: Any
    late: bool = False

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

        def kill() -> None:
            self.late = True
            with suppress(DockerException, requests.exceptions.RequestException):
                self._container.kill()

        timer = threading.Timer(deadline, kill)
        timer.daemon = True
        timer.start()
        try:
            yield from chunks
        finally:
            timer.cancel()

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
