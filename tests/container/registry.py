"""A registry of a test's own: Debian's docker-registry as a process on loopback, its files in a temporary folder."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import wait_until

from .private_engine import PrivateEngine

STOP_SECONDS = 10
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
USERS = "test:$2b$04$gC6iRABu8xgFKPSmDvOK9.UOIKOE/jiJODQ6HI.26CnCjiTg/S.VG\n"  # the password is sesame


@dataclass(frozen=True)
class Registry:
    """One that answers at `host`."""

    host: str
    folder: Path

    def ask(self, path: str) -> Any:
        """What it answers, as JSON; only of a registry that shares this machine's network."""
        headers = {"Accept": ", ".join(MANIFESTS)}
        request = urllib.request.Request(
            f"http://{self.host}/v2/{path}", headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def link(self, repository: str, tag: str) -> str:
        """The digest that a tag has there, read from its files."""
        tags = (
            self.folder
            / "docker/registry/v2/repositories"
            / repository
            / "_manifests/tags"
        )
        return (tags / tag / "current/link").read_text()


@contextmanager
def registry(
    *, beside: PrivateEngine | None = None, users: str = ""
) -> Iterator[Registry]:
    """Start one and end it. `beside`: on that engine's loopback, not this machine's; `users`: an htpasswd file."""
    program = shutil.which(
        "docker-registry", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    assert program, "`tools/registry` fetches it"
    enter = ["nsenter", f"--net=/proc/{beside.pid}/ns/net"] if beside else []
    port = 5000 if beside else free_port()
    with tempfile.TemporaryDirectory(prefix="registry-") as name:
        folder = Path(name)
        (folder / "users").write_text(users)
        auth = (
            {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "users")}}}
            if users
            else {}
        )
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"},
            **auth,
        }
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*enter, program, "serve", str(folder / "config.yml")],
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin"},
            )
        try:
            _wait_for(process, enter, port, folder / "log")
            yield Registry(f"127.0.0.1:{port}", folder / "data")
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _wait_for(
    process: "subprocess.Popen[bytes]", enter: list[str], port: int, log: Path
) -> None:
    look = [
        *enter,
        sys.executable,
        "-c",
        f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
    ]

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(log.read_text()[-2000:])
        return subprocess.run(look, capture_output=True, check=False).returncode == 0

    wait_until(answers, lambda: log.read_text()[-2000:])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
