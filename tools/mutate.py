"""Break envbuilder's own source in many small ways and see whether the fast tests notice.

    tools/mutate.py [--size N] [--seed N] [--group NAME]... [--no-hand-made] [--output FILE]

Everything runs in copies of the tree, two at a time. The result is `docs/measurements/mutation.md`.
"""

import argparse
import contextlib
import queue
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mutation_report
from mutation import ROOT, Mutant, MutantError, automatic, excuse, hand_made, sample
from mutation_tree import Tree

PROCESSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a mutant: "killed", "timed out" or "survived"."""

    mutant: Mutant
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files that are mutated, and the tests of them as they pass on the original."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    without: tuple[
        str, ...
    ] = ()  # tests that look at the clock: a busy machine would kill mutants
    cpu: float = 0.0
    seconds: dict[str, float] = field(
        default_factory=dict
    )  # of each test function, as pytest names it
    tests_of_line: dict[tuple[str, int], set[str]] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """All of its tests, for pytest."""
        return (*self.tests, *(f"--deselect={test}" for test in self.without))


def measure(tree: Tree, group: Group) -> Group:
    """The group with its CPU time, and which tests run each line; fails if the original does not pass."""
    timed = tree.folder / "junit.xml"
    done = tree.must_pass([f"--junitxml={timed}", *group.words], f"group {group.name}")
    data = tree.cover(group.words, group.files)
    timed_group = replace(group, cpu=done.cpu, seconds=_seconds(timed))
    return replace(timed_group, tests_of_line=_tests_of_line(data, timed_group))


def _seconds(path: Path) -> dict[str, float]:
    """Test function, as pytest names it → what all its cases took."""
    found: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(path).iter("testcase"):
        file = case.attrib["classname"].replace(".", "/")
        function = case.attrib["name"].partition("[")[0]
        found[f"{file}.py::{function}"] += float(case.attrib["time"])
    return dict(found)


def _tests_of_line(measured: Path, group: Group) -> dict[tuple[str, int], set[str]]:
    """(file, line) → the test functions that run it, as pytest names them."""
    import coverage  # noqa: PLC0415 - its data only, after the run

    data = coverage.CoverageData(str(measured))
    data.read()
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for path in data.measured_files():
        name = str(Path(path).relative_to(measured.parent.resolve()))
        for line, contexts in data.contexts_by_lineno(path).items():
            for context in contexts:
                found[name, line] |= _tests_of(context, group)
    return dict(found)


def _tests_of(context: str, group: Group) -> set[str]:
    """`test_lock.test_a` of coverage → `tests/unit/test_lock.py::test_a` of pytest, if that is one of the group's."""
    module, _, function = context.rpartition(".")
    ending = "/" + module.replace(".", "/") + ".py::" + function
    return {
        test
        for test in group.seconds
        if test.endswith(ending) and test not in group.without
    }


def judge(tree: Tree, mutant: Mutant, group: Group) -> Result:
    """First the quick tests that run the line. If those pass, all of the group's.

    These can fail where those pass: what is cached is run by the first test that needs it and used by others.
    """
    near = _quick_tests(group, mutant)
    outcome = tree.test(mutant, near, group.cpu) if near else "survived"
    if outcome == "survived":
        outcome = tree.test(mutant, group.words, group.cpu)
    return Result(mutant=mutant, outcome=outcome)


def _quick_tests(group: Group, mutant: Mutant) -> list[str]:
    """The tests that run a mutant's line, the quickest first, until a quarter of the group's time is spent."""
    near = sorted(
        group.tests_of_line.get((mutant.file, mutant.line), ()),
        key=lambda test: group.seconds.get(test, 0),
    )
    left = sum(group.seconds.values()) / 4
    chosen = []
    for test in near:
        left -= group.seconds.get(test, 0)
        if left >= 0:
            chosen.append(test)
    return chosen


def judge_hand_made(tree: Tree, mutant: Mutant) -> Result:
    """By the tests that its entry names; these pass on the original, or the tool says so."""
    outcome = tree.test(mutant, mutant.tests, cpu_s=30.0)
    return Result(mutant=mutant, outcome=outcome)


def check_hand_made(tree: Tree, mutants: Sequence[Mutant]) -> None:
    """The tests of all entries pass on the original."""
    tree.must_pass(
        sorted({test for mutant in mutants for test in mutant.tests}),
        "the hand-made mutants",
    )


def read_config() -> tuple[list[Group], int, int]:
    """The groups of tools/mutate.toml, the size of the sample and its seed."""
    config = tomllib.loads((ROOT / "tools" / "mutate.toml").read_text(encoding="utf-8"))
    groups = []
    for row in config["group"]:
        files, tests, without = (
            tuple(row.get(key, ())) for key in ("files", "tests", "without")
        )
        groups.append(
            Group(name=row["name"], files=files, tests=tests, without=without)
        )
    return groups, config["size"], config["seed"]


def main() -> None:
    options = _options()
    groups, size, seed = read_config()
    size = size if options.size is None else options.size
    seed = seed if options.seed is None else options.seed
    groups = [
        group for group in groups if not options.group or group.name in options.group
    ]
    written = [] if options.no_hand_made else hand_made()
    every = {file: automatic(file) for group in groups for file in group.files}
    chosen = sample(
        [change for changes in every.values() for change in changes], size, seed
    )
    chosen = excuse(chosen)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="source-mutants-") as name:
        results = _run(Path(name), written, groups, chosen)
    report = mutation_report.Report(
        seed=seed,
        minutes=(time.monotonic() - started) / 60,
        totals={file: len(changes) for file, changes in every.items()},
        hand_made=[result for result in results if result.mutant.tests],
        sampled=[result for result in results if not result.mutant.tests],
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        mutation_report.text(report), encoding="utf-8", newline="\n"
    )
    print(f"{options.output}: {mutation_report.summary(report)}")


def _run(
    folder: Path,
    written: Sequence[Mutant],
    groups: Sequence[Group],
    chosen: Sequence[Mutant],
) -> list[Result]:
    with contextlib.ExitStack() as stack:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(PROCESSES):
            trees.put(stack.enter_context(Tree(folder / f"tree{number}")))
        return _run_in(trees, written, groups, chosen)


def _run_in(
    trees: "queue.SimpleQueue[Tree]",
    written: Sequence[Mutant],
    groups: Sequence[Group],
    chosen: Sequence[Mutant],
) -> list[Result]:

    def with_tree(function: Any, *arguments: Any) -> Any:
        tree = trees.get()
        try:
            return function(tree, *arguments)
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(PROCESSES) as pool:
        checked = pool.submit(with_tree, check_hand_made, written) if written else None
        drawn = {mutant.file for mutant in chosen}
        wanted = [group for group in groups if drawn & {*group.files}]
        measured = list(pool.map(lambda group: with_tree(measure, group), wanted))
        if checked:
            checked.result()
        group_of = {file: group for group in measured for file in group.files}
        jobs = [pool.submit(with_tree, judge_hand_made, mutant) for mutant in written]
        jobs += [
            pool.submit(with_tree, judge, mutant, group_of[mutant.file])
            for mutant in chosen
        ]
        results = []
        for number, job in enumerate(jobs, start=1):
            result: Result = job.result()
            results.append(result)
            place = f"{result.mutant.file}:{result.mutant.line}"
            print(
                f"{number}/{len(jobs)} {result.outcome}: {place} {result.mutant.name}",
                file=sys.stderr,
                flush=True,
            )
            if result.outcome == "survived":
                print(result.mutant.diff, file=sys.stderr, flush=True)
        return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--size", type=int, help="mutants in the sample (default: tools/mutate.toml)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="another seed draws another sample (default: tools/mutate.toml)",
    )
    parser.add_argument(
        "--group",
        action="append",
        help="only this group of tools/mutate.toml; can be repeated",
    )
    parser.add_argument(
        "--no-hand-made", action="store_true", help="leave tests/source_mutants out"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "measurements" / "mutation.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except MutantError as error:
        sys.exit(f"error: {error}")
