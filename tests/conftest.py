"""Speed is in the path, cost is in the mark: an unmarked test cannot reach an engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from container.engine import Image, docker

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def facts() -> Catalog:
    return catalog.load()


@pytest.fixture(autouse=True)
def no_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("container"):
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(id="envbuilder:cu117-torch2.0.1-py3.9-debian11", tag="", outcome={}, site=Path(), talk="")


@pytest.fixture(scope="session")
def container(image: Image) -> Iterator[str]:
    """A container of the image that idles; for testinfra and for looking inside."""
    made = docker("run", "--detach", "--rm", "--network", "none", image.id, "sleep", "3600").stdout.strip()
    yield made
    docker("rm", "--force", made)
