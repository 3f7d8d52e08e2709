"""What envbuilder renders for this repository itself is not stale; `envbuilder render` writes it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "envbuilder", "render", "--check"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_the_repositorys_own_files_are_what_would_be_rendered() -> None:
    done = check(ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_was_edited_by_hand_is_found(tmp_path: Path) -> None:
    names = ["envbuilder.toml", ".devcontainer", ".github", ".env.example", "docker", "docker-bake.hcl"]
    names += [path.name for path in ROOT.glob("compose*.yaml")]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, path)
    with (tmp_path / ".github/workflows/ci.yml").open("a") as stream:
        stream.write("# edited\n")
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (1, "stale: .github/workflows/ci.yml\n")
