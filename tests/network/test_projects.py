"""Three of the projects, locked from the package index."""

from pathlib import Path

import pytest

import projects

SAMPLES = {sample.name: sample for sample in projects.read_projects()}


@pytest.mark.parametrize(
    "name", ["four-bit-tuning", "inference-server", "audio-tagging"]
)
def test_a_project_locks(name: str, tmp_path: Path) -> None:
    code, said = projects.lock(SAMPLES[name], tmp_path)
    assert code == 0, said
    lock = (tmp_path / name / "envbuilder.lock").read_text()
    if name == "inference-server":
        assert '"accelerate==0.26.1"' in lock  # of its constraints file
        assert '"accelerate-0.26.1-py3-none-any.whl"' in lock
