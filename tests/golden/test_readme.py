"""The README's figures are the bench's, and its commands exist."""

import re
from pathlib import Path

from envbuilder.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_figures_are_the_bench_s() -> None:
    shown = re.search(r"<!-- bench/results.md -->\n(.*)<!-- /bench/results.md -->", README, re.DOTALL)
    assert shown
    assert shown[1].strip() == (ROOT / "bench" / "results.md").read_text().strip()


def test_every_command_is_in_the_readme_and_none_else() -> None:
    assert set(re.findall(r"`envbuilder ([a-z]+)", README)) == set(COMMANDS)


def test_every_path_it_names_is_there() -> None:
    for path in re.findall(r"`((?:docs|docker|tools|bench|envbuilder|templates)/[^`*]*)`", README):
        assert (ROOT / path).exists(), path
