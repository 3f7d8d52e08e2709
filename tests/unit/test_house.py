"""The house: imports point one way, numbers stay out of code, everything has its room."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import density
import house
from house import FLOORS, imported_rooms, room_of

pytestmark = pytest.mark.slow  # `make lint` runs it

PACKAGE = Path(__file__).parents[2] / "envbuilder"
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        assert imported_rooms(path) == set()
        return
    assert room in FLOOR, f"{room} has no floor in FLOORS"
    above = {other for other in imported_rooms(path) if FLOOR[other] > FLOOR[room]}
    assert not above


def test_the_structure_stays_small_and_its_page_is_current() -> None:
    """After a change: `.venv/bin/python tools/house.py`."""
    figures = house.measure()
    assert figures.entries <= 26
    assert figures.floors <= 8
    text = house.PAGE.read_text(encoding="utf-8")
    assert text == house.page(text)
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture()


def test_no_function_is_dense() -> None:
    """Which ones: `.venv/bin/python tools/density.py`."""
    functions = density.measure([density.ROOT / folder for folder in density.JUDGED])
    assert len(functions) > 1000
    assert density.problems(functions) == []


def test_modules_do_not_import_each_other_in_circles() -> None:
    assert len(house.module_imports()) > 100
    assert house.find_circle() == []


def test_a_circle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    circle = {"a": {"b"}, "b": {"a"}}
    monkeypatch.setattr(house, "module_imports", lambda: circle)
    assert set(house.find_circle()) == {"a", "b"}


def test_a_name_is_one_thing() -> None:
    """No two modules and no two public classes share a name."""
    assert set(house.doubled_names()) == set()


@cache
def importers() -> dict[str, set[str]]:
    """Top-level module → the files of the package that import it."""
    files: dict[str, set[str]] = {}
    for path in MODULES:
        for node in nodes_of(path):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            names += (
                [node.module]
                if isinstance(node, ast.ImportFrom) and node.module
                else []
            )
            for name in names:
                files.setdefault(name.split(".")[0], set()).add(
                    str(path.relative_to(PACKAGE))
                )
    return files


def test_processes_docker_and_jinja_have_one_place_each() -> None:
    assert importers()["subprocess"] == {"processes.py"}
    assert {str(Path(path).parent) for path in importers()["docker"]} == {
        "engine/docker_client"
    }
    assert importers()["jinja2"] == {"templates.py"}


def test_the_package_needs_no_tool_of_the_checkout() -> None:
    """The tests find tools/ on their path; an installed envbuilder does not."""
    tools = {
        path.stem
        for path in (PACKAGE.parent / "tools").glob("[!_]*")
        if path.is_dir() or path.suffix == ".py"
    }
    assert {"facts", "index", "survey"} <= tools
    assert {tool: importers()[tool] for tool in tools & importers().keys()} == {}


_READING = frozenset({"read_text", "read_bytes", "open"})
_WRITING = frozenset({"write_text", "open"})


def calls(path: Path, names: frozenset[str]) -> list[ast.Call]:
    """The calls of methods of these names, and of the function `open`."""
    found = []
    for node in nodes_of(path):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else getattr(node.func, "id", "")
        )
        of = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in names and getattr(of, "id", "") not in {"os", "tarfile", "disk"}:
            found.append(node)
    return found


def mode(call: ast.Call) -> str:
    """How a call of a method `open` opens."""
    given = [argument for argument in call.args if isinstance(argument, ast.Constant)]
    return str(given[-1].value) if given else "r"


def test_files_are_read_only_by_the_files_module() -> None:
    """Not by `path.read_text()`: that blocks at a FIFO, and never ends in /dev/zero."""
    readers = set()
    for path in MODULES:
        for call in calls(path, _READING):
            named = isinstance(call.func, ast.Name) and call.func.id in {
                "read_text",
                "read_bytes",
            }
            if not named and not set(mode(call)) & set("xwa"):
                readers.add(str(path.relative_to(PACKAGE)))
    assert readers == {"engine/run_id.py"}


@pytest.mark.parametrize("folder", ["envbuilder", "tools", "bench"])
def test_text_files_are_written_with_encoding_and_newline(
    root: Path, folder: str
) -> None:
    for path in sorted((root / folder).rglob("*.py")):
        for call in calls(path, _WRITING):
            if isinstance(call.func, ast.Attribute) and (
                call.func.attr == "write_text" or set(mode(call)) & set("xwa")
            ):
                assert {"encoding", "newline"} <= {
                    word.arg for word in call.keywords
                }, f"{path}:{call.lineno}"


def test_only_the_command_line_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if "os.environ" in path.read_text()
    }
    # the probe of this machine reads it too: the environment is among what the doctor is asked about
    assert {reader for reader in readers if not reader.startswith("cli/")} == {
        "host/local_probe.py"
    }


def test_code_contains_no_version_numbers() -> None:
    version = re.compile(
        r"(?:11|12|13)\.[0-9]|2\.[0-9]+\.[0-9]|cu1[123][0-9]|sm_[0-9]{2}|8\.5\.0"
    )
    for path in MODULES:
        documented = {
            node.body[0].value
            for node in nodes_of(path)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node)
            if isinstance(node.body[0], ast.Expr)
        }
        for node in nodes_of(path):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node not in documented
            ):
                found = version.search(node.value)
                assert not found or is_example(node.value), (
                    f"{path.name}: {node.value!r}"
                )


def is_example(text: str) -> bool:
    """Help and hints show what a value looks like."""
    return bool(
        re.search(
            r"such as|, as |e\.g\. |--help|envbuilder (resolve|build) --cuda", text
        )
    )
