"""The tool as people install it: from a wheel and editable, both find templates, payload and facts."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[2]
PRESET = sorted((ROOT / "docker" / "images").iterdir())[0]


def run(*words: str, cwd: Path = ROOT) -> str:
    bundle = (
        os.environ.get("SSL_CERT_FILE")
        or os.environ.get("PIP_CERT")
        or "/etc/ssl/certs/ca-certificates.crt"
    )
    env = {**os.environ, "SSL_CERT_FILE": bundle}
    done = subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=env,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(
        uv.find_uv_bin(),
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "-o",
        str(folder),
    )
    return next(folder.glob("*.whl"))


def test_wheel_contains_all_resources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "templates/debian/Dockerfile.j2",
        "payload/train/job.py",
        "payload/entrypoint",
        "install/trim.txt",
    ):
        assert f"envbuilder/_data/{name}" in names
    assert "envbuilder/catalog/facts/torch.json" in names
    assert "envbuilder/catalog/policy.toml" in names
    assert not [name for name in names if "examples" in name]


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_installed_tool_renders_the_committed_preset(
    wheel: Path, tmp_path: Path, way: str
) -> None:
    environment = tmp_path / "env"
    run(
        uv.find_uv_bin(),
        "venv",
        "--quiet",
        "--python",
        sys.executable,
        str(environment),
    )
    what = ["--editable", str(ROOT)] if way == "editable" else [str(wheel)]
    run(
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--python",
        str(environment / "bin/python"),
        *what,
    )
    command = str(environment / "bin" / "envbuilder")
    run(
        command,
        "render",
        "--lock",
        str(PRESET / "envbuilder.lock"),
        "--output",
        str(ROOT / "docker"),
        "--check",
        cwd=tmp_path,
    )
    assert "CUDA" in run(command, "resolve", "--cuda", "11.7", cwd=tmp_path)
