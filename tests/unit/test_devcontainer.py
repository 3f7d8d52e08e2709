"""`.devcontainer/`: valid by the official schema, and right where an editor goes past the image's entrypoint."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from marks import few
from presets import read_preset

from envbuilder.errors import UsageError
from envbuilder.render import project
from envbuilder.render.targets import MARK, render_targets

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("docker/images/*/envbuilder.lock"))
NAME = "cu117-torch2.0.1-py3.9-debian11"
LOCK = ROOT / "docker/images" / NAME / "envbuilder.lock"
SCHEMA = json.loads((ROOT / "tests/schemas/devContainer.base.schema.json").read_text())


def rendered(lock: Path = LOCK, **settings: str) -> dict[str, str]:
    described = project.describe(read_preset(lock), settings=settings)
    files = render_targets(described, "devcontainer").files
    return {Path(name).name: text for name, text in files.items()}


def parsed(text: str) -> Any:
    """JSON with comments on separate lines."""
    return json.loads(re.sub(r"(?m)^\s*//.*$", "", text))


@pytest.fixture(scope="module")
def document() -> Any:
    return parsed(rendered()["devcontainer.json"])


@pytest.mark.parametrize(
    "settings", [{}, {"shm-size": "8g"}], ids=["as it is", "settings"]
)
@pytest.mark.parametrize("lock", few(LOCKS, fast=3), ids=lambda lock: lock.parent.name)
def test_it_is_valid_by_the_official_schema(
    lock: Path, settings: dict[str, str]
) -> None:
    document = parsed(rendered(lock, **settings)["devcontainer.json"])
    jsonschema.Draft201909Validator(SCHEMA).validate(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hostRequirements", {"gpu": "maybe"}),
        ("remoteUser", 1000),
        ("waitFor", "postCreate"),
    ],
)
def test_schema_refuses_invalid_files(document: Any, key: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(SCHEMA).validate({**document, key: value})


def test_every_key_is_in_the_schema(document: Any) -> None:
    known: set[str] = set()
    for definition in SCHEMA["definitions"].values():
        known |= definition.get("properties", {}).keys()
    known |= {"build"}
    assert document.keys() <= known


def test_a_gpu_is_optional_and_the_user_is_the_hosts(document: Any) -> None:
    assert document["hostRequirements"] == {"gpu": "optional"}
    assert (document["remoteUser"], document["updateRemoteUserUID"]) == (
        "trainer",
        True,
    )
    assert document["postCreateCommand"] == "sh .devcontainer/check"
    assert document["waitFor"] == "postCreateCommand"


def test_the_shared_memory_is_enough_for_the_suite(document: Any) -> None:
    bounds = json.loads((ROOT / "docker/payload/acceptance/bounds.json").read_text())[
        "bounds"
    ]
    assert document["runArgs"] == ["--shm-size=2g"]
    assert bounds["features.shared_memory"]["min"] <= 2 * 2**30


def test_shared_memory_setting_cannot_inject_options() -> None:
    assert parsed(rendered(**{"shm-size": "8g"})["devcontainer.json"])["runArgs"] == [
        "--shm-size=8g"
    ]
    with pytest.raises(UsageError, match="is not a size"):
        rendered(**{"shm-size": '8g", "--privileged'})


def test_every_file_carries_the_mark() -> None:
    assert all(
        MARK in text.splitlines()[0] + text.splitlines()[1]
        for text in rendered().values()
    )


def select_image(
    folder: Path, found: str, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run .devcontainer/image with a docker that only says how it is called."""
    (folder / "docker").write_text(
        f"#!/bin/sh\n{found}\n[ $1 = image ] || echo docker $*\n"
    )
    (folder / "docker").chmod(0o755)
    (folder / ".devcontainer").mkdir()
    (folder / ".devcontainer/image").write_text(rendered()["image"])
    document = parsed(rendered()["devcontainer.json"])
    return subprocess.run(
        ["sh", "-c", document["initializeCommand"]],
        capture_output=True, text=True, check=False, cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin", **env},
    )  # fmt: skip


def test_missing_image_is_reported_before_building(tmp_path: Path) -> None:
    done = select_image(tmp_path, "[ $1 != image ] || exit 1")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: image envbuilder:{NAME} not found\nhint: build it: `envbuilder build`\n"
    )


@pytest.mark.parametrize(
    ("text", "env", "base"),
    [
        ("", {}, "py3.9-debian11"),
        ("RUN=a\nBASE=py3.10-debian12 # why\n", {}, "py3.10-debian12"),
        ('export BASE="py3.10-debian12"\n', {}, "py3.10-debian12"),
        ("BASE=py3.10-debian12\n", {"BASE": "py3.11-debian12"}, "py3.11-debian12"),
    ],
)
def test_base_selects_the_image_from_environment_or_env_file(
    tmp_path: Path, text: str, env: dict[str, str], base: str
) -> None:
    if text:
        (tmp_path / ".env").write_text(text)
    done = select_image(tmp_path, "true", **env)
    image = f"envbuilder:cu117-torch2.0.1-{base}"
    assert done.stdout == (
        f"docker tag {image} envbuilder-devcontainer:{NAME}\n"
        f"the dev container is based on {image}\n"
    ), done.stderr
    assert f"ARG IMAGE=envbuilder-devcontainer:{NAME}\n" in rendered()["Dockerfile"]


def test_hadolint_reports_nothing(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(rendered()["Dockerfile"])
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint
    done = subprocess.run(
        [hadolint, str(tmp_path / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
