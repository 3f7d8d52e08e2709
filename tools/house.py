"""The structure of envbuilder/: its floors, counted and drawn. `.venv/bin/python tools/house.py` writes both.

A room is a package or a module at the root of envbuilder/. Each may import from the floors below it and from its own
floor, but not in circles: `tests/unit/test_house.py` checks that. This counts what is there and draws the floors.
"""

import ast
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "envbuilder"
PAGE = ROOT / "docs/explanation/architecture.md"
PICTURE = ROOT / "docs/pictures/architecture.svg"
MARKS = ("<!-- tools/house.py -->\n", "<!-- /tools/house.py -->")
FLOORS: tuple[tuple[str, ...], ...] = (  # the lowest first
    (
        *(
            "errors",
            "grammar",
            "model",
            "versions",
            "serialize",
            "processes",
            "resources",
            "console",
            "network",
        ),
        *("files", "templates"),
    ),
    ("catalog",),
    ("resolve", "lock", "engine"),
    ("config", "render", "host"),
    ("doctor", "acceptance"),
    ("pipeline",),
    ("format",),
    ("cli", "__main__"),
)
_WIDTH, _ROW, _BOX, _GAP, _LEFT = 960, 74, 40, 10, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is counted."""

    entries: int  # files and packages at the root
    floors: int
    modules: int
    imports: int  # pairs of rooms of which one imports the other
    circles: int  # 0 or 1: modules that import each other, if only by others
    doubled: tuple[str, ...]  # names of modules or public classes that occur twice


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The package or module at the root in which a file is."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms from which a module imports."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        package, *rest = node.module.split(".")
        if package != "envbuilder":
            continue
        rooms.update(rest[:1] or [alias.name for alias in node.names])
    return rooms - {"__version__"}


def imports() -> set[tuple[str, str]]:
    """(room, the other room that it imports from)."""
    pairs = set()
    for path in modules():
        room = room_of(path)
        for other in imported_rooms(path):
            if other != room:
                pairs.add((room, other))
    return pairs


def module_imports() -> dict[str, set[str]]:
    """Module → the modules of the package that it imports, by dotted names."""
    names = {_dotted(path): path for path in modules()}
    found = {}
    for name, path in names.items():
        found[name] = set(_imported_modules(path, names)) & names.keys()
    return found


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imported_modules(path: Path, known: Collection[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            yield name if name in known else node.module


def find_circle() -> list[str]:
    """Modules that import each other in a circle; empty if none do."""
    try:
        TopologicalSorter(module_imports()).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def doubled_names() -> Iterator[str]:
    """Names of modules, and of public classes, that occur more than once."""
    names = Counter(path.stem for path in modules() if path.stem != "__init__")
    classes: Counter[str] = Counter()
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name] += 1
    for name, count in [*names.items(), *classes.items()]:
        if count > 1:
            yield name


def measure() -> Figures:
    """Count."""
    entries = [entry for entry in PACKAGE.iterdir() if entry.name != "__pycache__"]
    return Figures(
        entries=len(entries),
        floors=len(FLOORS),
        modules=len(modules()),
        imports=len(imports()),
        circles=1 if find_circle() else 0,
        doubled=tuple(doubled_names()),
    )


def section() -> str:
    """The figures for the page."""
    figures = measure()
    doubled = ", ".join(figures.doubled) or "none"
    return (
        f"| | |\n| --- | ---: |\n"
        f"| entries at the root of the package | {figures.entries} |\n"
        f"| floors | {figures.floors} |\n"
        f"| modules | {figures.modules} |\n"
        f"| imports from one room to another | {figures.imports} |\n"
        f"| circles | {figures.circles} |\n"
        f"| names of modules or public classes that occur twice | {doubled} |\n"
    )


def picture() -> str:
    """The floors as SVG, the lowest at the bottom; the number is that of a room's modules."""
    sizes = Counter(room_of(path) for path in modules())
    height = _ROW * len(FLOORS) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="ui-sans-serif, system-ui, sans-serif" font-size="14">',
        "<title>The rooms of envbuilder/ by floor: each imports only from below</title>",
        "<style>rect { fill: #eef3fb; stroke: #3367a8 } line { stroke: #c8ccd2 } text { fill: #1c2733 } "
        ".number { fill: #6b7785 } @media (prefers-color-scheme: dark) { rect { fill: #1d2a3d; stroke: #7fa8dd } "
        "line { stroke: #4a5260 } text { fill: #e7ecf3 } .number { fill: #9aa6b5 } }</style>",
    ]
    for number, rooms in enumerate(reversed(FLOORS)):
        top = number * _ROW + _GAP
        level = len(FLOORS) - number
        parts.append(
            f'<text class="number" x="4" y="{top + _BOX // 2 + 5}">{level}</text>'
        )
        width = (_WIDTH - _LEFT - _GAP * len(rooms)) / len(rooms)
        for place, room in enumerate(rooms):
            left = _LEFT + place * (width + _GAP)
            parts += _box(room, sizes[room], left=left, top=top, width=width)
        line = top + _BOX + (_ROW - _BOX) // 2
        parts.append(
            f'<line x1="{_LEFT}" y1="{line}" x2="{_WIDTH - _GAP}" y2="{line}"/>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(
    room: str, size: int, *, left: float, top: float, width: float
) -> Iterator[str]:
    middle = left + width / 2
    font = 14 if width > 100 else 11
    yield f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{_BOX}" rx="6"/>'
    label = escape(room if size == 1 else f"{room}/")
    yield f'<text x="{middle:.0f}" y="{top + 18}" text-anchor="middle" font-size="{font}">{label}</text>'
    number = "1 module" if size == 1 else f"{size} modules"
    yield (
        f'<text class="number" x="{middle:.0f}" y="{top + 34}" text-anchor="middle" font-size="10">{number}</text>'
    )


def page(text: str) -> str:
    """The page with the figures between its marks."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}{section()}{MARKS[1]}{after}"


def main() -> int:
    """Write the figures and the picture; 1 if a name occurs twice."""
    PAGE.write_text(
        page(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n"
    )
    PICTURE.write_text(picture(), encoding="utf-8", newline="\n")
    figures = measure()
    print(section(), end="")
    return 1 if figures.doubled else 0


if __name__ == "__main__":
    sys.exit(main())
