"""The wheel and the sdist, installed outside the checkout, build the same image."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import uv

from .engine import Image

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "templates": "templates",
    "docker/payload": "payload",
    "docker/install": "install",
    "docker/devel": "devel",
}


def run(*words: str, cwd: Path, **variables: str) -> str:
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")  # the checkout must not be found by either
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    bundle = (
        environ.get("SSL_CERT_FILE")
        or environ.get("PIP_CERT")
        or "/etc/ssl/certs/ca-certificates.crt"
    )
    environ |= {"SSL_CERT_FILE": bundle, **variables}
    done = subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    words = (
        "--no-config",
        "--quiet",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        str(folder),
    )
    run(uv.find_uv_bin(), "build", *words, cwd=ROOT)
    return folder


def committed(folder: str) -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_both_carry_every_template_and_payload_file(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        in_sdist = {name.split("/", 1)[1] for name in archive.getnames()}
    in_wheel = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    for folder, name in FOLDERS.items():
        files = committed(folder)
        assert files
        assert files <= in_sdist
        assert {
            f"envbuilder/_data/{name}{file.removeprefix(folder)}" for file in files
        } <= in_wheel
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= in_sdist
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in in_wheel)
    assert "envbuilder/py.typed" in in_wheel


def test_the_installed_wheel_builds_the_same_image(
    dist: Path, image: Image, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    run(
        uv.find_uv_bin(),
        "venv",
        "--quiet",
        "--no-config",
        "--python",
        sys.executable,
        str(environment),
        cwd=tmp_path,
    )
    python = str(environment / "bin/python")
    wheel = str(next(dist.glob("*.whl")))
    run(
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--python",
        python,
        wheel,
        cwd=tmp_path,
    )

    where = run(
        python, "-c", "import envbuilder; print(envbuilder.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(environment)

    command = str(environment / "bin/torch-envbuilder")
    lock = next((image.site / "build").glob("images/*/envbuilder.lock"))
    # The receipts of the image under test: the suite need not run a second time.
    state = str(image.site.with_name(f"{image.site.name}-state"))
    answer = run(
        command,
        "build",
        "--lock",
        str(lock),
        "--json",
        cwd=tmp_path,
        ENVBUILDER_STATE_DIR=state,
    )
    outcome = json.loads(answer)
    assert outcome["image"] == image.id
    assert outcome["cached_steps"] >= outcome["steps"] - 2
    assert (tmp_path / "build/images").is_dir()
