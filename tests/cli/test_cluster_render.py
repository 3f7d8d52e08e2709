"""`envbuilder render --target kubernetes --target slurm`, as people call it."""

from pathlib import Path

from .conftest import Run

LOCK = sorted(
    (Path(__file__).parents[2] / "docker" / "images").glob("*/envbuilder.lock")
)[-1]
RENDER = ("render", "--lock", str(LOCK), "--target", "kubernetes", "--target", "slurm")


def test_files_are_written_and_checked(run: Run, tmp_path: Path) -> None:
    written = run(*RENDER, "--set", "nodes=4")
    assert written.code == 0, written.err
    found = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == {
        "kubernetes/README.md",
        "kubernetes/job.yaml",
        "kubernetes/storage.yaml",
        "kubernetes/trainjob.yaml",
        "slurm/train.sbatch",
    }
    assert (tmp_path / "slurm" / "train.sbatch").stat().st_mode & 0o111
    assert run(*RENDER, "--set", "nodes=4", "--check").code == 0
    stale = run(*RENDER, "--set", "nodes=3", "--check")
    assert stale.code == 1
    assert "stale: kubernetes/job.yaml" in stale.err


def test_a_setting_without_a_value_is_refused(run: Run, tmp_path: Path) -> None:
    answer = run(*RENDER, "--set", "nodes")
    assert answer.code == 2
    assert "hint: write it as `--set NAME=VALUE`" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_no_target_has_is_refused(run: Run, tmp_path: Path) -> None:
    answer = run(*RENDER, "--set", "node=4")
    assert answer.code == 2
    assert "unknown setting 'node'" in answer.err
