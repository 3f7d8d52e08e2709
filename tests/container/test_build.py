"""`envbuilder build`, for real: from a request to an image that has trained, and every way in which it can end."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from .engine import CUDA, Image, docker, envbuilder

ROOT = Path(__file__).parents[2]


def image_of(tag: str) -> str:
    return docker(
        "image", "inspect", "--format", "{{.Id}}", tag, check=False
    ).stdout.strip()


HEARING = (
    "env",
    "--default-signal=INT",
)  # what a shell starts in the background is deaf to Ctrl-C; so may we be


def leftovers() -> list[str]:
    return docker(
        "ps", "--all", "--quiet", "--filter", "label=dev.envbuilder.run"
    ).stdout.split()


def test_the_image_has_earned_its_tag(image: Image) -> None:
    receipt = image.outcome["receipt"]
    assert image.tag.startswith("envbuilder:cu117-torch2.0.1-")
    assert image_of(image.tag) == image.id
    assert (receipt["image"], receipt["verdict"]) == (image.id, "passed")
    by_id = {check["id"]: check for check in receipt["checks"]}
    assert by_id["training.accuracy"]["value"] >= 0.95
    assert by_id["training.negated"]["value"] >= 0.95
    assert by_id["identity.labels"]["status"] == "passed"
    assert {check["status"] for check in receipt["checks"]} <= {"passed", "not_run"}


def test_receipt_contains_training_results(image: Image) -> None:
    training = image.outcome["receipt"]["training"]
    assert len(training["losses"]) == training["steps"] == 252
    assert training["losses"][0] > 5 * training["loss"]
    assert training["samples_per_second"] > 0
    assert training["peak_memory_bytes"] > 100_000_000
    written = [
        json.loads(path.read_text())
        for path in (image.site / "receipts").glob("*.json")
    ]
    assert image.outcome["receipt"] in written


def test_piped_output_is_plain_and_mentions_the_cpu(image: Image) -> None:
    assert "\x1b" not in image.talk
    assert f"receipt: receipts/{image.tag.removeprefix('envbuilder:')}" in image.talk
    assert "running on the CPU" in image.talk or "GPUs with" in image.talk


def test_second_build_is_quick_and_downloads_nothing(image: Image) -> None:
    again = envbuilder("build", "--cuda", CUDA, "--json", cwd=image.site)
    assert again.code == 0, again.err
    outcome = again.json()
    assert outcome["image"] == image.id
    assert outcome["cached_steps"] >= outcome["steps"] - 2
    assert "already accepted on" in again.err


def test_the_lock_builds_the_same_image(image: Image) -> None:
    lock = next((image.site / "build").glob("images/*/envbuilder.lock"))
    answer = envbuilder("build", "--lock", str(lock), "--json", cwd=image.site)
    assert answer.code == 0, answer.err
    assert answer.json()["image"] == image.id


def test_the_committed_preset_builds_without_envbuilder(image: Image) -> None:
    """The very command at the top of its Dockerfile finds every layer that `envbuilder build` made: one layout."""
    context = ROOT / "docker"
    text = (context / "images" / image.tag.split(":")[1] / "Dockerfile").read_text()
    said = re.search(
        r"^#   docker (buildx build .*) --tag my-image \.$", text, re.MULTILINE
    )
    assert said, "the command at the top"
    done = docker(*said[1].split(), "--quiet", ".", cwd=context)
    assert done.stdout.strip() == image.id


def test_builder_gets_only_files_of_one_dockerfile(tmp_path: Path) -> None:
    """By the builder's word: `Dockerfile.dockerignore` counts, and all that it lets through is copied out again."""
    locks = sorted((ROOT / "docker" / "images").glob("*/envbuilder.lock"))[:2]
    for lock in locks:
        assert (
            envbuilder(
                "render", "--lock", str(lock), "--output", "docker", cwd=tmp_path
            ).code
            == 0
        )
    docker_folder, place = tmp_path / "docker", f"images/{locks[0].parent.name}"
    wanted = {
        path.relative_to(docker_folder)
        for path in docker_folder.rglob("*")
        if path.is_file()
    }
    wanted = {
        path
        for path in wanted
        if not str(path).startswith(f"images/{locks[1].parent.name}")
    }
    for name in (
        "notes.txt",
        "notebook/Dockerfile",
        "payload/__pycache__/a.pyc",
        "payload/acceptance/checks/__pycache__/a.pyc",
    ):
        (docker_folder / name).parent.mkdir(exist_ok=True)
        (docker_folder / name).write_text("not for the builder\n")
    (docker_folder / place / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    out = tmp_path / "out"
    docker(
        "buildx",
        "build",
        "--output",
        str(out),
        "--file",
        str(docker_folder / place / "Dockerfile"),
        str(docker_folder),
    )
    assert {
        path.relative_to(out) for path in out.rglob("*") if path.is_file()
    } == wanted


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A copy of this checkout whose suite nothing can pass."""
    copy = tmp_path / "strict"
    for name in ("envbuilder", "docker", "templates"):
        shutil.copytree(
            ROOT / name,
            copy / name,
            ignore=shutil.ignore_patterns("__pycache__", "images"),
        )
    bounds = copy / "docker" / "payload" / "acceptance" / "bounds.json"
    bounds.write_text(
        bounds.read_text().replace(
            '"training.accuracy": {"min": 0.95}', '"training.accuracy": {"min": 1.01}'
        )
    )
    return copy


@pytest.mark.exhaustive
def test_an_image_that_fails_gets_no_tag_and_takes_none(
    image: Image, strict: Path
) -> None:
    before = set(docker("images", "--quiet", "--no-trunc", "--all").stdout.split())
    answer = envbuilder("build", "--cuda", CUDA, cwd=strict, PYTHONPATH=str(strict))
    assert answer.code == 7, answer.err
    assert "training.accuracy" in answer.err
    assert "(at least 1.01)" in answer.err
    assert image_of(image.tag) == image.id
    kept = answer.err.rsplit("sha256:", 1)[1][:64]
    assert (
        f"sha256:{kept}"
        in set(docker("images", "--quiet", "--no-trunc", "--all").stdout.split())
        - before
    )
    docker("rmi", f"sha256:{kept}")


def test_ctrl_c_leaves_nothing(image: Image) -> None:
    process = subprocess.Popen(
        [*HEARING, sys.executable, "-m", "envbuilder", "build", "--cuda", CUDA, "--fresh"],
        cwd=image.site, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(leftovers, "the suite never started")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert leftovers() == []
    assert image_of(image.tag) == image.id


def test_next_run_removes_leftovers_of_a_killed_run(image: Image) -> None:
    made = docker(
        "create", "--label", f"dev.envbuilder.run={platform.node()}:999999:1", image.id
    ).stdout.strip()
    envbuilder("accept", "envbuilder:there-is-none", cwd=image.site)
    assert made[:12] not in leftovers()


def test_ctrl_c_in_the_middle_of_a_build_leaves_nothing(
    image: Image, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*HEARING, sys.executable, "-m", "envbuilder", "build", "--cuda", CUDA, "--no-cache"],
        cwd=image.site, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    logs = image.site / "build" / "logs"
    before = set(logs.iterdir())

    def builds() -> bool:
        return any(
            "useradd" in path.read_text() for path in set(logs.iterdir()) - before
        )

    wait_until(builds, "the build never started")
    assert list(tmp_path.iterdir())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []
    assert image_of(image.tag) == image.id


def test_the_engine_that_runs_is_used_as_it_is() -> None:
    done = subprocess.run(
        [str(ROOT / "tools" / "engine"), "up"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("using the Docker engine that is running")
    assert subprocess.run(
        [str(ROOT / "tools" / "engine"), "status"], capture_output=True, check=True
    ).stdout
    wrong = subprocess.run(
        [str(ROOT / "tools" / "engine"), "jump"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 2
