"""Packages of sources in a real image: built without network, the same wheels as when they were locked."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cli.test_sources import git, package_files, write
from packaging.version import Version

from envbuilder.engine.buildx import find_cause
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.sources.source_archive import pack
from envbuilder.model import Layer, Lock, Source, SourceKind, Wheel
from envbuilder.network import SYSTEM_BUNDLES
from envbuilder.render.context import render_context
from envbuilder.render.context_folder import write_context

from .engine import CUDA, docker, envbuilder
from .test_secrets import base  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11" / LOCK_FILE
pytestmark = pytest.mark.usefixtures("base")
TAG = "envbuilder-test:sources"
SETUPTOOLS = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "my-lib"
version = "1.2"
dependencies = ["antlr4-python3-runtime==4.9.3"]
[project.scripts]
my-lib = "my_lib:main"
[tool.setuptools]
py-modules = ["my_lib"]
"""
IMPORTS = """
import importlib.metadata, my_lib, git_lib, antlr4
for name in ("my-lib", "git-lib", "antlr4-python3-runtime"):
    print(importlib.metadata.version(name))
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder at an address of this machine; git reads a repository there."""
    handler = partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def build(context: Path, place: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The build context as somebody without envbuilder builds it."""
    argv = ["buildx", "build", "--load", "--progress=plain"]
    for bundle in SYSTEM_BUNDLES:
        if Path(bundle).is_file():
            argv += ["--secret", f"id=ca,src={bundle}"]
            break
    argv += ["--file", str(context / place / "Dockerfile"), *words, str(context)]
    return docker(*argv, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A project with a package in a folder, and a repository with another."""
    site = tmp_path / "site"
    code = "def main():\n    print('hello')\n"
    write(site / "my_lib", {"pyproject.toml": SETUPTOOLS, "my_lib.py": code})
    repository = write(tmp_path / "served/git-lib", package_files("git-lib", "0.3"))
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=a")
    git(repository, "update-server-info")
    return site


def lock(site: Path, tmp_path: Path) -> None:
    """A folder, a repository by HTTP, and what the folder needs: a source package of the index."""
    with served(tmp_path / "served") as url:
        repository = f"git-lib @ git+{url}/git-lib/.git@main"
        answer = envbuilder(
            *("lock", "--cuda", CUDA, "--base", "bootstrap"),
            *("--package", "./my_lib", "--package", repository),
            cwd=site,
            ENVBUILDER_CACHE_DIR=str(tmp_path / "cache"),
        )
    assert answer.code == 0, answer.err
    assert "antlr4-python3-runtime 4.9.3 has no wheel" in answer.err


def test_packages_of_sources_are_in_the_image(site: Path, tmp_path: Path) -> None:
    lock(site, tmp_path)
    made = parse_lock((site / "envbuilder.lock").read_text(), source="x")
    # Everything that the archives need is in the cache: the repository is no longer served.
    answer = envbuilder(
        *("render", "--lock", "envbuilder.lock", "--output", "context"),
        cwd=site,
        ENVBUILDER_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert answer.code == 0, answer.err
    done = build(site / "context", f"images/{made.stack.name}", "--tag", TAG)
    assert done.returncode == 0, done.stderr
    try:
        run = ("run", "--rm", "--network", "none", TAG)
        assert docker(*run, "python", "-c", IMPORTS).stdout.split() == [
            "1.2",
            "0.3",
            "4.9.3",
        ]
        assert docker(*run, "my-lib").stdout == "hello\n"
        found = docker(*run, "ls", "-d", "/sources", "/tools", "/wheels", check=False)
        assert found.stdout == ""
    finally:
        docker("rmi", TAG)


@pytest.mark.exhaustive
def test_an_image_with_sources_passes_the_suite(site: Path, tmp_path: Path) -> None:
    lock(site, tmp_path)
    answer = envbuilder(
        *("build", "--lock", "envbuilder.lock", "--tag", TAG, "--json"),
        cwd=site,
        ENVBUILDER_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert answer.code == 0, answer.err
    by_id = {check["id"]: check for check in answer.json()["receipt"]["checks"]}
    assert by_id["imports.failed"]["status"] == "passed"
    docker("rmi", TAG)


FORGED = {
    "Network is unreachable": {
        "first": "import urllib.request as r; r.urlopen('http://1.1.1.1/')"
    },
    "is another wheel here than the locked one": {},
    "it is my_lib-1.3-py3-none-any.whl here, the lock has my_lib-1.2": {
        "wheel": "my_lib-1.3-py3-none-any.whl"
    },
}


def forged_lock(archive: bytes) -> Lock:
    """A lock that this machine would not have made of the archive."""
    lock = parse_lock(PRESET.read_text(encoding="utf-8"), source="x")
    version = Version("1.2")
    source = Source(
        name="my-lib",
        version=version,
        kind=SourceKind.LOCAL,
        origin="./my_lib",
        archive="my-lib.tar",
        sha256=sha256(archive).hexdigest(),
        backend="backend",
        backend_path=("",),
    )
    wheel = Wheel(
        name="my-lib",
        version=version,
        file="my_lib-1.2-py3-none-any.whl",
        size=1,
        sha256="0" * 64,
        layer=Layer.STACK,
    )
    return replace(lock, wheels=(*lock.wheels, wheel), sources=(source,))


def test_builds_in_an_image_have_no_network_and_must_match(tmp_path: Path) -> None:
    for reason, changes in FORGED.items():
        files = package_files(**changes)
        archive = pack({name: (text.encode(), False) for name, text in files.items()})
        lock = forged_lock(archive)
        folder = tmp_path / "context"
        write_context(render_context(lock, {"my-lib.tar": archive}), folder)
        done = build(folder, f"images/{lock.stack.name}", "--target", "sources")
        assert done.returncode != 0
        assert reason in done.stderr
        cause = find_cause(done.stderr)
        assert cause
        assert "source package" in cause[0]
