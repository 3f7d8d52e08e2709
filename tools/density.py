"""How dense the code is: syntax nodes per line of code, for each function: `.venv/bin/python tools/density.py [PATH…]`.

A line that holds a comprehension inside a conditional has many nodes and reads slowly; the same in five lines has few.
Counted are the nodes of `ast.walk` over the lines that hold code; docstrings, comments and lone brackets are left out.
Functions of fewer than five such lines are not judged.
"""

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
JUDGED = ("envbuilder", "docker/payload")
MOST = 15.0  # nodes a line, of any function
DENSE = 12.0  # of at most …
DENSE_SHARE = 0.02  # … this share of the functions
MEDIAN = 8.5
SHORTEST = 5  # lines of a function that is judged
_NO_CODE = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function and its density."""

    path: str
    line: int
    name: str
    lines: int
    nodes: int

    @property
    def density(self) -> float:
        """Nodes per line."""
        return self.nodes / self.lines


def functions_of(path: Path, root: Path = ROOT) -> Iterator[Function]:
    """The functions of one file that are long enough to be judged; a function inside another counts with both."""
    source = path.read_text(encoding="utf-8")
    code_lines = lines_with_code(source)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = _docstring_lines(node)
        # The nodes of decorators are counted, so their lines are too.
        first = min(
            [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
        )
        lines = [
            line
            for line in range(first, (node.end_lineno or 0) + 1)
            if line in code_lines - docstring
        ]
        if len(lines) >= SHORTEST:
            nodes = sum(1 for _ in ast.walk(node))
            if docstring:
                nodes -= (
                    2  # the text and its statement, whose lines are not counted either
                )
            place = path.relative_to(root) if path.is_relative_to(root) else path
            yield Function(
                path=str(place),
                line=node.lineno,
                name=node.name,
                lines=len(lines),
                nodes=nodes,
            )


def lines_with_code(source: str) -> set[int]:
    """The lines on which something stands beside comments and brackets."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _NO_CODE or token.string in "()[]{},":
            continue
        lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    if ast.get_docstring(node, clean=False) is None:
        return set()
    first = node.body[0]
    return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))


def measure(places: Sequence[Path]) -> list[Function]:
    """The functions below some folders or in some files, the densest first."""
    files: list[Path] = []
    for place in places:
        files += [place] if place.is_file() else sorted(place.rglob("*.py"))
    functions = [function for file in files for function in functions_of(file)]
    return sorted(
        functions,
        key=lambda function: (-function.density, function.path, function.line),
    )


def problems(functions: Sequence[Function]) -> list[str]:
    """Which of the three bounds are broken; none, if the code is as it should be."""
    if not functions:
        return ["no function was found"]
    found = [
        f"{each.path}:{each.line} {each.name}: {each.density:.1f}"
        for each in functions
        if each.density > MOST
    ]
    dense = [each for each in functions if each.density > DENSE]
    if len(dense) > DENSE_SHARE * len(functions):
        found.append(
            f"{len(dense)} of {len(functions)} functions are above {DENSE:g}, more than {DENSE_SHARE:.0%}"
        )
    median = statistics.median(each.density for each in functions)
    if median > MEDIAN:
        found.append(f"the median is {median:.1f}, above {MEDIAN:g}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the densest functions and what is out of bounds; 1 if anything is."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, help=f"files or folders [{', '.join(JUDGED)}]"
    )
    parser.add_argument(
        "--most",
        type=int,
        default=20,
        metavar="N",
        help="how many functions to list [20]",
    )
    settings = parser.parse_args(argv)
    functions = measure(settings.paths or [ROOT / folder for folder in JUDGED])
    for each in functions[: settings.most]:
        print(f"{each.density:5.1f}  {each.path}:{each.line} {each.name}")
    if functions:
        densities = [each.density for each in functions]
        above = [sum(value > bound for value in densities) for bound in (MOST, DENSE)]
        print(f"{len(functions)} functions: median {statistics.median(densities):.1f}, "
              f"{above[0]} above {MOST:g}, {above[1]} above {DENSE:g}")  # fmt: skip
    found = problems(functions)
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
