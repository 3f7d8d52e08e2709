"""The mutation run: its list is true, its machinery works, and a few of its mutants are noticed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mutate
import mutation_report
from mutation import FOLDER, Mutant, MutantError, automatic, excuse, hand_made, sample
from mutation_tree import Tree

SOURCE = """import re

LIMIT = 3


def small(number: int | None) -> bool:
    return number is not None and number < LIMIT
"""


def first_of_each_file(mutants: list[Mutant]) -> Iterator[Mutant]:
    seen = set()
    for mutant in mutants:
        if mutant.file not in seen:
            seen.add(mutant.file)
            yield mutant


@pytest.mark.slow
def test_every_mutant_changes_the_program() -> None:
    """`hand_made` raises for one that is not; the list cannot rot."""
    assert hand_made() == hand_made(parse=False)


def test_every_entry_occurs_once_in_its_file() -> None:
    """`hand_made` raises for one that does not; the list cannot rot."""
    mutants = hand_made(parse=False)
    assert len(mutants) >= 80
    assert {mutant.file for mutant in mutants} >= {
        "envbuilder/lock/creation.py",
        "envbuilder/resolve/parsers.py",
        "envbuilder/resolve/rules.py",
    }
    assert all(mutant.diff and mutant.tests for mutant in mutants)


def test_every_excuse_is_of_a_line_that_exists() -> None:
    assert excuse([]) == []
    assert (FOLDER / "excused.toml").is_file()


def test_configured_files_and_tests_exist() -> None:
    groups, size, seed = mutate.read_config()
    assert size > 0
    assert seed >= 0
    paths = [path for group in groups for path in (*group.files, *group.tests)]
    paths += [test.split("::")[0] for group in groups for test in group.without]
    assert [path for path in paths if not (mutate.ROOT / path).is_file()] == []


def project(folder: Path, entry: str) -> Path:
    (folder / "code.py").write_text(SOURCE)
    (folder / "test_code.py").touch()
    (folder / "list").mkdir()
    (folder / "list" / "code.toml").write_text(f"[[mutant]]\n{entry}\n")
    return folder / "list"


GOOD = 'name = "a"\nfile = "code.py"\nold = "number < LIMIT"\nnew = "number <= LIMIT"\ntests = ["test_code.py::test_a"]'


def test_an_entry_becomes_a_changed_file(tmp_path: Path) -> None:
    [mutant] = hand_made(project(tmp_path, GOOD), tmp_path)
    assert mutant.source == SOURCE.replace("<", "<=")
    assert (mutant.name, mutant.file, mutant.line, mutant.tests) == (
        "a",
        "code.py",
        7,
        ("test_code.py::test_a",),
    )
    assert mutant.diff.splitlines() == [
        "-    return number is not None and number < LIMIT",
        "+    return number is not None and number <= LIMIT",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("number < LIMIT", "number < 4", "`old` occurs 0 times in code.py, not once"),
        ("number < LIMIT", "number", "`old` occurs 3 times in code.py, not once"),
        (
            'new = "number <= LIMIT"',
            'new = "number < (LIMIT)"',
            "`new` is the same program as `old`",
        ),
        ('new = "number <= LIMIT"', 'new = "number <"', "`new` is not Python"),
        ('file = "code.py"', 'file = "gone.py"', "there is no gone.py"),
        ('["test_code.py::test_a"]', '["test_gone.py"]', "there is no test_gone.py"),
        ('["test_code.py::test_a"]', "[]", "it names no tests"),
        (
            'tests = ["test_code.py::test_a"]',
            "",
            "an entry has name, file, old, new and tests",
        ),
    ],
)
def test_an_entry_that_has_rotted_is_named(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(MutantError, match=r"code\.toml: a: ") as caught:
        hand_made(project(tmp_path, GOOD.replace(old, new, 1)), tmp_path)
    assert said in str(caught.value)


def test_two_entries_have_two_names(tmp_path: Path) -> None:
    with pytest.raises(MutantError, match="two entries have this name"):
        hand_made(project(tmp_path, f"{GOOD}\n\n[[mutant]]\n{GOOD}"), tmp_path)


@pytest.mark.slow
def test_automatic_mutants_skip_annotations_and_imports(tmp_path: Path) -> None:
    project(tmp_path, GOOD)
    made = [change.mutant(SOURCE) for change in automatic("code.py", tmp_path)]
    found = {
        tuple(line[1:].strip() for line in mutant.diff.splitlines()) for mutant in made
    }
    line = "return number is not None and number < LIMIT"
    assert found == {
        ("LIMIT = 3", "LIMIT = None"),
        ("LIMIT = 3", "LIMIT = 4"),
        (line, "return number is not None or number < LIMIT"),
        (line, "return number is None and number < LIMIT"),
        (line, "return number is not None and number <= LIMIT"),
    }


@pytest.mark.slow
def test_sample_depends_only_on_seed_and_mutant(tmp_path: Path) -> None:
    project(tmp_path, GOOD)
    changes = automatic("code.py", tmp_path)
    chosen = sample(changes, 2, 1, tmp_path)
    assert len(chosen) == 2
    assert chosen == sample(list(reversed(changes)), 2, 1, tmp_path)
    assert any(sample(changes, 2, seed, tmp_path) != chosen for seed in range(2, 9))
    (tmp_path / "code.py").write_text(
        SOURCE.replace("import re", "import os\nimport re")
    )
    later = sample(automatic("code.py", tmp_path), 2, 1, tmp_path)
    assert [mutant.diff for mutant in later] == [mutant.diff for mutant in chosen]


@pytest.mark.slow
def test_an_excuse_is_for_one_change_of_one_line(tmp_path: Path) -> None:
    folder = project(tmp_path, GOOD)
    row = '[[excused]]\nfile = "code.py"\nold = "LIMIT = 3"\nnew = "LIMIT = 4"\nwhy = "nobody can tell"\n'
    (folder / "excused.toml").write_text(row)
    made = [change.mutant(SOURCE) for change in automatic("code.py", tmp_path)]
    assert [
        mutant.excuse for mutant in excuse(made, folder, tmp_path) if mutant.excuse
    ] == ["nobody can tell"]
    (folder / "excused.toml").write_text(row.replace('"LIMIT = 3"', '"LIMIT = 5"'))
    with pytest.raises(MutantError, match="has no line 'LIMIT = 5'"):
        excuse(made, folder, tmp_path)


def test_tests_are_found_by_their_coverage_context() -> None:
    seconds = {
        "tests/unit/test_lock.py::test_a": 1.0,
        "tests/cli/test_lock.py::test_b": 9.0,
    }
    group = mutate.Group(name="x", files=(), tests=(), seconds=seconds)
    assert mutate._tests_of("test_lock.test_a", group) == {
        "tests/unit/test_lock.py::test_a"
    }
    assert mutate._tests_of("cli.test_lock.test_b", group) == {
        "tests/cli/test_lock.py::test_b"
    }
    assert mutate._tests_of("cli.test_lock.test_a", group) == set()
    assert mutate._tests_of("", group) == set()


def test_quick_tests_run_first_for_a_quarter_of_time() -> None:
    seconds = {"slow": 6.0, "quick": 0.5, "middle": 1.5, "other": 2.0}
    lines = {("code.py", 7): {"slow", "quick", "middle"}}
    group = mutate.Group(
        name="x", files=(), tests=(), seconds=seconds, tests_of_line=lines
    )
    mutant = Mutant(name="x", file="code.py", line=7, source="", diff="")
    assert mutate._quick_tests(group, mutant) == ["quick", "middle"]
    assert mutate._quick_tests(group, mutate.replace(mutant, line=8)) == []


@pytest.mark.slow
def test_the_page_has_the_counts_and_every_survivor(tmp_path: Path) -> None:
    project(tmp_path, GOOD)
    made = [change.mutant(SOURCE) for change in automatic("code.py", tmp_path)]
    outcomes = ["killed", "killed", "timed out", "survived", "survived"]
    results = [
        mutate.Result(mutant=mutant, outcome=outcome)
        for mutant, outcome in zip(made, outcomes, strict=True)
    ]
    excused = mutate.Result(
        mutant=mutate.replace(made[4], excuse="nobody can tell"), outcome="survived"
    )
    report = mutation_report.Report(
        seed=7,
        minutes=1.0,
        totals={"code.py": 5},
        hand_made=[],
        sampled=[*results[:4], excused],
    )
    text = mutation_report.text(report)
    assert "| code.py | 5 | 5 | 2 | 1 | 1 | 1 | 75.0 % |" in text
    assert "Seed 7: 5 of 5 mutants" in text
    assert f"`code.py:{made[3].line}`\n\n```diff\n{made[3].diff}\n```" in text
    assert f"`code.py:{made[4].line}`: nobody can tell" in text
    assert mutation_report.score([excused]) is None


@pytest.mark.exhaustive
@pytest.mark.mutation
def test_a_few_mutants_are_noticed(tmp_path: Path) -> None:
    """One of each file; all of them are in `make mutate`."""
    few = list(first_of_each_file(hand_made()))[:10]
    with Tree(tmp_path / "tree") as tree:
        mutate.check_hand_made(tree, few)
        outcomes = {
            mutant.name: mutate.judge_hand_made(tree, mutant).outcome for mutant in few
        }
    assert outcomes == {mutant.name: "killed" for mutant in few}
    for mutant in few:
        assert (tree.folder / mutant.file).read_bytes() == (
            mutate.ROOT / mutant.file
        ).read_bytes()


@pytest.mark.mutation
def test_harmless_mutant_survives_and_hanging_one_is_stopped(tmp_path: Path) -> None:
    source = (mutate.ROOT / "envbuilder" / "resolve" / "command_line.py").read_text()
    test = "tests/unit/test_request.py::test_any_leaves_an_option_open"
    found = []
    with Tree(tmp_path / "tree") as tree:
        for text in ("", "\nwhile True:\n    pass\n", "\n1 / 0\n", ""):
            mutant = Mutant(
                name="x",
                file="envbuilder/resolve/command_line.py",
                line=1,
                source=source + text,
                diff="x",
            )
            found.append(tree.test(mutant, [test], cpu_s=0.0))
    assert found == ["survived", "timed out", "killed", "survived"]
