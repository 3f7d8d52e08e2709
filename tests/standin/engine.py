"""A stand-in for a container engine (`engine.protocol`): it starts nothing and records requests in order.

The output and the end of a container come from a script: a generator function that gets the container.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from envbuilder.engine.container_spec import ContainerSpec
from envbuilder.engine.gpu_access import GpuSupport
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.output import lines_of
from envbuilder.engine.pulse import Pulse
from envbuilder.errors import EngineError

from .suite_output import FILES, IMAGE, passing

DIGEST = "sha256:" + "d" * 64


@dataclass
class StandInContainer:
    """A container of the stand-in; the script sets how it ends."""

    job: ContainerSpec
    script: "Script"
    late: bool = False
    code: int = 0
    out_of_memory: bool = False
    said_last: list[str] = field(default_factory=list)  # on stderr
    deadline: float = 0
    limits: list[float | None] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)

    def lines(self, deadline: float) -> Iterator[str]:
        self.deadline = deadline
        yield from lines_of(
            f"{line}\n".encode(errors="surrogatepass") for line in self.script(self)
        )

    def limit(self, seconds: float | None) -> None:
        self.limits.append(seconds)

    def signal(self, name: str) -> None:
        self.signals.append(name)

    def wait(self) -> tuple[int, bool]:
        return self.code, self.out_of_memory

    def errors(self) -> list[str]:
        return self.said_last


Script = Callable[[StandInContainer], Iterator[str]]


def says(
    lines: Sequence[str],
    code: int = 0,
    *,
    out_of_memory: bool = False,
    errors: Sequence[str] = (),
) -> Script:
    """The container writes these lines and ends so."""

    def script(container: StandInContainer) -> Iterator[str]:
        container.code, container.out_of_memory, container.said_last = (
            code,
            out_of_memory,
            list(errors),
        )
        yield from lines

    return script


def breaks(lines: Sequence[str], error: BaseException) -> Script:
    """The container writes these lines, then whoever follows it meets an error."""

    def script(container: StandInContainer) -> Iterator[str]:
        yield from lines
        raise error

    return script


def writes_its_files(container: StandInContainer) -> Iterator[str]:
    """The training job as any user: a file in the folder that it was given."""
    assert container.job.folder is not None
    folder = container.job.folder[0]
    written = folder / "metrics.json"
    written.write_text("{}")
    os.chown(
        written, folder.stat().st_uid, folder.stat().st_gid
    )  # it runs as that user
    yield "epoch 1"


def obeys_sigterm(container: StandInContainer) -> Iterator[str]:
    """The training job runs until it is stopped."""
    yield "device: cpu, 2 threads"
    container.code = 130 if container.signals == ["TERM"] else 0
    yield "interrupted"


def kind_of(job: ContainerSpec) -> str:
    """Which of the suite's containers a job is for."""
    if job.folder:
        return "any_user"
    return "suite" if job.files else "signals"


@dataclass
class StandInEngine:
    """Images by name and id, and a script for each kind of container."""

    images: dict[str, ImageFacts] = field(default_factory=lambda: {IMAGE.id: IMAGE})
    scripts: dict[str, Script] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(
        default_factory=lambda: FILES
    )  # of /opt/envbuilder
    layers: Sequence[tuple[str, int, bytes]] = ()
    history: Sequence[str] = ("COPY payload",)
    registry: Mapping[str, ImageFacts] = field(
        default_factory=dict
    )  # what can be pulled
    machine: str = "linux/amd64"
    remaps: bool = False
    containerd: bool = False  # the kind of its image store
    cpus: int = 2
    journal: list[str] = field(default_factory=list)
    jobs: list[ContainerSpec] = field(default_factory=list)
    containers: list[StandInContainer] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(
        default_factory=dict
    )  # verb → what is done before it is noted
    pulse: Pulse = field(
        default_factory=lambda: Pulse(lambda: None, 60)
    )  # it always answers

    def __post_init__(self) -> None:
        given = self.scripts
        self.scripts = {
            "suite": says(passing()),
            "any_user": writes_its_files,
            "signals": obeys_sigterm,
            **given,
        }

    def __enter__(self) -> Self:
        self._note("connect")
        return self

    def __exit__(self, *_: object) -> None:
        self._note("close")

    def _note(self, verb: str, *words: str) -> None:
        self.before.get(verb, lambda: None)()
        self.journal.append(" ".join([verb, *words]))

    def asked(self, *verbs: str) -> list[str]:
        """The part of the journal that begins with one of these words."""
        return [line for line in self.journal if line.split()[0] in verbs]

    # --- images ---

    def image(self, reference: str) -> ImageFacts | None:
        return self.images.get(reference)

    def tags(self, repository: str) -> list[str]:
        return sorted(name for name in self.images if name.startswith(f"{repository}:"))

    def steps(self, image: str) -> list[tuple[int, str]]:
        return [(1, text) for text in self.history]

    def read_folder(self, image: str, path: str) -> Mapping[str, bytes]:
        assert path == "/opt/envbuilder"
        return self.files

    def layer_files(
        self, image: str, wanted: Callable[[str], bool]
    ) -> Iterator[tuple[str, int, bytes]]:
        for path, size, content in self.layers:
            if wanted(path):
                yield path, size, content

    def pull(self, reference: str, platform: str) -> str | None:
        self._note("pull", reference, platform)
        if reference not in self.registry:
            return "no registry answers"
        self.images[reference] = self.registry[reference]
        return None

    def registry_digest(
        self, reference: str, within: float = 60.0
    ) -> tuple[str, str | None]:
        self._note("registry_digest", reference)
        image = self.registry.get(reference)
        if image is None or image.digest is None:
            return "", "no registry answers"
        return image.digest, None

    def import_tar(self, tar: Path, reference: str, changes: Sequence[str]) -> None:
        self._note("import", reference, tar.read_text().strip())
        labels = {}
        for line in changes:
            if line.startswith("LABEL "):
                name, value = line.removeprefix("LABEL ").split("=", 1)
                labels[name] = value.strip('"')
        self.images[reference] = replace(IMAGE, id="sha256:" + "b" * 64, labels=labels)

    def tag(self, image: str, reference: str) -> None:
        self._note("tag", image, reference)
        self.images[reference] = self.images[image]

    def push(self, reference: str) -> str:
        self._note("push", reference)
        if reference not in self.images:
            raise EngineError(f"cannot push {reference}: there is none")
        return DIGEST

    # --- the engine's machine ---

    def gpu_support(self) -> GpuSupport:
        return GpuSupport()

    def host(self) -> dict[str, Any]:
        return {"engine": "27.0", "cpus": self.cpus}

    def has_containerd_store(self) -> bool:
        return self.containerd

    def platform(self) -> str:
        return self.machine

    def maps_users(self) -> bool:
        return self.remaps

    # --- containers ---

    @contextmanager
    def container(self, image: str, job: ContainerSpec) -> Iterator[StandInContainer]:
        kind = kind_of(job)
        self._note("create", kind)
        self.jobs.append(job)
        made = StandInContainer(job, self.scripts[kind])
        self.containers.append(made)
        try:
            yield made
        finally:
            self._note("remove", kind)

    def sweep(self) -> int:
        self._note("sweep")
        return 0
