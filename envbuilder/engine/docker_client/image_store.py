"""The engine's images: inspect, pull, import, tag, push, and read their layers."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound, NullResource
from docker.utils import parse_repository_tag

from envbuilder.engine import archive
from envbuilder.engine.docker_client.connection import DockerConnection
from envbuilder.engine.docker_client.sdk_errors import (
    CONNECTION_ERRORS,
    api_message,
    connection_message,
    docker_errors,
)
from envbuilder.engine.image import ImageFacts, facts_of
from envbuilder.engine.registry import refusal_hint
from envbuilder.errors import EngineError

_REGISTRY_SECONDS = (
    60.0  # in which a registry must have been found, or it does not count as reachable
)
_PUSHED = re.compile(r"\bdigest: (sha256:[0-9a-f]{64}) size:")
_IDLE_SECONDS = 600.0  # how long a registry may send nothing


class DockerImages(DockerConnection):
    """The images in an engine's store, and the registries that it reaches."""

    def image(self, reference: str) -> ImageFacts | None:
        """The image of that name or id in the engine's store, or None."""
        with docker_errors(f"cannot inspect {reference}"):
            try:
                image = self.pulse.ask(lambda: self._client.images.get(reference))
            except (ImageNotFound, NullResource):
                return None
        return facts_of(image.attrs)

    def tags(self, repository: str) -> list[str]:
        """The names with a tag of that repository's images in the engine's store, sorted."""
        with docker_errors("cannot list the images"):
            images = self.pulse.ask(
                lambda: self._client.api.images(name=repository, all=False)
            )
        names: set[str] = set()
        for image in images:
            names.update(image.get("RepoTags") or ())
        return sorted(name for name in names if name.startswith(f"{repository}:"))

    def steps(self, image: str) -> list[tuple[int, str]]:
        """(bytes added, command) of each step that made the image, the first step first."""
        with docker_errors("cannot read the history"):
            newest_first = self.pulse.ask(
                lambda: self._client.images.get(image).history()
            )
        steps = []
        for entry in reversed(newest_first):
            size = entry.get("Size")
            # An imported layer has no command, but a comment.
            command = entry.get("CreatedBy") or entry.get("Comment")
            steps.append((size or 0, command or ""))
        return steps

    def layer_files(
        self, image: str, matches: Callable[[str], bool]
    ) -> Iterator[tuple[str, int, bytes]]:
        """(path, size, its first 100 kB) of every matching file in every layer, also of those a later layer hides.

        The engine writes the whole image out for this: as many bytes of its disk, for half a minute.
        """
        with docker_errors("cannot read the layers"):
            chunks = self.pulse.ask(partial(self._client.api.get_image, image))
            yield from archive.files_of_layers(self.pulse.follow(chunks), matches)

    def pull(self, reference: str, platform: str) -> str | None:
        """Pull from a registry; returns None, or why that failed."""
        name, tag = parse_repository_tag(reference)
        pull = partial(
            self._client.api.pull,
            name,
            tag or "latest",
            platform=platform,
            stream=True,
            decode=True,
        )
        try:
            for message in self._transfer(pull, within=_REGISTRY_SECONDS):
                if "error" in message:
                    return str(message["error"])
        except APIError as error:
            return api_message(error)
        except CONNECTION_ERRORS as error:
            return connection_message(error)
        except TimeoutError as error:
            return f"the registry gives {error}"
        return None

    def registry_failure(self, reference: str) -> str | None:
        """Have the engine look an image up in its registry, without pulling; returns None, or why that failed."""
        _, failure = self.registry_digest(reference)
        return failure

    def registry_digest(
        self, reference: str, within: float = _REGISTRY_SECONDS
    ) -> tuple[str, str | None]:
        """The digest that a registry gives a tag now, and None; or "" and why the engine cannot learn it.

        `within`: the seconds that this may take.
        """
        look = partial(self._client.images.get_registry_data, reference)
        try:
            data = self.pulse.ask(look, within=within)
        except APIError as error:
            return "", api_message(error)
        except CONNECTION_ERRORS as error:
            return "", connection_message(error)
        except TimeoutError as error:
            return "", f"the registry gives {error}"
        return str(data.id), None

    def import_tar(self, tar: Path, reference: str, changes: Sequence[str]) -> None:
        """Make an image from the tar of a root file system; `changes` are Dockerfile instructions."""
        name, tag = reference.rsplit(":", 1)
        import_file = partial(
            self._client.api.import_image_from_file,
            str(tar),
            repository=name,
            tag=tag,
            changes=list(changes),
        )
        with docker_errors(f"cannot import {reference}"):
            self.pulse.ask(import_file)

    def tag(self, image: str, reference: str) -> None:
        """Give an image a name, moving it from whichever image had it."""
        name, _, tag = reference.rpartition(":")
        with docker_errors(f"cannot tag {reference}"):
            self.pulse.ask(lambda: self._client.images.get(image).tag(name, tag))

    def push(self, reference: str) -> str:
        """Push a tag; returns the digest that the registry gave it."""
        name, _, tag = reference.rpartition(":")
        push = partial(self._client.api.push, name, tag=tag, stream=True, decode=True)
        digest = ""
        with docker_errors(f"cannot push {reference}"):
            for message in self._transfer(push):
                if "error" in message:
                    reason = message["error"]
                    raise EngineError(
                        f"cannot push {reference}: {reason}",
                        hint=refusal_hint(reason, name),
                    )
                digest = _digest_in(message) or digest
        if not digest:
            raise EngineError(
                f"cannot push {reference}: the engine gave no digest",
                hint=refusal_hint("", name),
            )
        return digest

    def _transfer(
        self, start: Callable[[], Iterator[Any]], within: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """The messages of a pull or push. Raises `EngineError` if the registry sends nothing for too long.

        `within`: seconds for the first message, which comes once a registry has been reached; else `TimeoutError`.
        """
        idle = _Idle("the registry")
        messages = self.pulse.ask(start, within=within)
        for message in self.pulse.follow(messages, idle.check):
            idle.reset()
            yield message


def _digest_in(message: Mapping[str, Any]) -> str:
    """The digest of a pushed tag, if a message has it: an engine with containerd's store only says it as text."""
    result = message.get("aux") or {}
    if "Digest" in result:
        return str(result["Digest"])
    said = _PUSHED.search(str(message.get("status") or ""))
    return said[1] if said else ""


class _Idle:
    """How long nothing has come from somebody behind the engine, which itself answers."""

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self.reset()

    def reset(self) -> None:
        self._last = time.monotonic()

    def check(self) -> None:
        if time.monotonic() - self._last > _IDLE_SECONDS:
            raise EngineError(
                f"{self._sender} has sent nothing for {_IDLE_SECONDS:.0f} s",
                hint="check the network and the proxy of the engine, then run the same command",
            )
