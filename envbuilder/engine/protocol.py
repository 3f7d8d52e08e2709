"""The container engine as the pipeline and the suite use it: `docker_client` implements it, tests have a stand-in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from envbuilder.engine.container_spec import ContainerSpec
from envbuilder.engine.gpu_access import GpuSupport
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.pulse import Pulse


class Container(Protocol):
    """One container; `docker_client.docker_container` documents each method."""

    late: bool  # it was killed at a deadline

    def lines(self, deadline: float) -> Iterator[str]: ...

    def limit(self, seconds: float | None) -> None: ...

    def signal(self, name: str) -> None: ...

    def wait(self) -> tuple[int, bool]: ...

    def errors(self) -> list[str]: ...


class Images(Protocol):
    """An engine's store of images; `docker_client.image_store` documents each method."""

    def image(self, reference: str) -> ImageFacts | None: ...

    def tags(self, repository: str) -> list[str]: ...

    def steps(self, image: str) -> list[tuple[int, str]]: ...

    def read_folder(self, image: str, path: str) -> Mapping[str, bytes]: ...

    def layer_files(
        self, image: str, matches: Callable[[str], bool]
    ) -> Iterator[tuple[str, int, bytes]]: ...

    def pull(self, reference: str, platform: str) -> str | None: ...

    def registry_digest(
        self, reference: str, within: float = ...
    ) -> tuple[str, str | None]: ...

    def import_tar(self, tar: Path, reference: str, changes: Sequence[str]) -> None: ...

    def tag(self, image: str, reference: str) -> None: ...

    def push(self, reference: str) -> str: ...


class Machine(Protocol):
    """The machine that an engine runs on."""

    def gpu_support(self) -> GpuSupport: ...

    def host(self) -> dict[str, Any]: ...

    def has_containerd_store(self) -> bool: ...

    def platform(self) -> str: ...

    def maps_users(self) -> bool: ...


class Engine(Images, Machine, Protocol):
    """A connection to a container engine."""

    pulse: Pulse

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def container(
        self, image: str, spec: ContainerSpec
    ) -> AbstractContextManager[Container]: ...

    def sweep(self) -> int: ...
