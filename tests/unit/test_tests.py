"""The tests' own rules: none depends on how busy the machine is, or on existing files."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import settings

pytestmark = pytest.mark.slow  # `make lint` runs it

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
CLOCKS = {
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "sleep",
}
READ_CLOCKS = {
    TESTS / "waiting.py",  # the one that waits
    TESTS / "index_server.py",  # is slow when a test asks it to be
    TESTS
    / "container"
    / "variants.py",  # runs in an image, and writes how long a training took
}


def clocks_read(tree: ast.AST) -> set[str]:
    """The functions of `time` that a module calls, or imports by their names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {alias.name for alias in node.names}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "time"
        ):
            found.add(node.attr)
    return found & CLOCKS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_measures_or_sleeps(path: Path) -> None:
    text = path.read_text()
    if path not in READ_CLOCKS and re.search(r"\btime\b", text):
        assert not clocks_read(ast.parse(text)), (
            "wait with waiting.wait_until; measure in bench/"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_names_of_tests_have_at_most_ten_words(path: Path) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [
        name for name in names if name.startswith("test_") and len(name.split("_")) > 11
    ] == []


@pytest.mark.parametrize(
    "line",
    ["import time; time.monotonic()", "from time import sleep", "f(time.perf_counter)"],
)
def test_clock_functions_are_detected(line: str) -> None:
    assert clocks_read(ast.parse(line))


def test_tests_do_not_rely_on_paths_being_absent() -> None:
    name = "/" + "nonexistent"
    texts = [*FILES, *TESTS.rglob("*.json")]
    assert [
        str(path.relative_to(TESTS)) for path in texts if name in path.read_text()
    ] == []


def test_hypothesis_gives_every_example_all_the_time_that_it_needs() -> None:
    assert settings().deadline is None
