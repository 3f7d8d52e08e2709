"""The form in which an accepted image is pushed: its options, who can keep it, and when it is still that image."""

from dataclasses import replace

import pytest
from standin.suite_output import IMAGE

from envbuilder.engine.image import facts_of
from envbuilder.engine.info import has_containerd_store
from envbuilder.engine.push_options import (
    PushOptions,
    check_store,
    is_same_image,
    parse_attestation,
)
from envbuilder.errors import EngineError, UsageError

ZSTD = PushOptions(compression="zstd")
PROVENANCE = PushOptions(attestations=("type=provenance,mode=max",))
HELD = replace(IMAGE, layers=("sha256:a", "sha256:b"), config={"Env": ["A=b"]})


def test_options_reach_buildx_as_it_takes_them() -> None:
    assert not PushOptions().writes_again
    assert ZSTD.output_words() == [
        "--output",
        "type=image,oci-mediatypes=true,compression=zstd,force-compression=true",
        "--provenance=false",
    ]
    assert PROVENANCE.output_words() == [
        "--output",
        "type=image,oci-mediatypes=true",
        "--attest",
        "type=provenance,mode=max",
    ]
    both = replace(PROVENANCE, compression="zstd")
    assert both.describe() == "zstd, type=provenance,mode=max"


@pytest.mark.parametrize(
    "text",
    [
        "type=provenance",
        "type=sbom,generator=registry.example/scanner:1@sha256:ab",
        "type=provenance,mode=max,version=v1",
    ],
)
def test_attestations_of_buildx_are_accepted(text: str) -> None:
    assert parse_attestation(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "provenance", "type=other", 'type=sbom,a="b"', "type=sbom,a=b c", "mode=max"],
)
def test_other_attestations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"type=provenance or type=sbom"):
        parse_attestation(text)


def test_only_containerds_store_keeps_another_form() -> None:
    check_store(PushOptions(), containerd=False, builder="far")
    check_store(ZSTD, containerd=True, builder=None)
    check_store(ZSTD, containerd=True, builder="default")
    with pytest.raises(EngineError, match="cannot keep an image with zstd"):
        check_store(ZSTD, containerd=False, builder=None)
    with pytest.raises(UsageError, match="not far"):
        check_store(ZSTD, containerd=True, builder="far")


def test_the_kind_of_store_is_read_from_the_engine() -> None:
    containerd = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    assert has_containerd_store(containerd)
    assert not has_containerd_store({"DriverStatus": [["Backing Filesystem", "x"]]})
    assert not has_containerd_store({})


def test_the_same_image_has_the_same_layers_and_configuration() -> None:
    assert is_same_image(HELD, replace(HELD, id="sha256:other", size=1, digest=None))
    assert not is_same_image(HELD, replace(HELD, layers=("sha256:a",)))
    assert not is_same_image(HELD, replace(HELD, config={"Env": []}))
    assert not is_same_image(HELD, replace(HELD, platform="linux/arm64"))
    # An engine that lists no layers proves nothing.
    nothing = replace(HELD, layers=())
    assert not is_same_image(nothing, nothing)


def test_layers_are_read_from_the_engine() -> None:
    attrs = {
        "Id": "sha256:1",
        "Size": 0,
        "RootFS": {"Type": "layers", "Layers": ["sha256:a"]},
        "Config": {"Env": ["A=b"]},
    }
    facts = facts_of(attrs)
    assert (facts.layers, facts.config) == (("sha256:a",), {"Env": ["A=b"]})
