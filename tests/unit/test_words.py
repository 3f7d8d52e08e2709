"""The English of messages, comments and documentation: the field's words, and decisions of one page."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # `make lint` runs it

ROOT = Path(__file__).parents[2]
PLACES = (
    *(
        "envbuilder",
        "docker/payload",
        "docker/install",
        "docker/devel",
        "docker/probe",
        "docker/notebook",
        "templates",
    ),
    *("docs", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ".github"),
)
INSTEAD = {
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bcannot be had\b": "cannot be loaded, is not available",
    r"\bstands? in the way\b": "refusing to overwrite",
    r"\bof (?:your|one's) own\b": "your own, custom",
    r"\bat hand\b": "available",
    r"\bbeside\b": "next to, in addition to",
    r"\btold\b": "reported, printed",
    r"\basked for\b": "requested",
    r"\bin vain\b": "without success",
    r"\bmeans? nothing\b": "invalid, unknown",
    r", as [0-9]": "e.g.",
    r"\bby `--": "with `--",
}
WORDS = re.compile("|".join(INSTEAD), re.IGNORECASE)
TEXT = {
    "",
    ".py",
    ".md",
    ".j2",
    ".toml",
    ".txt",
    ".js",
    ".css",
    ".html",
    ".yaml",
    ".yml",
}
ALLOWED = {
    "envbuilder/catalog/rulings.toml",  # quotes its sources
    "docs/reference/matrix.md",  # shows the reasons of receipts, as they were written
    "docker/payload/train/reviews.py",  # the texts of the training
    "docker/install/trim.txt",  # in every wheel layer: a change of a word builds them all again
    "docker/devel/keep.txt",  # likewise
}

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def texts_of(path: Path) -> Iterator[str]:
    """What people read in a file: of Python the comments and strings, without the names in an f-string."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if (
            token.type in {tokenize.COMMENT, tokenize.STRING}
            or "FSTRING_MIDDLE" in tokenize.tok_name[token.type]
        ):
            yield re.sub(r"\{[^{}]*\}", "", token.string)


def words_of(path: Path) -> list[str]:
    return [
        found
        for text in texts_of(path)
        for found in WORDS.findall(" ".join(text.split()))
    ]


def files() -> list[Path]:
    """Facts and receipts are data; the Chinese pages have words of another language."""
    found = []
    for place in PLACES:
        top = ROOT / place
        found += [
            path
            for path in ([top] if top.is_file() else sorted(top.rglob("*")))
            if path.is_file()
        ]
    return [
        path
        for path in found
        if path.suffix in TEXT and "__pycache__" not in path.parts
    ]


def test_texts_use_the_words_of_the_field() -> None:
    found = {}
    for path in files():
        name = str(path.relative_to(ROOT))
        words = words_of(path)
        if words and name not in ALLOWED:
            found[name] = words
    assert found == {}, f"use instead: {INSTEAD}"


@pytest.mark.parametrize(
    "text",
    ["# mend it", 'f"{told} is told"', '"CUDA, as 11.7"', '"""Lies beside it."""'],
)
def test_banned_words_are_detected(tmp_path: Path, text: str) -> None:
    (tmp_path / "module.py").write_text(text + "\n")
    assert len(words_of(tmp_path / "module.py")) == 1


def test_names_in_code_are_not_words(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('beside = told = ""\nprint(f"{told}")\n')
    assert words_of(tmp_path / "module.py") == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_one_page(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 45
    assert [line for line in lines if len(line) > 120] == []
    headings = [line for line in lines if line.startswith("## ")]
    assert (headings[:2], headings[-1]) == (
        ["## Context", "## Decision"],
        "## Consequences",
    )
