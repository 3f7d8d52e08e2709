"""`.github/workflows/ci.yml`: every action pinned, no permission that is not needed, by a linter's word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from marks import few
from presets import read_preset

from envbuilder.errors import UsageError
from envbuilder.render import project
from envbuilder.render.targets import render_targets

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
NAME = ".github/workflows/ci.yml"
COMMITTED = sorted((ROOT / ".github/workflows").glob("*.yml"))
BOTH = pytest.mark.parametrize(
    "settings", [{}, {"make": "lint fast test"}], ids=["envbuilder", "make"]
)


def rendered(settings: dict[str, str]) -> str:
    lock = read_preset(LOCK)
    return render_targets(project.describe(lock, settings=settings), "workflow").files[
        NAME
    ]


def zizmor(*paths: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "zizmor"
    words = [str(program), "--offline", "--no-progress", "--persona", "auditor"]
    words += map(str, paths)
    return subprocess.run(words, capture_output=True, text=True, check=False)


def written(text: str, folder: Path) -> Path:
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.slow
@BOTH
def test_zizmor_reports_nothing(settings: dict[str, str], tmp_path: Path) -> None:
    done = zizmor(written(rendered(settings), tmp_path))
    assert done.returncode == 0, done.stdout


def test_zizmor_accepts_the_committed_workflows() -> None:
    done = zizmor(*COMMITTED)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_workflows_pin_actions_and_limit_time(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (.*)", text)
    assert all(
        re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9.]+", line) for line in uses
    )
    assert text.count("timeout-minutes:") == text.count("runs-on:")
    assert "secrets." not in text


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    few(
        [
            (r"@[0-9a-f]{40} # v7.0.1", "@v7", "unpinned-uses"),
            (r"persist-credentials: false", "fetch-depth: 1", "artipacked"),
            (r"permissions: {}\n", "permissions: write-all\n", "excessive-permissions"),
            (r"  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
        ]
    ),
)
def test_zizmor_detects_an_error(
    old: str, new: str, finding: str, tmp_path: Path
) -> None:
    spoilt = re.sub(old, new, rendered({}))
    assert finding in zizmor(written(spoilt, tmp_path)).stdout


@BOTH
def test_actions_are_pinned_and_jobs_have_an_end(settings: dict[str, str]) -> None:
    text = rendered(settings)
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert all(
        re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v[0-9.]+", line) for line in uses
    )
    assert text.count("timeout-minutes:") == text.count("runs-on:")
    assert "\npermissions: {}\n" in text
    assert "secrets." not in text


def test_with_make_a_job_only_calls_make() -> None:
    runs = re.findall(r"run: (.*)", rendered({"make": "lint fast test"}))
    assert runs == ["make lint", "make fast", "make test"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_make_targets_of_this_repository_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"run: make (.*)", path.read_text())
    assert targets
    for target in targets:
        assert re.search(rf"(?m)^{target}:", makefile), target


def test_workflows_cover_the_supported_pythons() -> None:
    matrix = re.search(
        r"python: \[(.*)\]", (ROOT / ".github/workflows/python.yml").read_text()
    )
    classifiers = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"',
        (ROOT / "pyproject.toml").read_text(),
    )
    assert matrix
    assert re.findall(r"3\.\d+", matrix[1]) == classifiers


def test_repository_names_the_source_of_envbuilder() -> None:
    assert "ENVBUILDER: ${{ vars.ENVBUILDER }}" in rendered({})
    assert (
        'ENVBUILDER: "torch-envbuilder @ git+ssh://host/torch-envbuilder@0123"'
        in rendered(
            {"envbuilder": "torch-envbuilder @ git+ssh://host/torch-envbuilder@0123"}
        )
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"make": "lint;id"},
        {"make": "$(id)"},
        {"envbuilder": "${{ secrets.X }}"},
        {"envbuilder": "a\nb"},
    ],
)
def test_a_setting_cannot_become_an_instruction(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        rendered(settings)
