"""Source mutants: small slips in envbuilder's own code that a fast test has to notice.

The hand-made ones are data, `tests/source_mutants/*.toml`. The automatic ones are made by the operators of mutmut.
"""

import ast
import difflib
import hashlib
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "source_mutants"


class MutantError(Exception):
    """An entry that does not fit the source any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed file, and the tests that should fail on it."""

    name: str
    file: str
    line: int
    source: str  # the whole file, changed
    diff: str
    tests: tuple[str, ...] = ()
    excuse: str = ""  # why no test can tell it from the original


# --- hand-made -----------------------------------------------------------------------------------------------------


def hand_made(
    folder: Path = FOLDER, root: Path = ROOT, *, parse: bool = True
) -> list[Mutant]:
    """Every `[[mutant]]` of a folder. Raises `MutantError` that names the entry which has rotted.

    Without `parse` it is not checked that the changed file is another Python program, which takes the longest.
    """
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []):
            mutant = _from_row(row, path.name, root)
            if parse:
                _check_program(mutant, f"{path.name}: {mutant.name}", root)
            if mutant.name in found:
                raise MutantError(
                    f"{path.name}: {mutant.name}: two entries have this name"
                )
            found[mutant.name] = mutant
    return list(found.values())


def _from_row(row: dict[str, Any], place: str, root: Path) -> Mutant:
    entry = f"{place}: {row.get('name', '?')}"
    if set(row) != {"name", "file", "old", "new", "tests"}:
        raise MutantError(f"{entry}: an entry has name, file, old, new and tests")
    path = root / row["file"]
    if not path.is_file():
        raise MutantError(f"{entry}: there is no {row['file']}")
    source = path.read_text(encoding="utf-8")
    count = source.count(row["old"])
    if count != 1:
        raise MutantError(
            f"{entry}: `old` occurs {count} times in {row['file']}, not once"
        )
    if not row["tests"]:
        raise MutantError(f"{entry}: it names no tests")
    for test in row["tests"]:
        if not (root / test.split("::")[0]).is_file():
            raise MutantError(f"{entry}: there is no {test}")
    changed = source.replace(row["old"], row["new"])
    line = source[: source.index(row["old"])].count("\n") + 1
    mutant = _mutant(row["name"], row["file"], line, source, changed)
    return replace(mutant, tests=tuple(row["tests"]))


def _check_program(mutant: Mutant, entry: str, root: Path) -> None:
    source = (root / mutant.file).read_text(encoding="utf-8")
    try:
        if ast.dump(ast.parse(mutant.source)) == ast.dump(ast.parse(source)):
            raise MutantError(f"{entry}: `new` is the same program as `old`")
    except SyntaxError as error:
        raise MutantError(f"{entry}: `new` is not Python: {error}") from error


def _mutant(name: str, file: str, line: int, source: str, changed: str) -> Mutant:
    lines = difflib.unified_diff(
        source.splitlines(), changed.splitlines(), lineterm="", n=0
    )
    # The first three lines are the two file names and the position: they stand in the heading of a survivor.
    diff = "\n".join(list(lines)[3:])
    return Mutant(name=name, file=file, line=line, source=changed, diff=diff)


# --- automatic -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One possible automatic mutant; its whole source is made when it has been drawn, since that takes a while."""

    file: str
    line: int
    old: str
    new: str
    make: Callable[[], str]

    def mutant(self, source: str) -> Mutant:
        return _mutant("", self.file, self.line, source, self.make())


def automatic(file: str, root: Path = ROOT) -> list[Change]:
    """All changes to a file by the operators of mutmut, in the order of the source.

    mutmut's own run mutates functions only, and none with a decorator. Here constants and cached functions count too:
    a grammar in a constant is as easily broken as a branch.
    """
    from libcst import metadata, parse_module  # noqa: PLC0415 - half a second, which the tests do not need

    wrapper = metadata.MetadataWrapper(
        parse_module((root / file).read_text(encoding="utf-8"))
    )
    positions = wrapper.resolve(metadata.PositionProvider)
    module = wrapper.module
    found = []
    line = 1
    for node, mutated in _mutations(module):
        if node in positions:
            line = (
                positions[node].start.line
            )  # an operator has no position: it stands where its expression starts
        old, new = module.code_for_node(node), module.code_for_node(mutated)
        if old != new:
            made = partial(_replaced, module, node, mutated)
            found.append(Change(file=file, line=line, old=old, new=new, make=made))
    return found


def _replaced(module: Any, node: Any, mutated: Any) -> str:
    code: str = module.deep_replace(node, mutated).code
    return code


def _mutations(node: Any) -> Iterator[tuple[Any, Any]]:
    from mutmut.mutation.mutators import mutation_operators  # noqa: PLC0415

    if _has_no_effect(node):
        return
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            for mutated in operator(node):
                yield node, mutated
    for child in node.children:
        yield from _mutations(child)


def _has_no_effect(node: Any) -> bool:
    """Annotations, decorators, imports, `__all__`: no behaviour to break; `len(None)` breaks for every test alike."""
    import libcst as cst  # noqa: PLC0415
    from libcst import matchers as m  # noqa: PLC0415

    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
        return True
    return m.matches(
        node,
        m.Call(func=m.Name("len") | m.Name("isinstance") | m.Name("cast"))
        | m.Assign(targets=[m.AssignTarget(target=m.Name("__all__"))]),
    )


def sample(
    changes: Sequence[Change], size: int, seed: int, root: Path = ROOT
) -> list[Mutant]:
    """A random sample that an edit elsewhere in the source does not reshuffle: each change draws its own number."""
    seen: dict[str, int] = {}
    drawn = []
    for change in changes:
        key = f"{seed} {change.file} {change.old} {change.new}"
        seen[key] = seen.get(key, 0) + 1
        drawn.append(
            (hashlib.sha256(f"{key} {seen[key]}".encode()).hexdigest(), change)
        )
    drawn.sort(key=lambda pair: pair[0])
    chosen = sorted(
        (change for _, change in drawn[:size]),
        key=lambda change: (change.file, change.line, change.new),
    )
    sources = {
        file: (root / file).read_text(encoding="utf-8")
        for file in {change.file for change in chosen}
    }
    return [change.mutant(sources[change.file]) for change in chosen]


def excuse(
    mutants: list[Mutant], folder: Path = FOLDER, root: Path = ROOT
) -> list[Mutant]:
    """The same mutants with their reasons from `excused.toml`. Raises `MutantError` for an entry that has rotted."""
    path = folder / "excused.toml"
    rows = (
        tomllib.loads(path.read_text(encoding="utf-8"))["excused"]
        if path.is_file()
        else []
    )
    reasons = {}
    for row in rows:
        lines = [
            line.strip()
            for line in (root / row["file"]).read_text(encoding="utf-8").splitlines()
        ]
        if row["old"] not in lines:
            raise MutantError(f"excused.toml: {row['file']} has no line {row['old']!r}")
        reasons[row["file"], row["old"], row["new"]] = row["why"]
    return [
        replace(mutant, excuse=reasons.get((mutant.file, *_changed_lines(mutant)), ""))
        for mutant in mutants
    ]


def _changed_lines(mutant: Mutant) -> tuple[str, str]:
    """The lines before and after the change, each without its indent."""
    old, new = [], []
    for line in mutant.diff.splitlines():
        if line.startswith("-"):
            old.append(line[1:].strip())
        elif line.startswith("+"):
            new.append(line[1:].strip())
    return " ".join(old), " ".join(new)
