"""Locking against the real index: the committed locks are what comes out, whatever the surroundings say."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from envbuilder.lock import parse_lock
from envbuilder.model import BaseSource

PRESETS = sorted((Path(__file__).parents[2] / "docker" / "images").iterdir())
BOOTSTRAP = next(preset for preset in PRESETS if preset.name.endswith("debian11"))
HOSTILE = {
    "PIP_INDEX_URL": "https://index.invalid/simple",
    "PIP_CONSTRAINT": "/dev/null/constraints.txt",
    "PIP_PRE": "1",
    "UV_INDEX_URL": "https://index.invalid/simple",
    "UV_EXTRA_INDEX_URL": "https://index.invalid/simple",
    "UV_EXCLUDE_NEWER": "2021-01-01",
    "UV_PRERELEASE": "allow",
    "UV_RESOLUTION": "lowest",
    "UV_CONSTRAINT": "/dev/null/constraints.txt",
}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def lock(tmp_path: Path, *words: str, **env: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "envbuilder", "lock", *(words if "--cuda" in words else ("--cuda", "11.7", *words))],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, **env}, timeout=300,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_the_committed_lock_comes_out_again_byte_for_byte(tmp_path: Path, preset: Path) -> None:
    stack = parse_lock((preset / "envbuilder.lock").read_text(), source=preset.name).stack
    words = ["--cuda", stack.cuda_line, "--torch", str(stack.torch), "--flavour", stack.flavour]
    words += ["--base", "bootstrap"] if stack.base.source is BaseSource.BOOTSTRAP else []
    answer = lock(tmp_path, *words)
    assert answer.code == 0, answer.err
    assert (tmp_path / "envbuilder.lock").read_text() == (preset / "envbuilder.lock").read_text()


def test_ambient_settings_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text('exclude-newer = "2021-01-01T00:00:00Z"\n')
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://index.invalid/simple\n")
    hostile = {**HOSTILE, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    answer = lock(tmp_path, "--base", "bootstrap", **hostile)
    assert answer.code == 0, answer.err
    assert (tmp_path / "envbuilder.lock").read_text() == (BOOTSTRAP / "envbuilder.lock").read_text()


def test_a_package_of_ones_own_is_resolved_with_the_stack(tmp_path: Path) -> None:
    answer = lock(tmp_path, "--base", "bootstrap", "--package", "peft", "--format", "requirements", "-o", "-")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert any(line.startswith("peft==") for line in lines)
    assert any(line.startswith("torch==2.0.1 ") for line in lines)


@pytest.mark.parametrize(
    ("package", "culprit"),
    [("torch==2.6.0", "torch==2.6.0"), ("numpy>=2", "numpy>=2"), ("transformers>=4.50", "transformers>=4.50")],
)
def test_a_clash_names_its_culprit(tmp_path: Path, package: str, culprit: str) -> None:
    answer = lock(tmp_path, "--base", "bootstrap", "--package", "tqdm", "--package", package)
    assert answer.code == 4
    assert answer.err.startswith(f"error: {culprit} cannot be installed beside torch 2.0.1 for CUDA 11.7")
    assert not (tmp_path / "envbuilder.lock").exists()


def test_an_index_that_cannot_be_reached_is_exit_6(tmp_path: Path) -> None:
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    answer = lock(tmp_path, "--index-url", "https://index.invalid/simple", **cache)
    assert answer.code == 6
    assert "the package index cannot be reached" in answer.err
    assert not (tmp_path / "envbuilder.lock").exists()


def test_a_lost_earlier_lock_is_worse_than_none(tmp_path: Path) -> None:
    (tmp_path / "envbuilder.lock").write_text("the one that worked\n")
    assert lock(tmp_path, "--package", "numpy>=2").code == 4
    assert (tmp_path / "envbuilder.lock").read_text() == "the one that worked\n"
