"""An image on what the official Python image is, from a real registry: pull, lock, build, suite, Compose, a moved tag.

The stand-in (`slim_image.py`) is pulled by a name with the registry in it, so that this machine's engine, which has the
layers' downloads, can build on it. What the name `python:3.10-slim-bookworm` does: `test_default_base.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock

from . import slim_image
from .engine import docker, envbuilder
from .registry import Registry, registry
from .test_compose import TINY, Site, surroundings

pytestmark = pytest.mark.exhaustive
REPOSITORY = "library/python"
TAG = "3.10-slim-bookworm"
STACK = "cu117-torch2.0.1-py3.10-debian12"


@dataclass(frozen=True)
class Slim:
    """A registry with the stand-in, which no engine has."""

    registry: Registry
    tar: Path
    version: str

    @property
    def name(self) -> str:
        return f"{self.registry.host}/{REPOSITORY}:{TAG}"

    def publish(self, *more: str) -> str:
        """Move the tag to the stand-in with these further instructions. Returns the digest."""
        words = []
        for line in (*slim_image.changes(self.version), *more):
            words += ["--change", line]
        docker("import", *words, str(self.tar), self.name)
        docker("push", "--quiet", self.name)
        docker("image", "rm", self.name)
        return self.registry.link(REPOSITORY, TAG)


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slim]:
    python = slim_image.find_python()
    if python is None:
        pytest.skip("there is no CPython 3.10 of pyenv's to make the stand-in from")
    tar = tmp_path_factory.mktemp("slim") / "slim.tar"
    slim_image.make_tar(tar, python)
    with registry() as one:
        yield Slim(one, tar, python.name)


def test_stand_in_is_like_the_official_image(slim: Slim) -> None:
    slim.publish()
    docker("pull", "--quiet", slim.name)
    look = (
        "for name in python3 python pip gcc g++ cc; do command -v $name; done; "
        "readlink /usr/local/bin/python3; dpkg -l | grep -c '^ii'; "
        "dpkg -l python3 2>/dev/null | grep -c '^ii'; cat /etc/debian_version; "
        "python -c 'import ssl, sqlite3, ctypes, lzma, bz2, zlib, readline, uuid'"
    )
    try:
        seen = docker("run", "--rm", slim.name, "sh", "-c", look, check=False).stdout
        config = json.loads(docker("image", "inspect", slim.name).stdout)[0]["Config"]
    finally:
        docker("image", "rm", slim.name)
    lines = seen.split()
    assert lines[:4] == [
        "/usr/local/bin/python3", "/usr/local/bin/python", "/usr/local/bin/pip", "python3.10",
    ]  # fmt: skip
    packages, of_python, release = lines[4:]
    assert int(packages) > 80
    assert (of_python, release[:3]) == ("0", "12.")
    assert config["Cmd"] == ["python3"]
    assert f"PYTHON_VERSION={slim.version}" in config["Env"]


def test_image_on_the_slim_base_passes_and_trains(slim: Slim, tmp_path: Path) -> None:
    first = slim.publish()
    site = Site(tmp_path, surroundings(TRAIN_IMAGE=f"slim-test:{uuid4().hex[:8]}"))
    tag = f"{site.env['TRAIN_IMAGE']}-accepted"
    request = ["--cuda", "11.7", "--python", "3.10", "--base", slim.name]
    answer = envbuilder(
        "init", *request, "--os", "debian 12", "--target", "compose", cwd=tmp_path
    )
    assert answer.code == 0, answer.err
    folder = tmp_path / "docker/images" / f"{STACK}-custom"  # by the name of a mirror
    lock = parse_lock((folder / LOCK_FILE).read_text(), source=STACK)
    assert lock.base_digest == first
    assert f"ARG BASE={slim.name}@{first}\n" in (folder / "Dockerfile").read_text()

    # The tag moves on: the lock does not.
    second = slim.publish("LABEL moved=yes")
    assert second != first
    try:
        built = envbuilder("build", "--tag", tag, "--json", cwd=tmp_path)
        assert built.code == 0, built.err
        assert built.json()["receipt"]["verdict"] == "passed"
        code, said = site.run("build", "train")
        assert code == 0, said
        code, said = site.run("up", "--exit-code-from", "train", "train", TRAIN_OPTIONS=TINY)  # fmt: skip
        assert code == 0, said
        labels = docker(
            "image", "inspect", "--format", "{{json .Config.Labels}}", tag
        ).stdout
        assert "moved" not in json.loads(labels)

        renewed = envbuilder("lock", "--upgrade-base", cwd=tmp_path)
        assert f"{slim.name}: {first} → {second}\n" in renewed.err
        assert envbuilder("render", cwd=tmp_path).code == 0
        assert f"ARG BASE={slim.name}@{second}\n" in (folder / "Dockerfile").read_text()
    finally:
        site.run("--profile", "*", "down", "--volumes", "--timeout", "1")
        images = (tag, site.env["TRAIN_IMAGE"], f"{slim.name}@{first}")
        for image in images:
            docker("image", "rm", image, check=False)
