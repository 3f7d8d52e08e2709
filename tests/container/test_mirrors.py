"""Mirrors that are asked for real: Debian's packages through a server on this machine, images from its registry."""

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import passthrough
import pytest

from envbuilder import catalog, pipeline
from envbuilder.console import Console
from envbuilder.engine import bootstrap, build_process
from envbuilder.engine.buildx import BuildOptions
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.run_id import new_run_id
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import BASE_BOOTSTRAP, Request
from envbuilder.network import Network
from envbuilder.render import context as contexts
from envbuilder.render import context_folder
from envbuilder.resolve import resolve

from .engine import docker, envbuilder
from .registry import registry

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker/images/cu117-torch2.0.1-py3.10-debian12"
CANARY = "kestrel-9c41"
# The first line of sources.list in the newer form, which the official Python images have.
DEB822 = r"""RUN sed -n '1s,^deb \([^ ]*\) \(.*\) main$,Types: deb\nURIs: \1\nSuites: \2\nComponents: main,p' \
    /etc/apt/sources.list >/etc/apt/sources.list.d/debian.sources && rm /etc/apt/sources.list
"""


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """A Debian; it comes with the image under test, which takes minutes to build."""
    name = "envbuilder-base:debian11"
    if docker("image", "inspect", name, check=False).returncode != 0:
        request.getfixturevalue("image")
    return name


@pytest.fixture
def mirror() -> Iterator[tuple[str, list[str]]]:
    """A mirror of Debian that steps of a build can reach, with a password."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    inspect = docker("network", "inspect", "bridge", "--format", form)
    gateway = inspect.stdout.strip()
    with passthrough.serve(passthrough.archives_of_apt(), gateway) as (address, seen):
        yield address.replace("//", f"//me:{CANARY}@") + "/debian", seen


def build(folder: Path, text: str, network: Network, **arguments: str) -> str:
    """The id of an image; none of its steps comes from a cache."""
    context = folder / "ctx"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    built = build_process.build(
        context,
        dockerfile="Dockerfile",
        log=folder / "build.log",
        options=BuildOptions(no_cache=True),
        network=network,
        environ=dict(os.environ),
        on_change=lambda progress: None,
        arguments=arguments,
    )
    return built.image


def apt_steps(folder: Path) -> str:
    """The steps of a Dockerfile that install packages, of small ones: those of the base, and the user's own."""
    lock = parse_lock((PRESET / LOCK_FILE).read_text(), source=str(PRESET))
    lock = replace(lock, stack=replace(lock.stack, apt=("sl",)))
    context_folder.write_context(contexts.render_context(lock), folder / "ctx")
    text = (folder / "ctx/images" / lock.stack.name / "Dockerfile").read_text()
    pattern = r"(?m)^RUN --mount=type=bind,source=\S*/system,target=/system \\\n(?:.*\\\n)*.*\n"
    steps = re.findall(pattern, text)
    assert len(steps) == 2
    words = "ca-certificates fonts-wqy-microhei g++ libjemalloc2"
    assert words in steps[0]
    return (
        "".join(steps).replace(words, "hello").replace("id=apt-bookworm", "id=apt-emul")
    )


@pytest.mark.network
@pytest.mark.parametrize(
    "form", ["deb822", pytest.param("list", marks=pytest.mark.exhaustive)]
)
def test_packages_of_an_image_come_from_the_mirror(
    tmp_path: Path, base: str, mirror: tuple[str, list[str]], form: str
) -> None:
    address, seen = mirror
    steps = apt_steps(tmp_path)
    before = DEB822 if form == "deb822" else ""
    network = Network(apt_mirror=address)
    image = build(tmp_path, f"FROM {base}\n{before}{steps}", network)
    try:
        for package in ("h/hello", "s/sl"):
            assert any(
                path.startswith(f"/debian/pool/main/{package}/") for path in seen
            )
        suites = {path.split("/dists/")[0] for path in seen if "/dists/" in path}
        expected = {"/debian"} if form == "deb822" else {"/debian", "/debian-security"}
        assert suites == expected
        look = "dpkg -s hello sl; grep -r deb /etc/apt; ls /tmp; cat /etc/apt/sources.list* /etc/apt/sources.list.d/*"
        there = docker(
            "run", "--rm", "--network", "none", image, "sh", "-c", look, check=False
        )
        assert there.stdout.count("Status: install ok installed") == 2
        assert "debian.org/debian" in there.stdout
        with DockerEngine(new_run_id()) as engine:
            files = engine.layer_files(image, lambda path: True)
            leaks = [path for path, _, content in files if CANARY.encode() in content]
            history = str(engine.steps(image))
        assert leaks == []
        assert (
            CANARY not in history + there.stdout + (tmp_path / "build.log").read_text()
        )
    finally:
        docker("rmi", "--force", image, check=False)


@pytest.mark.network
@pytest.mark.exhaustive
def test_bootstrapped_base_comes_from_the_mirror(tmp_path: Path) -> None:
    base = resolve(Request(base=BASE_BOOTSTRAP), catalog.load()).base
    small = replace(base, system_packages=("ca-certificates",))
    tar = tmp_path / "base.tar"
    with passthrough.serve(passthrough.archives_of_apt()) as (address, seen):
        mirror = address.replace("//", f"//me:{CANARY}@") + "/debian"
        network = Network(apt_mirror=mirror)
        env = bootstrap.environment(os.environ, tmp_path, network)
        argv = bootstrap.bootstrap_argv(small, tar, network)
        assert CANARY not in " ".join(argv)
        subprocess.run(argv, env=env, check=True, capture_output=True)
    assert any("/debian/pool/main/c/ca-certificates/" in path for path in seen)
    assert any(path.startswith("/debian-security/dists/") for path in seen)
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        sources = archive.extractfile("./etc/apt/sources.list")
        assert sources
        assert sources.read().count(b"debian.org/debian") == 3
    assert CANARY.encode() not in tar.read_bytes()
    assert "./etc/apt/kept" not in names
    assert "./etc/apt/apt.conf.d/99mirror" not in names


def test_base_of_a_stack_comes_from_the_registry_s_mirror(tmp_path: Path) -> None:
    lock = parse_lock((PRESET / LOCK_FILE).read_text(), source=str(PRESET))
    reference = lock.stack.base.reference
    with registry() as there, DockerEngine(new_run_id()) as engine:
        network = Network(registry_mirror=f"{there.host}/hub")
        name = f"{there.host}/hub/library/{reference}"
        folder = tmp_path / "base"
        folder.mkdir()
        image = build(folder, "FROM scratch\nCOPY Dockerfile /here\n", Network())
        docker("tag", image, name)
        docker("push", "--quiet", name)
        docker("rmi", "--force", name, image)
        session = cast("Any", SessionOf(network))
        found = pipeline.ensure_base(lock.stack, engine, session)
        assert found.digest
        arguments = pipeline.build_arguments(lock.stack, network, found.digest)
        assert arguments == {"BASE": f"{name}@{found.digest}"}
        text = f"ARG BASE={reference}\nFROM ${{BASE}}\nCOPY Dockerfile /there\n"
        made = build(tmp_path, text, network, **arguments)
        with DockerEngine(new_run_id()) as other:
            paths = [path for path, _, _ in other.layer_files(made, lambda path: True)]
        assert sorted(paths) == ["/here", "/there"]
        docker("rmi", "--force", made, name, check=False)


class SessionOf:
    """Of a session, only its network and its console."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.console = Console(quiet=True)


def test_compose_passes_the_mirror_of_the_hub_on(tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text(
        '[mirrors]\nhub = "https://hub.example"\n'
    )
    lock = str(PRESET / LOCK_FILE)
    words = ["render", "--lock", lock, "--target", "compose"]
    assert envbuilder(*words, cwd=tmp_path).code == 0
    for environ, expected in (
        ({}, "https://hub.example"),
        ({"HF_ENDPOINT": "https://other.example"}, "https://other.example"),
    ):
        env = {name: os.environ[name] for name in ("PATH", "HOME")} | environ
        done = subprocess.run(
            ["docker", "compose", "config", "--format", "json"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        train = json.loads(done.stdout)["services"]["train"]
        assert train["environment"]["HF_ENDPOINT"] == expected
