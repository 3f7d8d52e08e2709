"""The README's figures are the bench's, and its commands exist."""

import re
from pathlib import Path

import pytest

from envbuilder.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


PAGES = {
    "results.md": "README.md",
    "steady.md": "README.md",
    "train.md": "README.md",
    "scale.md": "docs/how-to/distributed-training.md",
}


@pytest.mark.parametrize("name", PAGES)
def test_benchmark_figures_match_the_benchmark(name: str) -> None:
    text = (ROOT / PAGES[name]).read_text()
    shown = re.search(
        rf"<!-- bench/{name} -->\n(.*)<!-- /bench/{name} -->", text, re.DOTALL
    )
    assert shown
    written = (ROOT / "bench" / name).read_text()
    assert shown[1].strip() in (written.strip(), written.split("\n")[0])


def test_linked_pages_and_pictures_exist() -> None:
    for path in re.findall(r"\]\((docs/[^)]*)\)", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "name",
    ["README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"],
)
def test_links_of_the_pages_at_the_root_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text())
    broken = [
        target
        for target in targets
        if "://" not in target and not (ROOT / target).exists()
    ]
    assert broken == []


def test_the_chinese_readme_names_commands_that_exist() -> None:
    assert set(
        re.findall(r"`envbuilder ([a-z]+)", (ROOT / "README.zh.md").read_text())
    ) <= set(COMMANDS)


def test_readme_names_exactly_the_commands() -> None:
    assert set(re.findall(r"`envbuilder ([a-z]+)", README)) == set(COMMANDS)


def test_paths_in_the_readme_exist() -> None:
    for path in re.findall(
        r"`((?:docs|docker|tools|bench|envbuilder|templates)/[^`*]*)`", README
    ):
        assert (ROOT / path).exists(), path
