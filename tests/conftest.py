"""Speed is in the path, cost is in the mark: an unmarked test cannot reach an engine."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container.engine import CUDA, Image, docker, envbuilder
from hypothesis import HealthCheck, settings
from standin.programs import Programs
from standin.suite_output import IMAGE

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog
from envbuilder.format.page import grid as grids

ROOT = Path(__file__).parent.parent

# A busy machine is no failure: no example has a deadline, and none is refused because making it is slow.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

USERS_PREFIXES = (
    "ENVBUILDER_",
    "UV_",
    "PIP_",
    "COMPOSE_",
    "BUILDX_",
    "NVIDIA_",
    "CUDA_",
    "SLURM_",
    "TORCHELASTIC_",
)
USERS_VARIABLES = set(
    "NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE TERM COLORTERM COLUMNS LINES NETRC DOCKER_CONTEXT DOCKER_CONFIG "
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE RANK WORLD_SIZE "
    "LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT HF_HOME HF_ENDPOINT".split()
)


def pytest_collection_finish() -> None:
    """Objects of the test modules live until the end, so the garbage collector can ignore them."""
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def facts() -> Catalog:
    return catalog.load()


@pytest.fixture(scope="session")
def grid(facts: Catalog) -> grids.Grid:
    """Every answer of the page to pick from; made once, because it asks the resolver a thousand times."""
    return grids.compute(facts)


@pytest.fixture(scope="session", autouse=True)
def one_catalog() -> Iterator[Callable[[], Catalog]]:
    """Commands in this process share the catalog: reading it, and what is cached by it, is a tenth of a second each.

    Gives the function that does read it.
    """
    load = catalog.load
    shared = load()

    def load_once(folder: Path = catalog.FOLDER, own: Path | None = None) -> Catalog:
        return shared if folder == catalog.FOLDER and own is None else load(folder, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "load", load_once)
        yield load


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Stand-ins for the programs that envbuilder starts; their builder gives the image."""
    made = Programs(tmp_path / "bin")
    made.builds(IMAGE.id)
    return made


class Machine:
    """The environment that a test sees.

    Four thousand tests set it up, so that it is one plain assignment where the test before saw the same: the fixture
    that uses it has no teardown, and no fixture of a test's own beneath it.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.users = dict(os.environ)
        self.kind: str | None = None
        self.number = 0

    def show(self, kind: str) -> None:
        """Show what a test of this kind may see: "container", "network" or "" for an unmarked one."""
        if kind != self.kind:
            os.environ.clear()
            os.environ.update(self.environment(kind))
            self.kind = kind
        # The user's receipts save no run, and no test leaves one there. Most tests make no such folder.
        self.number += 1
        os.environ["ENVBUILDER_STATE_DIR"] = f"{self.base}/{self.number}"

    def environment(self, kind: str) -> dict[str, str]:
        """An unmarked test sees no engine, and nothing that a user has set; a marked one may need it."""
        if kind == "container":
            return self.users
        shown = {}
        for name, value in self.users.items():
            is_users = (
                name.startswith(USERS_PREFIXES) or name.upper() in USERS_VARIABLES
            )
            if kind == "network" or not is_users:
                shown[name] = value
        shown["DOCKER_HOST"] = f"unix://{self.base}/docker.sock"
        if kind == "":
            shown["ENVBUILDER_PACKAGE_LOOK"] = "off"
        return shown


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(autouse=True)
def nobodys_machine(request: pytest.FixtureRequest, machine: Machine) -> None:
    """An unmarked test sees no engine, and nothing that a user has set."""
    kind = ""
    for mark in request.node.iter_markers():
        if mark.name == "container" or (mark.name == "network" and not kind):
            kind = mark.name
    machine.show(kind)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    site = tmp_path_factory.mktemp("site")
    answer = envbuilder("build", "--cuda", CUDA, "--json", cwd=site)
    assert answer.code == 0, answer.err
    outcome = answer.json()
    return Image(
        id=outcome["image"],
        tag=outcome["tag"],
        outcome=outcome,
        site=site,
        talk=answer.err,
    )


@pytest.fixture(scope="session")
def container(image: Image) -> Iterator[str]:
    """A container of the image that idles; for testinfra and for looking inside."""
    made = docker(
        "run", "--detach", "--rm", "--network", "none", image.id, "sleep", "3600"
    ).stdout.strip()
    yield made
    docker("rm", "--force", made)
