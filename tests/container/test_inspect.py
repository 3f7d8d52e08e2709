"""`envbuilder inspect` on real images: ours, its base, one with wrong labels, and an empty one."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .engine import Image, docker, envbuilder


@pytest.fixture(scope="module")
def seen(image: Image) -> dict:
    answer = envbuilder("inspect", image.tag, "--json", cwd=image.site)
    assert (answer.code, answer.err) == (0, "")
    return answer.json()


def test_the_image_and_its_stack(image: Image, seen: dict) -> None:
    assert (seen["schema"], seen["image"], seen["reference"]) == (
        1,
        image.id,
        image.tag,
    )
    assert (seen["platform"], seen["config"]["user"]) == ("linux/amd64", "1000")
    assert seen["stack"]["name"] == image.tag.split(":")[1]
    assert seen["stack"]["torch"] == image.outcome["receipt"]["facts"]["torch"]


def test_the_lock_is_the_one_that_was_built(image: Image, seen: dict) -> None:
    assert (seen["lock"]["agrees"], seen["lock"]["problems"]) == (True, [])
    assert seen["lock"]["sha256"] == image.outcome["receipt"]["facts"]["lock"]
    assert seen["lock"]["bytes"] == image.outcome["receipt"]["facts"]["wheel_bytes"]
    assert seen["lock"]["wheels"] == len(seen["packages"]["distributions"])


def test_the_layers_are_the_image(seen: dict) -> None:
    sizes = {layer["holds"]: layer["size"] for layer in seen["layers"] if layer["size"]}
    assert sum(layer["size"] for layer in seen["layers"]) == seen["size"]
    assert set(sizes) == {
        "base",
        "system",
        "nvidia",
        "torch",
        "libraries",
        "stack",
        "payload",
    }
    assert sizes["nvidia"] > sizes["torch"] > sizes["libraries"] > sizes["stack"]


def test_packages_match_the_wheel_layers(seen: dict) -> None:
    largest = [item["name"] for item in seen["packages"]["distributions"][:3]]
    assert largest[0] == "torch"
    assert any(name.startswith("nvidia-cudnn") for name in largest)
    layers = sum(
        layer["size"]
        for layer in seen["layers"]
        if layer["holds"] in ("nvidia", "torch", "libraries", "stack")
    )
    assert 0.99 < seen["packages"]["bytes"] / layers <= 1
    assert seen["packages"]["unclaimed"] < 1_000_000


def test_inspect_shows_the_receipt_of_the_build(
    image: Image, seen: dict, tmp_path: Path
) -> None:
    receipt = image.outcome["receipt"]
    assert (seen["receipt"]["verdict"], seen["receipt"]["started"]) == (
        "passed",
        receipt["started"],
    )
    assert seen["receipt"]["suite"] == {**receipt["suite"], "current": True}
    assert seen["receipt"]["training"]["accuracy"] == receipt["training"]["accuracy"]
    assert seen["receipt"]["failed"] == []
    elsewhere = envbuilder("inspect", image.tag, "--json", cwd=tmp_path)
    assert elsewhere.json()["receipt"] is None


def test_text_output_agrees_with_json(image: Image) -> None:
    answer = envbuilder("inspect", image.id, cwd=image.site)
    assert (answer.code, answer.err) == (0, "")
    assert "  labels   agree with it\n" in answer.out
    assert "\nreceipt: passed\n" in answer.out
    assert " torch  " in answer.out


def test_a_base_is_foreign_and_has_a_python(seen: dict, tmp_path: Path) -> None:
    answer = envbuilder(
        "inspect",
        seen["labels"]["org.opencontainers.image.base.name"],
        "--json",
        cwd=tmp_path,
    )
    assert (answer.code, answer.err) == (0, "")
    base = answer.json()
    assert (base["stack"], base["lock"], base["receipt"]) == (None, None, None)
    assert base["packages"]["python"].startswith(seen["stack"]["python"])
    assert {layer["holds"] for layer in base["layers"]} == {""}


@pytest.fixture
def liar(image: Image) -> Iterator[str]:
    """Our image with one label changed."""
    made = docker("create", image.id).stdout.strip()
    lie = docker(
        "commit", "--change", "LABEL dev.envbuilder.torch=9.9", made
    ).stdout.strip()
    docker("rm", made)
    yield lie
    docker("rmi", lie)


def test_wrong_label_is_detected(liar: str, image: Image) -> None:
    document = envbuilder("inspect", liar, "--json", cwd=image.site).json()
    assert document["lock"]["agrees"] is False
    assert document["lock"]["problems"] == [
        "the label dev.envbuilder.torch says 9.9; by the lock it is 2.0.1"
    ]
    assert document["receipt"] is None


@pytest.fixture
def odd() -> Iterator[str]:
    """One file from scratch, for another platform, with a volume, a label of two lines, and a folder for a lock."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        folder = tarfile.TarInfo("opt/envbuilder/envbuilder.lock")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        file = tarfile.TarInfo("file")
        file.size = 5
        archive.addfile(file, io.BytesIO(b"hello"))
    command = [
        "docker",
        "import",
        "--platform",
        "linux/arm64",
        "--change",
        "VOLUME /data",
        "-",
    ]
    scratch = (
        subprocess.run(command, input=tar.getvalue(), capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    made = docker(
        "create",
        "--platform",
        "linux/arm64",
        "--label",
        "odd=a\nb\x1b[31m",
        scratch,
        "none",
    ).stdout.strip()
    labelled = docker("commit", made).stdout.strip()
    docker("rm", "--volumes", made)
    yield labelled
    docker("rmi", labelled)
    docker("rmi", scratch, check=False)


def test_empty_image(odd: str, tmp_path: Path) -> None:
    before = docker("volume", "ls", "--quiet").stdout
    answer = envbuilder("inspect", odd, "--json", cwd=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    document = answer.json()
    assert (document["platform"], document["lock"], document["packages"]) == (
        "linux/arm64",
        None,
        None,
    )
    assert document["labels"] == {"odd": "a\nb\x1b[31m"}
    text = envbuilder("inspect", odd, cwd=tmp_path).out
    assert "  odd         a b [31m\n" in text
    assert "packages: unknown" in text
    assert f"receipt: none: `envbuilder accept {odd}`" in text
    assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={odd}").stdout == ""
    assert docker("volume", "ls", "--quiet").stdout == before


def test_missing_image_is_an_error(tmp_path: Path) -> None:
    answer = envbuilder("inspect", "envbuilder:there-is-none", cwd=tmp_path)
    assert (answer.code, answer.out) == (6, "")
    assert "there is no image envbuilder:there-is-none" in answer.err
