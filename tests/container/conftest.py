"""One real image for all of these tests: built from nothing but this checkout, and accepted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CUDA = "11.7"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.container)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def envbuilder(*words: str, cwd: Path, timeout: float = 900, **env: str) -> Answer:
    """The command as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "envbuilder", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **env},
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=600)
    assert not check or done.returncode == 0, done.stderr
    return done


@dataclass(frozen=True)
class Image:
    """The image under test: how it was built, and where."""

    id: str
    tag: str
    outcome: dict[str, Any]
    site: Path  # the working directory of the build: build/ and receipts/ are in it
    talk: str  # what the build said on stderr


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    site = tmp_path_factory.mktemp("site")
    answer = envbuilder("build", "--cuda", CUDA, "--json", cwd=site)
    assert answer.code == 0, answer.err
    outcome = answer.json()
    return Image(id=outcome["image"], tag=outcome["tag"], outcome=outcome, site=site, talk=answer.err)


@pytest.fixture(scope="session")
def container(image: Image) -> Iterator[str]:
    """A container of the image that idles; for testinfra and for looking inside."""
    made = docker("run", "--detach", "--rm", "--network", "none", image.id, "sleep", "3600").stdout.strip()
    yield made
    docker("rm", "--force", made)
