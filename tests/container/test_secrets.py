"""The password of a package index, in a real build that needs it: it is nowhere in the image, nor next to it.

The wheel step is that of a rendered Dockerfile, word for word but for its network and its cache; the base is a Debian.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
import uv
import wheelhouse
from index_server import IndexServer, serve
from torch_pages import Pages, make_wheel, serve_pages

from envbuilder.engine import build_process
from envbuilder.engine.buildx import BuildOptions
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.run_id import new_run_id
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock
from envbuilder.network import Network, find_network
from envbuilder.render import context as contexts
from envbuilder.render import context_folder

from .engine import docker, envbuilder

CANARY = "kestrel-7f3a"
BASE = "envbuilder-base:debian11"
NAME = "cu117-torch2.0.1-py3.9-debian11"
LOCK = Path(__file__).parents[2] / "docker/images" / NAME / LOCK_FILE
DOCKER = """#!/bin/sh
# Notes its words, and lets a step reach the index of this machine.
printf '%s\\n' "$@" >>{words}
shift 2
exec {docker} buildx build --allow network.host "$@"
"""
TORCH_FILE, TORCH = make_wheel("torch", "2.0.1+cu118", tag="cp39-cp39-linux_x86_64")
LOOK = """FROM {base}
RUN --mount=type=cache,target=/cache,id={cache} ! grep -r {canary} /cache && ls /cache >/listing
"""


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """A Debian with Python; it comes with the image under test, which takes minutes to build."""
    if docker("image", "inspect", BASE, check=False).returncode != 0:
        request.getfixturevalue("image")
    return BASE


def read_lock(how: str) -> Lock:
    """The lock of a preset, for a mirror as if its torch came from PyTorch's own index."""
    lock = parse_lock(LOCK.read_text(encoding="utf-8"), source=str(LOCK))
    if how != "mirror":
        return lock
    url = "https://download.pytorch.org/whl/cu117"
    stack = replace(lock.stack, index="pytorch-cu117", index_url=url)
    return replace(lock, stack=stack)


def write_context(folder: Path, base: str, cache: str, how: str) -> None:
    """The context that envbuilder renders; the Dockerfile keeps the wheel step of one layer, and the payload."""
    lock = read_lock(how)
    title, name = ("PyTorch", "torch") if how == "mirror" else ("Hugging Face stack", "stack")  # fmt: skip
    context_folder.write_context(contexts.render_context(lock), folder)
    dockerfile = folder / "images" / NAME / "Dockerfile"
    sections = re.split(r"(?m)^(?=# --- )", dockerfile.read_text(encoding="utf-8"))
    kept = [
        section
        for section in sections
        if section.startswith((f"# --- {title}", "# --- payload"))
    ]
    assert len(kept) == 2
    step = (
        kept[0]
        .replace("RUN --mount", "RUN --network=host --mount", 1)
        .replace("id=uv \\", f"id={cache} \\")
    )
    assert step.count("--mount=type=secret") == (4 if how == "mirror" else 3)
    layer = folder / "images" / NAME / f"layers/{name}.txt"
    layer.write_text(requirement(how))
    shutil.copy(uv.find_uv_bin(), folder / "install/uv")
    system = "RUN useradd --uid 1000 --create-home trainer\nENV VIRTUAL_ENV=/opt/venv\n"
    text = f"FROM {base} AS uv\nCOPY install/uv /opt/uv/bin/uv\nFROM {base}\n{system}{step}{kept[1]}"
    dockerfile.write_text(text, encoding="utf-8")


def requirement(how: str) -> str:
    """The layer's file: of a wheel of the package index, or of PyTorch's, whose page is not reached."""
    if how != "mirror":
        return wheelhouse.requirement(wheelhouse.make_wheel())
    digest = sha256(TORCH).hexdigest()
    page = "https://download.pytorch.org/whl/cu118/torch/"
    return f"--find-links {page}\ntorch==2.0.1+cu118 --hash=sha256:{digest}\n"


def as_a_user_gives_it(how: str, server: IndexServer, home: Path) -> Network:
    """The network that envbuilder finds where the password is in the address, or in ~/.netrc."""
    address = server.url
    if how == "address":
        address = address.replace("http://", f"http://me:{CANARY}@")
    else:
        (home / ".netrc").write_text(
            f"machine 127.0.0.1\nlogin me\npassword {CANARY}\n"
        )
    return find_network({}, home=home, index_url=address)


@contextmanager
def served(how: str, folder: Path, home: Path) -> Iterator[Network]:
    """The way to an index with a password, from which the layer's wheel has to come."""
    login = f"me:{CANARY}"
    if how == "mirror":
        pages = Pages(wheels={TORCH_FILE: TORCH}, login=login)
        with serve_pages(pages), serve() as packages:
            address = pages.url.replace("http://", f"http://{login}@")
            yield Network(index_url=packages.url, torch_index=address)
        assert f"/whl/cu118/{quote(TORCH_FILE)}" in pages.paths
        return
    wheel = wheelhouse.make_wheel()
    wheelhouse.record(folder, wheel)
    wheels = {wheelhouse.NAME: wheel}
    with serve(folder=folder, wheels=wheels, login=login) as server:
        yield as_a_user_gives_it(how, server, home)
    assert wheelhouse.PATH in server.paths


def texts_below(folder: Path) -> Mapping[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("how", ["address", "netrc", "mirror"])
def test_the_password_of_an_index_is_nowhere_in_an_image(
    tmp_path: Path, base: str, how: str
) -> None:
    home, site, bin_ = tmp_path / "home", tmp_path / "site", tmp_path / "bin"
    for folder in (home, site, bin_):
        folder.mkdir()
    program = bin_ / "docker"
    program.write_text(
        DOCKER.format(words=site / "words", docker=shutil.which("docker"))
    )
    program.chmod(0o755)
    cache = f"canary-{uuid.uuid4().hex}"
    write_context(site / "docker", base, cache, how)
    environ = {
        **os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "BUILDX_CONFIG": str(site / "buildx"),
        "TMPDIR": str(site),
    }  # fmt: skip
    with served(how, tmp_path / "index", home) as network:
        built = build_process.build(
            site / "docker",
            dockerfile=f"images/{NAME}/Dockerfile",
            log=site / "build.log",
            options=BuildOptions(no_cache=True),
            network=network,
            environ=environ,
            on_change=lambda progress: None,
        )
    try:
        assert "1 packages installed" in (site / "build.log").read_text()
        found = {
            path
            for path, content in texts_below(site).items()
            if CANARY.encode() in content
        }
        with DockerEngine(new_run_id()) as engine:
            files = {
                path: content
                for path, _, content in engine.layer_files(
                    built.image, lambda path: True
                )
            }
            history = engine.steps(built.image)
        module = "/torch/__init__.py" if how == "mirror" else "/demo.py"
        assert any(path.endswith(module) for path in files)
        found |= {path for path, content in files.items() if CANARY.encode() in content}
        assert found == set()
        assert any("wheels.py" in step for _, step in history)
        assert CANARY not in str(history)
        assert CANARY not in docker("image", "inspect", built.image).stdout
        answer = envbuilder(
            "accept", built.image, "--only", "contract.layers", "--json", cwd=home
        )
        assert [
            check["status"]
            for check in answer.json()["checks"]
            if check["id"] == "contract.layers"
        ] == ["passed"]
        assert CANARY not in answer.out + answer.err
        (tmp_path / "Dockerfile").write_text(
            LOOK.format(base=base, cache=cache, canary=CANARY)
        )
        look = docker(
            "buildx", "build", "--quiet", "--load", str(tmp_path)
        ).stdout.strip()
        listing = docker(
            "run", "--rm", "--network", "none", look, "cat", "/listing"
        ).stdout
        docker("rmi", "--force", look)
        assert "wheels" in listing
    finally:
        docker("rmi", "--force", built.image, check=False)
