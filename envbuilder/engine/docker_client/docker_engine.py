"""The engine as this tool uses it: its machine, its containers, and the sweep of what killed runs left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.client import CONFLICT, NOT_FOUND
from typing import Any

from docker.errors import APIError

from envbuilder.engine import archive, info
from envbuilder.engine.container_spec import (
    RUN_LABEL,
    ContainerSpec,
    create_options,
    suite_mount,
    volume_filler_options,
)
from envbuilder.engine.docker_client.docker_container import DockerContainer
from envbuilder.engine.docker_client.image_store import DockerImages
from envbuilder.engine.docker_client.lifetime import removed_at_the_end
from envbuilder.engine.docker_client.sdk_errors import docker_errors
from envbuilder.engine.gpu_access import GpuSupport
from envbuilder.engine.output import TooMuchOutput
from envbuilder.engine.run_id import is_alive
from envbuilder.errors import EngineError

_NEVER_STARTED = ContainerSpec(
    command=("none",)
)  # of a container whose files are only read


class DockerEngine(DockerImages):
    """A connection to a container engine."""

    # --- the engine's machine ---

    def gpu_support(self) -> GpuSupport:
        """How its containers can get GPUs."""
        return info.gpu_support(self._info())

    def host(self) -> dict[str, Any]:
        """Facts about the engine's machine for a receipt; no names, no addresses."""
        return info.facts(self._info())

    def has_containerd_store(self) -> bool:
        """Whether its store keeps images with any compression, and attestations next to them."""
        return info.has_containerd_store(self._info())

    def platform(self) -> str:
        """What the engine's machine runs without emulation: `linux/amd64`."""
        return info.platform(self._info())

    def maps_users(self) -> bool:
        """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
        return info.maps_users(self._info())

    def _info(self) -> dict[str, Any]:
        with docker_errors("cannot inspect the engine"):
            return self.pulse.ask(self._client.info)

    # --- containers ---

    @contextmanager
    def container(self, image: str, spec: ContainerSpec) -> Iterator[DockerContainer]:
        """A container that is made, not yet started, and removed when the block ends, whatever happens in it.

        Its files are in a volume, which is removed with it: a read-only root takes none, and a remote engine has no
        folder of ours. A container that never starts fills the volume; the container itself can only read it.
        """
        action = f"cannot make a container of {image[:19]}"
        memory = info.memory_to_give(self._info())
        create = partial(self._client.containers.create, image, list(spec.command))
        make = partial(removed_at_the_end, self.pulse, action, v=True)
        options = create_options(spec, self.run_id, memory)
        with ExitStack() as stack:
            mounts = []
            if spec.files:
                volume = stack.enter_context(self._volume())
                filler_options = volume_filler_options(volume.name, self.run_id)
                with make(partial(create, **filler_options)) as filler:
                    self._fill(filler, spec.files)
                mounts = [suite_mount(volume.name, read_only=True)]
            create_with_files = partial(create, mounts=mounts, **options)
            made = stack.enter_context(make(create_with_files))
            yield DockerContainer(made, self.pulse)

    def _fill(self, container: Any, files: Mapping[str, bytes]) -> None:
        tar = archive.pack(files)
        with docker_errors("cannot put the suite into the container"):
            self.pulse.ask(partial(container.put_archive, "/", tar))

    def _volume(self) -> AbstractContextManager[Any]:
        """An empty volume with this run's label, removed when the block ends."""
        create = partial(self._client.volumes.create, labels={RUN_LABEL: self.run_id})
        return removed_at_the_end(self.pulse, "cannot make a volume", create)

    def read_file(self, image: str, path: str) -> bytes | None:
        """A file of an image, read without starting it; None if it has no plain file there, or a huge one."""
        with self.container(image, _NEVER_STARTED) as container:
            return container.read_file(path)

    def read_folder(self, image: str, path: str) -> Mapping[str, bytes]:
        """The plain files below a folder of an image, read without starting it: path below it → content."""
        with self.container(image, _NEVER_STARTED) as container:
            return container.read_folder(path)

    def output(
        self, image: str, program: Sequence[str], deadline: float
    ) -> list[str] | None:
        """The lines a program prints in an image, as root and unable to write; None if it does not exist or fails."""
        spec = ContainerSpec(
            command=(),
            entrypoint=tuple(program),
            user="0",
            read_only=True,
            capabilities=("DAC_READ_SEARCH",),
        )
        with self.container(image, spec) as container:
            try:
                lines = list(container.lines(deadline))
            except TooMuchOutput:
                return None
            except EngineError as error:
                # The engine's own refusal means that the image has no such program; anything else is a failure.
                if isinstance(error.__cause__, APIError):
                    return None
                raise
            code, _ = container.wait()
            return lines if code == 0 else None

    # --- what killed runs left ---

    def sweep(self) -> int:
        """Remove the containers and volumes of runs whose process is gone; returns how many.

        Their label is `host:pid:start`.
        """
        labelled: dict[str, Any] = {"label": RUN_LABEL}
        removed = 0
        with docker_errors("cannot remove what earlier runs left"):
            # A container that is removed while the list is made would be an error without `ignore_removed`.
            containers = partial(
                self._client.containers.list,
                all=True,
                filters=labelled,
                ignore_removed=True,
            )
            for container in self.pulse.ask(containers):
                if not is_alive(container.labels[RUN_LABEL]):
                    removed += self._remove(
                        partial(container.remove, force=True, v=True)
                    )
            volumes = partial(self._client.volumes.list, filters=labelled)
            for volume in self.pulse.ask(volumes):
                labels = volume.attrs["Labels"]
                if not is_alive(labels[RUN_LABEL]):
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
