"""Speed is in the path, cost is in the mark: an unmarked test cannot reach an engine."""

from pathlib import Path

import pytest

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
