"""The English of messages, comments and documentation: the field's words, and decisions of one page."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (
    *("envbuilder", "docker/payload", "docker/install", "docker/devel", "docker/probe", "docker/notebook", "templates"),
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
TEXT = {"", ".py", ".md", ".j2", ".toml", ".txt", ".js", ".css", ".html", ".yaml", ".yml"}
ALLOWED = {
    "envbuilder/catalog/rulings.toml",  # quotes its sources
    "docs/reference/matrix.md",  # shows the reasons of receipts, as they were written
}
# Files that still have such words, and how many. A number may only become smaller; at 0 the line goes.
STILL_OPEN: dict[str, int] = {
    "envbuilder/acceptance/inspect_image.py": 1,
    "envbuilder/acceptance/suite.py": 1,
    "envbuilder/catalog/__init__.py": 5,
    "envbuilder/catalog/policy.toml": 2,
    "envbuilder/catalog/rows.py": 3,
    "envbuilder/cli/__init__.py": 2,
    "envbuilder/cli/accept_command.py": 3,
    "envbuilder/cli/base_command.py": 2,
    "envbuilder/cli/catalog_command.py": 1,
    "envbuilder/cli/doctor_command.py": 4,
    "envbuilder/cli/init_command.py": 3,
    "envbuilder/cli/render_command.py": 2,
    "envbuilder/cli/shared_options.py": 15,
    "envbuilder/config.py": 10,
    "envbuilder/engine/build_process.py": 1,
    "envbuilder/engine/container_spec.py": 1,
    "envbuilder/engine/docker_client.py": 2,
    "envbuilder/engine/gpu_access.py": 2,
    "envbuilder/engine/run_id.py": 1,
    "envbuilder/files.py": 5,
    "envbuilder/format/stack_text.py": 1,
    "envbuilder/host/records.py": 1,
    "envbuilder/lock/__init__.py": 2,
    "envbuilder/model.py": 1,
    "envbuilder/render/context.py": 3,
    "envbuilder/render/project.py": 3,
    "envbuilder/render/targets/devcontainer.py": 1,
    "docker/payload/acceptance/checks/linkage.py": 1,
    "docker/payload/bin/launch": 1,
    "docker/payload/train/data.py": 1,
    "docker/payload/train/job.py": 1,
    "docker/payload/train/record.py": 1,
    "docker/payload/train/reviews.py": 1,
    "docker/install/trim.txt": 1,
    "docker/devel/keep.txt": 1,
    "templates/bake/docker-bake.hcl.j2": 2,
    "templates/catalog/page.js": 2,
    "templates/debian/Dockerfile.j2": 1,
    "docs/measurements/chaos.md": 4,
}


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def texts_of(path: Path) -> Iterator[str]:
    """What people read in a file: of Python the comments and strings, without the names in an f-string."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} or "FSTRING_MIDDLE" in tokenize.tok_name[token.type]:
            yield re.sub(r"\{[^{}]*\}", "", token.string)


def words_of(path: Path) -> list[str]:
    return [found for text in texts_of(path) for found in WORDS.findall(" ".join(text.split()))]


def files() -> list[Path]:
    """Facts and receipts are data; the Chinese pages have words of another language."""
    found = []
    for place in PLACES:
        top = ROOT / place
        found += [path for path in ([top] if top.is_file() else sorted(top.rglob("*"))) if path.is_file()]
    return [path for path in found if path.suffix in TEXT and "__pycache__" not in path.parts]


def test_texts_use_the_words_of_the_field() -> None:
    found = {str(path.relative_to(ROOT)): words_of(path) for path in files()}
    more = {
        name: words for name, words in found.items() if name not in ALLOWED and len(words) > STILL_OPEN.get(name, 0)
    }
    assert not more, f"use instead: {INSTEAD}"


def test_the_list_of_open_files_only_shrinks() -> None:
    done = [name for name in STILL_OPEN if not (ROOT / name).exists() or not words_of(ROOT / name)]
    assert done == [], "take these lines out of STILL_OPEN"


@pytest.mark.parametrize("text", ["# mend it", 'f"{told} is told"', '"CUDA, as 11.7"', '"""Lies beside it."""'])
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
    assert (headings[:2], headings[-1]) == (["## Context", "## Decision"], "## Consequences")
