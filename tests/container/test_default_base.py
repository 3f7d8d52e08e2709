"""The default base from a registry: by tag, by digest, after its tag has moved, and what happens without the registry.

A private engine has a mirror of Docker Hub in its settings: a real registry, with a tiny image in the place of
`python:3.10-slim-bookworm`. Python, wheels and suite are in `test_slim_base.py`.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from index_server import serve

from envbuilder import cli, pipeline
from envbuilder.engine import bootstrap
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import SCHEMA, Base, Context, Lock, Receipt, Verdict
from envbuilder.render.context import place_of

from .engine import envbuilder
from .private_engine import PrivateEngine, import_shell, private_engine
from .registry import Registry, registry

IMAGES = Path(__file__).parents[2] / "docker/images"
MAIN, FALLBACK = "cu117-torch2.0.1-py3.10-debian12", "cu117-torch2.0.1-py3.9-debian11"
REPOSITORY, TAG = "library/python", "3.10-slim-bookworm"
SLIM = f"python:{TAG}"
HERE = "127.0.0.1:5000"


@dataclass(frozen=True)
class Hub:
    """An engine and the registry that it takes for Docker Hub."""

    engine: PrivateEngine
    registry: Registry
    stack: ExitStack

    def publish(self, *programs: str) -> str:
        """Move the tag to an image with these programs; the engine keeps no copy. Returns the digest."""
        name = f"{HERE}/{REPOSITORY}:{TAG}"
        import_shell(self.engine, name, *programs)
        self.engine.docker("push", "--quiet", name)
        self.engine.docker("image", "rm", name)
        return self.registry.link(REPOSITORY, TAG)

    def end(self) -> None:
        self.stack.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with private_engine(mirror=f"http://{HERE}") as engine, ExitStack() as stack:
        one = stack.enter_context(registry(beside=engine))
        yield Hub(engine, one, stack)


def read(path: Path) -> Lock:
    return parse_lock(path.read_text(), source=str(path))


def test_locks_pin_the_base_and_follow_its_tag_on_request(
    hub: Hub, tmp_path: Path
) -> None:
    first = hub.publish("cat")
    there = {"cwd": tmp_path, "DOCKER_HOST": hub.engine.host}
    with serve() as index:
        locked = envbuilder("lock", "--cuda", "11.7", "--index-url", index.url, **there)  # type: ignore[arg-type]
    assert locked.code == 0, locked.err
    lock = read(tmp_path / LOCK_FILE)
    assert (lock.stack.name, lock.base_digest) == (MAIN, first)

    second = hub.publish("cat", "ls")
    renewed = envbuilder("lock", "--upgrade-base", **there)  # type: ignore[arg-type]
    assert f"{SLIM}: {first} → {second}\n" in renewed.err
    assert read(tmp_path / LOCK_FILE).wheels == lock.wheels

    # The older lock still means the older image.
    (tmp_path / "old.lock").write_text(
        (tmp_path / LOCK_FILE).read_text().replace(second, first)
    )
    for name, digest in (("old.lock", first), (LOCK_FILE, second)):
        base = envbuilder("base", "--lock", name, "--json", **there)  # type: ignore[arg-type]
        assert base.code == 0, base.err
        image = base.json()["image"]
        found = hub.engine.docker(
            "image", "inspect", "--format", "{{.RepoDigests}}", image
        )
        assert found == f"[python@{digest}]\n"

    hub.end()
    refused = envbuilder("lock", "--upgrade-base", **there)  # type: ignore[arg-type]
    assert refused.code == 6
    assert "cannot be learned; envbuilder.lock stays as it is" in refused.err


@pytest.fixture
def repository(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A repository with both locks, whose Dockerfiles do nothing, and a suite that passes everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", hub.engine.host)
    monkeypatch.setenv("ENVBUILDER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("BASE", raising=False)
    (tmp_path / "envbuilder.toml").write_text(
        'cuda = "11.7"\n[render]\ntargets = ["compose"]\n'
    )
    for name in (MAIN, FALLBACK):
        shutil.copytree(IMAGES / name, tmp_path / "docker/images" / name)

    def tiny(lock: Lock) -> Context:
        digest = f"@{lock.base_digest}" if lock.base_digest else ""
        reference = lock.stack.base.reference
        text = f"FROM {reference}{digest}\nLABEL lock={lock.stack.name}\n"
        return Context(files={f"{place_of(lock.stack)}/Dockerfile": text})

    def make(base: Base, engine: DockerEngine, session: object) -> None:
        import_shell(hub.engine, base.reference)
        label = f'LABEL {bootstrap.LABEL}="{bootstrap.contents(base)}"'
        tar = hub.engine.folder / "shell.tar"
        engine.import_tar(tar, base.reference, [label])

    def accept(image: str, *_: object) -> Receipt:
        return Receipt(
            schema=SCHEMA,
            image=image,
            suite={},
            host={},
            verdict=Verdict.PASSED,
            checks=(),
        )

    monkeypatch.setattr(pipeline, "render_context", tiny)
    monkeypatch.setattr(pipeline, "make_base", make)
    monkeypatch.setattr(pipeline, "require_acceptance", accept)
    return tmp_path


def built(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    code = cli.run(["build", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    outcome: dict[str, Any] = json.loads(said.out)
    return outcome, said.err


def test_the_fallback_takes_over_while_no_registry_has_the_base(
    hub: Hub, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.publish("cat")
    assert cli.run(["lock", "--upgrade-base"]) == 0
    outcome, said = built(capsys)
    assert outcome["tag"] == f"envbuilder:{MAIN}"
    assert not (repository / ".env").exists()

    hub.end()
    digest = read(repository / "docker/images" / MAIN / LOCK_FILE).base_digest
    assert built(capsys)[0]["tag"] == f"envbuilder:{MAIN}"  # the engine has the base
    hub.engine.docker("image", "rm", "--force", f"envbuilder:{MAIN}")
    hub.engine.docker("image", "prune", "--all", "--force")

    outcome, said = built(capsys)
    assert outcome["tag"] == f"envbuilder:{FALLBACK}"
    assert (
        f"{SLIM}@{digest} was not found in the engine's store nor on any reachable registry; "
        f"building {FALLBACK} instead, on a base from Debian packages\n"
    ) in said
    assert "set BASE=py3.9-debian11 in .env" in said
    assert (repository / ".env").read_text().endswith("\nBASE=py3.9-debian11\n")
