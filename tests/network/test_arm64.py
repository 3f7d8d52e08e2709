"""linux/arm64 against the real index: the lines that the catalog gives it have every wheel there."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from envbuilder import catalog
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Layer

ROOT = Path(__file__).parents[2]
BUILDS = [
    b
    for b in catalog.load().torch
    if b.index == "pypi" and "linux/arm64" in b.platforms
]
LINES = {f"{b.cuda.major}.{b.cuda.minor}": str(b.torch) for b in BUILDS}
"""The newest torch of each CUDA that has wheels for it."""


def test_there_are_lines() -> None:
    assert {"13.0", "13.2"} <= LINES.keys()


@pytest.mark.parametrize("torch", LINES.values())
def test_a_line_is_locked_with_cuda_wheels_for_it(tmp_path: Path, torch: str) -> None:
    words = [
        sys.executable,
        "-m",
        "envbuilder",
        "lock",
        "--torch",
        torch,
        "--platform",
        "linux/arm64",
    ]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lock = parse_lock((tmp_path / LOCK_FILE).read_text(), source=torch)
    assert not [wheel.file for wheel in lock.wheels if "x86_64" in wheel.file]
    compiled = [
        wheel.name
        for wheel in lock.wheels
        if "aarch64" in wheel.file and wheel.layer is Layer.NVIDIA
    ]
    assert {"nvidia-cublas", "nvidia-nccl-cu13"} <= set(compiled)


@pytest.mark.parametrize(
    ("processor", "says"), [("x86_64", b"\x3e\x00"), ("aarch64", b"\xb7\x00")]
)
def test_the_build_gets_a_uv_for_its_machine(
    tmp_path: Path, processor: str, says: bytes
) -> None:
    """The hashes of docker/install/uv.txt; bytes 18 and 19 of an ELF file name the machine."""
    words = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--no-config",
        "--quiet",
        "--target",
        str(tmp_path),
    ]
    words += [
        "--python-version",
        platform.python_version(),
        "--python-platform",
        f"{processor}-manylinux_2_28",
    ]
    words += [
        "--require-hashes",
        "--requirement",
        str(ROOT / "docker" / "install" / "uv.txt"),
    ]
    subprocess.run(words, check=True, timeout=300)
    assert (tmp_path / "bin" / "uv").read_bytes()[18:20] == says
