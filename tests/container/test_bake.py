"""docker-bake.hcl with the real `docker buildx bake`: what it plans, and builds by it on an engine elsewhere."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock
from envbuilder.render.targets import Project, render_targets

from .engine import docker
from .private_engine import PrivateEngine, import_shell, private_engine
from .registry import Registry, registry

ROOT = Path(__file__).parents[2]
OLD, NEW = "cu117-torch2.0.1-py3.9-debian11", "cu117-torch2.0.1-py3.10-debian12"
OLD_TARGET, NEW_TARGET = OLD.replace(".", "_"), NEW.replace(".", "_")
Far = tuple[PrivateEngine, Registry]
NO_ATTESTATIONS = ["type=provenance,disabled=true", "type=sbom,disabled=true"]


def lock_of(name: str) -> Lock:
    path = ROOT / "docker" / "images" / name / LOCK_FILE
    return parse_lock(path.read_text(), source=name)


@dataclass(frozen=True)
class Site:
    """A repository with two images, its bake file, and `docker buildx` in it."""

    folder: Path
    env: dict[str, str]

    def run(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["docker", "buildx", *words],
            cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def plan(self, *words: str, **env: str) -> Any:
        done = self.run("bake", "--print", *words, **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def bake(self, *words: str, **env: str) -> str:
        """The output; a failed build fails the test."""
        done = self.run("bake", "--progress", "plain", *words, **env)
        assert done.returncode == 0, done.stderr
        return done.stderr


def write(folder: Path, *more: Lock) -> None:
    images = {lock.stack.name: lock for lock in (lock_of(OLD), lock_of(NEW), *more)}
    project = Project(
        lock=lock_of(OLD), image=f"envbuilder:{OLD}", context="docker", images=images
    )
    for name, text in render_targets(project, "bake", "compose").files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in images:
        (folder / "docker/images" / name).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nothing of this machine's surroundings gets into it."""
    write(tmp_path)
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "DOCKER_HOST")
        if name in os.environ
    }
    return Site(
        tmp_path,
        {
            **kept,
            "BUILDX_CONFIG": str(tmp_path / "buildx"),
            "DOCKER_CONFIG": str(tmp_path / "config"),
        },
    )


# --- the plan --------------------------------------------------------------------------------------------------------


def planned(name: str, **more: object) -> dict[str, object]:
    return {
        "context": "docker",
        "dockerfile": f"images/{name}/Dockerfile",
        "tags": [f"envbuilder:{name}-candidate"],
        "platforms": ["linux/amd64"],
        "attest": NO_ATTESTATIONS,
        **more,
    }


def test_bake_needs_no_variable(site: Site) -> None:
    """compose.yaml is next to it, and buildx reads that too."""
    assert site.plan() == {
        "group": {"default": {"targets": [NEW_TARGET, OLD_TARGET]}},
        "target": {OLD_TARGET: planned(OLD), NEW_TARGET: planned(NEW)},
    }
    assert list(site.plan("cu117")["target"]) == [NEW_TARGET, OLD_TARGET]
    assert list(site.plan(OLD_TARGET)["target"]) == [OLD_TARGET]


def test_every_variable_reaches_the_build(site: Site) -> None:
    proxies = {
        name: f"http://{name}.example"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    }
    proxies |= {"NO_PROXY": "a.example", "no_proxy": "b.example"}
    bundles = (
        "CA_BUNDLE",
        "SSL_CERT_FILE",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    )
    for name in (*bundles, "NETRC"):
        (site.folder / name).touch()
    given = {name: name for name in bundles} | proxies | {
        "REPOSITORY": "reg.example/team/train", "SUFFIX": "", "BASES": "reg.example/bases", "NETRC": "NETRC",
        "CACHE_FROM": "reg.example/from", "CACHE_TO": "reg.example/to", "ATTESTATIONS": "1",
        "ENVBUILDER_INDEX_URL": "https://me:secret@index.example",
        "ENVBUILDER_APT_MIRROR": "https://me:secret@mirror.example/debian",
    }  # fmt: skip
    declared = re.findall(
        r'^variable "(\w+)"',
        (site.folder / "docker-bake.hcl").read_text(),
        re.MULTILINE,
    )
    assert sorted(declared) == sorted(given)
    assert site.plan(OLD_TARGET, **given)["target"] == {
        OLD_TARGET: planned(
            OLD,
            args={"BASE": "reg.example/bases/envbuilder-base:debian11", **proxies},
            tags=[f"reg.example/team/train:{OLD}"],
            attest=["type=provenance,mode=max", "type=sbom,disabled=false"],
            secret=[
                "id=ca,src=CA_BUNDLE",
                "id=netrc,src=NETRC",
                "id=index,env=ENVBUILDER_INDEX_URL",
                "id=apt-mirror,env=ENVBUILDER_APT_MIRROR",
            ],
            **{
                "cache-from": [f"type=registry,ref=reg.example/from:{OLD}"],
                "cache-to": [f"type=registry,ref=reg.example/to:{OLD},mode=max"],
            },
        )
    }
    for name in bundles[1:]:
        assert site.plan(OLD_TARGET, **{name: name})["target"][OLD_TARGET][
            "secret"
        ] == [f"id=ca,src={name}"]


# --- builds ----------------------------------------------------------------------------------------------------------

DOCKERFILE = """ARG BASE=envbuilder-base:debian11
FROM ${BASE}
RUN --network=none --mount=type=secret,id=ca if [ -e /run/secrets/ca ]; then echo with a CA; else echo without; fi
"""


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    """An engine that is not this machine's, with a registry on its loopback; its images are in containerd's store."""
    with private_engine(containerd=True) as engine, registry(beside=engine) as there:
        import_shell(engine, "envbuilder-base:debian11")
        yield engine, there


@pytest.fixture
def remote(site: Site, far: Far) -> Iterator[Site]:
    """The site where `docker` talks to `far`, by a context of that name."""
    engine, _ = far
    words = ["docker", "context", "create", "far", "--docker", f"host={engine.host}"]
    subprocess.run(words, env=site.env, capture_output=True, check=True)
    (site.folder / "docker/images" / OLD / "Dockerfile").write_text(DOCKERFILE)
    env = {name: value for name, value in site.env.items() if name != "DOCKER_HOST"}
    yield replace(site, env={**env, "DOCKER_CONTEXT": "far"})
    engine.docker("builder", "prune", "--all", "--force")


def done_of(said: str) -> str:
    """How the one step ended: `DONE` or `CACHED`."""
    step = re.search(r"^#(\d+) \[stage-0 2/2\]", said, re.MULTILINE)
    assert step, said
    return re.findall(rf"^#{step[1]} (DONE|CACHED)", said, re.MULTILINE)[-1]


def test_an_engine_elsewhere_pushes_by_a_cache_in_the_registry(
    remote: Site, far: Far
) -> None:
    engine, there = far
    (remote.folder / "ca.pem").write_text("a CA")
    base = f"{there.host}/bases/envbuilder-base:debian11"
    for words in (
        ["tag", "envbuilder-base:debian11", base],
        ["push", base],
        ["image", "rm", base],
    ):
        engine.docker(*words)
    given = {
        "REPOSITORY": f"{there.host}/team/train",
        "BASES": f"{there.host}/bases",
        "CA_BUNDLE": "ca.pem",
    }
    cache = f"{there.host}/team/cache"

    first = remote.bake("--push", OLD_TARGET, **given, CACHE_TO=cache)
    assert (done_of(first), first.count(" with a CA\n")) == ("DONE", 1)
    digest = there.link("team/train", f"{OLD}-candidate")
    assert there.link("team/cache", OLD) != digest

    engine.docker("builder", "prune", "--all", "--force")
    again = remote.bake("--push", OLD_TARGET, **given, CACHE_FROM=cache)
    assert done_of(again) == "CACHED"
    assert there.link("team/train", f"{OLD}-candidate") == digest

    engine.docker("builder", "prune", "--all", "--force")
    assert done_of(remote.bake("--push", OLD_TARGET, **given)) == "DONE"


def test_a_candidate_gets_its_final_name_without_becoming_another_image(
    site: Site,
) -> None:
    """As docs/how-to/bake-and-registries.md has it, but for the acceptance."""
    (site.folder / "docker/images" / OLD / "Dockerfile").write_text(
        f"FROM scratch\nCOPY images/{OLD}/Dockerfile /\n"
    )
    with registry() as there:
        final = f"{there.host}/train:{OLD}"
        site.bake("--push", OLD_TARGET, REPOSITORY=f"{there.host}/train")
        docker("image", "rm", f"{final}-candidate")
        docker("pull", f"{final}-candidate")
        docker("tag", f"{final}-candidate", final)
        docker("push", final)
        docker("image", "rm", final, f"{final}-candidate")
        assert there.link("train", OLD) == there.link("train", f"{OLD}-candidate")


def test_default_build_needs_no_registry_and_no_secret(remote: Site, far: Far) -> None:
    said = remote.bake("--load", OLD_TARGET)
    assert re.search(r"^#\d+ [0-9.]+ without$", said, re.MULTILINE), said
    engine, _ = far
    assert engine.docker("image", "ls", "--quiet", f"envbuilder:{OLD}-candidate")
    engine.docker("image", "rm", f"envbuilder:{OLD}-candidate")


def test_engine_without_cache_export_gives_an_explained_error(site: Site) -> None:
    """docs/how-to/bake-and-registries.md tells what to do then."""
    (site.folder / "docker/images" / OLD / "Dockerfile").write_text(
        "FROM scratch\nLABEL a=b\n"
    )
    with private_engine() as engine:
        done = site.run(
            "bake", OLD_TARGET, CACHE_TO="127.0.0.1:1/cache", DOCKER_HOST=engine.host
        )
    assert done.returncode == 1
    assert "ache export is not supported for the docker driver" in done.stderr


def test_two_platforms_become_one_name(site: Site, tmp_path: Path) -> None:
    """Nothing runs in these images, so that no emulation is needed."""
    lock = lock_of(NEW)
    arm = replace(lock, stack=replace(lock.stack, platform="linux/arm64"))
    write(tmp_path, arm)
    names = (NEW, arm.stack.name)
    for place in (f"images/{name}" for name in names):
        (tmp_path / "docker" / place / "Dockerfile").write_text(
            f"FROM scratch\nCOPY {place}/Dockerfile /\n"
        )
    with registry() as there:
        repository = f"{there.host}/train"
        try:
            site.bake("--push", NEW_TARGET, "arm64", REPOSITORY=repository, SUFFIX="")
            images = [f"{repository}:{name}" for name in names]
            done = site.run(
                "imagetools", "create", "--tag", f"{repository}:both", *images
            )
            assert done.returncode == 0, done.stderr
        finally:
            docker(
                "image", "rm", *(f"{repository}:{name}" for name in names), check=False
            )
        found = there.ask("train/manifests/both")["manifests"]
    assert [item["platform"]["architecture"] for item in found] == ["amd64", "arm64"]
