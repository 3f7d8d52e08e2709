"""Whether an index agrees with what is known of companions: uv resolves a release, and its answer is compared. Pure."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from envbuilder.catalog import COMPANIONS
from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.online import MANYLINUX_NEWEST, compile_argv, file_of
from envbuilder.catalog.rows import Catalog
from envbuilder.catalog.verify import Problem, problem
from envbuilder.grammar import JsonObject


def newest_rows(rows: Sequence[Companion]) -> list[Companion]:
    """The newest range of each package that has wheels."""
    newest: dict[str, Companion] = {}
    for row in rows:
        is_wheel = row.kind is CompanionKind.WHEEL
        if row.first is None:
            continue
        if is_wheel:
            name = row.name
            newest[name] = row
    return list(newest.values())


def python_for(row: Companion, catalog: Catalog) -> Version:
    """The newest Python of the catalog that a row and a torch for it have wheels for."""
    torch = SpecifierSet(row.torch)
    bound = SpecifierSet(row.python)
    newest = Version("0")
    for build in catalog.torch:
        if build.torch not in torch:
            continue
        for python in build.pythons:
            if bound.contains(f"{python}.99"):
                newest = max(newest, python)
    return newest


def first_release(row: Companion) -> str:
    """The requirement whose day is compared."""
    return f"{row.name}=={row.first}\n"


def with_torch(row: Companion) -> str:
    """The requirements whose torch is compared."""
    return f"{row.name}=={row.last}\ntorch\n"


def argv(
    row: Companion, catalog: Catalog, program: str, folder: Path, *, alone: bool
) -> list[str]:
    """How uv resolves the release of a row: alone, or with what it requires."""
    words = compile_argv(program, folder)
    words += ["--python-version", str(python_for(row, catalog))]
    words += ["--python-platform", f"x86_64-manylinux_{MANYLINUX_NEWEST}"]
    if alone:
        words.append("--no-deps")
    return words


def compare_release(row: Companion, document: JsonObject) -> Iterator[Problem]:
    """The day of the first release of a range, by its wheels for Linux."""
    days = list(_days(row.name, document))
    if not days:
        return
    first = min(days)
    if first != row.released:
        says = f"is {row.released}; the index has {first} for {row.first}"
        yield problem(COMPANIONS, row, "released", says)


def _days(name: str, document: JsonObject) -> Iterator[date]:
    """When the wheels for Linux of a package were uploaded."""
    for package in document["packages"]:
        if package["name"] != name:
            continue
        for wheel in package.get("wheels", ()):
            file = file_of(wheel)
            moment = wheel["upload-time"]
            if _is_for_linux(file):
                yield moment.date()


def _is_for_linux(file: str) -> bool:
    for tag in parse_wheel_filename(file)[3]:
        if tag.platform == "any" or "manylinux" in tag.platform:
            return True
    return False


def compare_torch(row: Companion, document: JsonObject) -> Iterator[Problem]:
    """The torch that uv takes for the last release of a range."""
    bound = SpecifierSet(row.torch)
    packages = document["packages"]
    for package in packages:
        name = package["name"]
        if name != "torch":
            continue
        text = package["version"]
        version = Version(text)
        if version in bound:
            continue
        says = f"is {row.torch}; the index resolves {version} for {row.last}"
        yield problem(COMPANIONS, row, "torch", says)


def unreadable(row: Companion, stderr: str) -> Problem:
    """uv could not resolve a release: it is gone, or what it requires is."""
    output = " ".join(stderr.split())[:300]
    says = f"the index has no such release: {output}"
    return problem(COMPANIONS, row, "last", says)
