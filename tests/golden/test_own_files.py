"""What envbuilder renders for this repository itself is not stale; `envbuilder render` writes it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from envbuilder import cli

ROOT = Path(__file__).parents[2]


Check = Callable[[Path], tuple[int, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`envbuilder render --check` in a folder: exit code and stderr."""

    def call(folder: Path) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        return cli.run(["render", "--check"]), capsys.readouterr().err

    return call


def test_committed_files_match_their_rendering(check: Check) -> None:
    assert check(ROOT) == (0, "")


def test_edited_file_is_detected(tmp_path: Path, check: Check) -> None:
    names = [
        "envbuilder.toml",
        ".devcontainer",
        ".github",
        ".env.example",
        "docker",
        "docker-bake.hcl",
    ]
    names += [path.name for path in ROOT.glob("compose*.yaml")]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, path)
    with (tmp_path / ".github/workflows/ci.yml").open("a") as stream:
        stream.write("# edited\n")
    assert check(tmp_path) == (1, "stale: .github/workflows/ci.yml\n")
