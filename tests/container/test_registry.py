"""An image goes to a real registry and comes back the same; what has not been accepted does not go."""

import base64
import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from envbuilder import cli, pipeline
from envbuilder.console import Console
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.run_id import new_run_id
from envbuilder.errors import AcceptanceError, EngineError
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import SCHEMA, Context, Lock, Receipt, Verdict
from envbuilder.network import Network
from envbuilder.pipeline import BuildSettings, Session
from envbuilder.render.context import place_of

from .engine import docker, envbuilder
from .registry import USERS, Registry, registry

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "docker" / "images" / "cu117-torch2.0.1-py3.9-debian11" / LOCK_FILE


@pytest.fixture(scope="module")
def there() -> Iterator[Registry]:
    with registry() as one:
        yield one


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    with DockerEngine(new_run_id()) as client:
        yield client


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[str]:
    """The id of an image of one file that no other has."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY Dockerfile told /\nLABEL a=b\n"
    )
    (folder / "told").write_text(uuid4().hex)
    image = docker("buildx", "build", "--load", "--quiet", str(folder)).stdout.strip()
    yield image
    docker("image", "rm", "--force", image, check=False)


# --- there and back --------------------------------------------------------------------------------------------------


def test_pulled_image_equals_the_pushed_one(
    there: Registry, engine: DockerEngine, tiny: str, tmp_path: Path
) -> None:
    tag = f"{there.host}/team/tiny:1"
    engine.tag(tiny, tag)
    digest = engine.push(tag)
    assert there.link("team/tiny", "1") == digest
    assert there.ask("team/tiny/manifests/1")["config"]["digest"] == tiny

    docker("image", "rm", "--force", tiny)
    assert engine.image(tag) is None
    assert engine.pull(tag, "linux/amd64") is None
    found = engine.image(tag)
    assert found is not None
    assert (found.id, found.digest, found.labels) == (tiny, digest, {"a": "b"})

    seen = envbuilder(
        "inspect", f"{there.host}/team/tiny@{digest}", "--json", cwd=tmp_path
    )
    assert (seen.code, seen.json()["image"], seen.json()["digest"]) == (
        0,
        tiny,
        digest,
    ), seen.err


# --- only what has been accepted -------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(
        catalog=cast("Any", None), network=Network(), environ=os.environ, uv=cast("Any", None),
        console=Console(quiet=True), today=date(2026, 11, 27),
        context=tmp_path / "build", logs=tmp_path / "logs", receipts=tmp_path / "receipts",
    )  # fmt: skip


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lock:
    """A lock whose context is a tiny one; what is written here goes into a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    found = parse_lock(LOCK.read_text(), source=LOCK.name)
    place = place_of(found.stack)
    text = f"FROM scratch\nCOPY {place}/Dockerfile /\nLABEL unique={uuid4().hex}\n"
    files = {f"{place}/Dockerfile": text, f"{place}/{LOCK_FILE}": ""}
    monkeypatch.setattr(
        "envbuilder.pipeline.render_context", lambda lock: Context(files=files)
    )
    return found


def test_build_pushes_the_tag_once_it_is_earned(
    there: Registry,
    engine: DockerEngine,
    lock: Lock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command, but for a suite that this image could not pass."""
    tag = f"{there.host}/team/train:accepted"
    before_it_was_earned: list[object] = []

    def earn(image: str, *_: object) -> Receipt:
        before_it_was_earned.append(engine.image(tag))
        return Receipt(
            schema=SCHEMA,
            image=image,
            suite={},
            host={},
            verdict=Verdict.PASSED,
            checks=(),
        )

    monkeypatch.setattr(pipeline, "ensure_base", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "require_acceptance", earn)
    try:
        code = cli.run(["build", "--lock", str(LOCK), "--tag", tag, "--push", "--json"])
    finally:
        docker("image", "rm", tag, check=False)
    said = capsys.readouterr()
    assert code == 0, said.err
    outcome = json.loads(said.out)
    assert (code, before_it_was_earned, outcome["tag"]) == (0, [None], tag)
    assert there.link("team/train", "accepted") == outcome["digest"]
    assert (
        there.ask("team/train/manifests/accepted")["config"]["digest"]
        == outcome["image"]
    )
    assert (
        f"pushing {tag}\npushed {there.host}/team/train@{outcome['digest']} in "
        in said.err
    )


def test_an_image_that_fails_is_not_pushed(
    there: Registry,
    engine: DockerEngine,
    session: Session,
    lock: Lock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[str] = []

    def earn(image: str, *_: object) -> Any:
        refused.append(image)
        raise AcceptanceError("it does not train")

    monkeypatch.setattr(pipeline, "require_acceptance", earn)
    tag = f"{there.host}/team/refused:1"
    with pytest.raises(AcceptanceError):
        pipeline.build_lock(lock, engine, session, BuildSettings(tag=tag, push=True))
    docker("image", "rm", refused[0])
    assert engine.image(tag) is None
    assert "team/refused" not in there.ask("_catalog")["repositories"]


def test_push_requires_a_name_before_contacting_the_engine(tmp_path: Path) -> None:
    answer = envbuilder(
        "build",
        "--cuda",
        "11.7",
        "--push",
        cwd=tmp_path,
        DOCKER_HOST=f"unix://{tmp_path}/none.sock",
    )
    assert answer.code == 2
    assert answer.err.startswith("error: --push needs --tag\n")


# --- registries that refuse ------------------------------------------------------------------------------------------


def test_a_registry_that_does_not_answer_is_named(
    engine: DockerEngine, tiny: str
) -> None:
    engine.tag(tiny, "127.0.0.1:1/team/tiny:1")
    with pytest.raises(EngineError) as caught:
        engine.push("127.0.0.1:1/team/tiny:1")
    assert "cannot push 127.0.0.1:1/team/tiny:1: " in caught.value.message
    assert caught.value.hint.startswith(
        "check the registry's name and port (127.0.0.1:1)"
    )


def test_registry_login_is_taken_from_docker_login(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry(users=USERS) as there:
        tag = f"{there.host}/team/tiny:1"
        with DockerEngine(new_run_id()) as stranger:
            stranger.tag(tiny, tag)
            with pytest.raises(EngineError) as caught:
                stranger.push(tag)
        assert caught.value.hint.startswith(f"log in: `docker login {there.host}`")
        login = base64.b64encode(b"test:sesame").decode()
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {there.host: {"auth": login}}})
        )
        with DockerEngine(new_run_id()) as user:
            assert user.push(tag) == there.link("team/tiny", "1")
