"""The connection to a Docker engine, made from the usual `DOCKER_*` variables."""

from concurrent.futures import Future
from functools import partial
from typing import Self

import requests

import docker
from envbuilder.engine.background import in_background
from envbuilder.engine.docker_client.sdk_errors import docker_errors
from envbuilder.engine.pulse import Pulse

SILENCE = 60.0  # seconds without an answer to a ping after which an engine is given up
_PING_SECONDS = 10


class DockerConnection:
    """A connection to a container engine, and a pulse that tells whether it still answers."""

    def __init__(
        self, run_id: str, *, timeout: int = 120, silence: float = SILENCE
    ) -> None:
        self.run_id = run_id
        limit = min(silence, timeout)
        connecting: Future[docker.DockerClient] = Future()
        with docker_errors("cannot reach the container engine"):
            in_background(partial(_connect, timeout), connecting)
            try:
                self._client = connecting.result(limit)
            except TimeoutError as error:
                raise requests.exceptions.Timeout(
                    f"nothing within {limit:.0f} s"
                ) from error
        ping = partial(_ping_once, self._client.api.api_version)
        self.pulse = Pulse(ping, limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pulse.close()
        self._client.close()


def _connect(timeout: int) -> docker.DockerClient:
    client = docker.from_env(timeout=timeout)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


def _ping_once(version: str) -> None:
    """Ping the engine on a separate connection: other requests may keep theirs busy."""
    client = docker.from_env(version=version, timeout=_PING_SECONDS)
    try:
        client.ping()
    finally:
        client.close()
