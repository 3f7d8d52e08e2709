"""`build --push` with a compression and attestations: what a registry gets is the accepted image, in another form."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from envbuilder import cli, pipeline
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import SCHEMA, Context, Lock, Receipt, Verdict
from envbuilder.render.context import place_of

from .private_engine import import_shell, private_engine
from .registry import Registry, registry

ROOT = Path(__file__).parents[2]
NAME = "cu117-torch2.0.1-py3.9-debian11"
LOCK = ROOT / "docker" / "images" / NAME / LOCK_FILE
REPOSITORY = "team/train"


@dataclass(frozen=True)
class Place:
    """A registry next to an engine with containerd's store, and which images the suite has seen."""

    registry: Registry
    accepted: list[str] = field(default_factory=list)

    def blob(self, digest: str) -> bytes:
        kind, number = digest.split(":")
        folder = self.registry.folder / "docker/registry/v2/blobs" / kind
        return (folder / number[:2] / number / "data").read_bytes()

    def document(self, digest: str) -> Any:
        return json.loads(self.blob(digest))

    def manifest(self, tag: str) -> Any:
        """That of the image itself, be there attestations next to it or not."""
        found = self.document(self.registry.link(REPOSITORY, tag))
        for entry in found.get("manifests", ()):
            if entry["platform"]["os"] == "linux":
                return self.document(entry["digest"])
        return found


@pytest.fixture(scope="module")
def engine_host() -> Iterator[tuple[str, Registry]]:
    with private_engine(containerd=True) as engine, registry(beside=engine) as there:
        import_shell(engine, "shell:1", "cat")
        yield engine.host, there


@pytest.fixture
def place(
    engine_host: tuple[str, Registry], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Place:
    """Its builds are tiny, and the suite passes everything and notes what."""
    host, there = engine_host
    one = Place(there)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", host)
    text = f"FROM shell:1\nCOPY {place_of_lock()}/Dockerfile /\nLABEL unique={uuid4().hex}\n"

    def tiny(lock: Lock) -> Context:
        folder = place_of(lock.stack)
        return Context(files={f"{folder}/Dockerfile": text})

    def accept(image: str, *_: object) -> Receipt:
        one.accepted.append(image)
        return Receipt(
            schema=SCHEMA,
            image=image,
            suite={},
            host={},
            verdict=Verdict.PASSED,
            checks=(),
        )

    monkeypatch.setattr(pipeline, "render_context", tiny)
    monkeypatch.setattr(pipeline, "ensure_base", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "require_acceptance", accept)
    return one


def place_of_lock() -> str:
    return f"images/{NAME}"


def build(*words: str, tag: str) -> int:
    name = f"127.0.0.1:5000/{REPOSITORY}:{tag}"
    return cli.run(["build", "--lock", str(LOCK), "--tag", name, "--push", *words])


def test_layers_are_compressed_as_requested_and_otherwise_the_same(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tag="plain") == 0, capsys.readouterr().err
    capsys.readouterr()
    assert build("--compression", "zstd", tag="zstd") == 0
    said = capsys.readouterr().err
    assert "its layers and configuration are those of the accepted image" in said
    plain, zstd = place.manifest("plain"), place.manifest("zstd")
    kinds = {layer["mediaType"].rpartition("+")[2] for layer in zstd["layers"]}
    assert kinds == {"zstd"}
    assert {layer["mediaType"].rpartition("+")[2] for layer in plain["layers"]} != kinds
    assert plain["config"]["digest"] == zstd["config"]["digest"]
    first = place.blob(zstd["layers"][0]["digest"])
    assert first[:4] == b"\x28\xb5\x2f\xfd"  # zstd's magic number


def test_provenance_lies_next_to_the_accepted_image(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code = build("--attest", "type=provenance,mode=max", tag="proven")
    said = capsys.readouterr().err
    assert code == 0, said
    assert "its layers and configuration are those of the accepted image" in said
    assert len(place.accepted) == 1
    index = place.document(place.registry.link(REPOSITORY, "proven"))
    kinds = [
        entry.get("annotations", {}).get("vnd.docker.reference.type", "image")
        for entry in index["manifests"]
    ]
    assert kinds == ["image", "attestation-manifest"]
    statement = place.document(index["manifests"][1]["digest"])
    proof = place.document(statement["layers"][0]["digest"])
    assert proof["predicateType"].startswith("https://slsa.dev/provenance/")
    steps = proof["predicate"]["buildConfig"]["llbDefinition"]
    assert len(steps) > 1  # mode=max


def test_an_image_with_other_layers_passes_the_suite_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code = build("--compression", "estargz", tag="star")
    said = capsys.readouterr().err
    assert code == 0, said
    assert "its layers are not those of the accepted image" in said
    accepted, again = place.accepted
    assert accepted != again
    assert place.registry.link(REPOSITORY, "star") == again
    note = "containerd.io/snapshot/stargz/toc.digest"
    for layer in place.manifest("star")["layers"]:
        assert note in layer["annotations"]


def test_sbom_without_its_scanner_is_a_clear_error(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--attest", "type=sbom", tag="sbom") == 6
    said = capsys.readouterr().err
    assert "the image that makes the SBOM was not found on any reachable" in said
    assert "`--attest type=sbom,generator=IMAGE`" in said
    tags = place.registry.folder / "docker/registry/v2/repositories" / REPOSITORY
    assert not (tags / "_manifests/tags/sbom").exists()


def test_a_classic_store_is_refused_before_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with private_engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        assert build("--compression", "zstd", tag="never") == 6
    said = capsys.readouterr().err
    assert "this engine's image store cannot keep an image with zstd" in said
    assert "containerd-snapshotter" in said
    assert not (tmp_path / "build").exists()
