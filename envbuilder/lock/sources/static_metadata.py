"""What a source package says of itself without running: version, requirements, Pythons; a wheel that says only that.

A package that compiles cannot be asked before torch and nvcc are there, and uv has to know what it depends on.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from envbuilder import grammar
from envbuilder.errors import LockError
from envbuilder.lock.sources.folder_metadata import parse_pyproject
from envbuilder.lock.sources.source_archive import SourceArchive

_OLDEST = (1980, 1, 1, 0, 0, 0)
_HEADER = "PKG-INFO"
_EGG_REQUIRES = ".egg-info/requires.txt"
_EXTRA = re.compile(r'\bextra == "([A-Za-z0-9._-]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMetadata:
    """The metadata of an archive, as far as it is written down."""

    version: Version
    requires: tuple[str, ...]
    requires_python: str = ""


def static_metadata(archive: SourceArchive, subdirectory: str = "") -> StaticMetadata:
    """Of PKG-INFO, as source packages of an index have it, else of pyproject.toml. Raises `LockError` without both."""
    place = f"{subdirectory}/" if subdirectory else ""
    header = archive.read(f"{place}{_HEADER}")
    if header:
        return _of_header(header, archive)
    text = archive.read(f"{place}pyproject.toml") or ""
    project = parse_pyproject(text, "pyproject.toml").get("project")
    if not isinstance(project, dict):
        project = {}
    version = project.get("version")
    if isinstance(version, str) and "dependencies" not in project.get("dynamic", ()):
        lines = project.get("dependencies", [])
        bounds = project.get("requires-python", "")
        return _checked(
            version,
            lines,
            str(bounds),
        )
    raise LockError(
        "what it depends on is not written in its metadata, and it cannot be asked before it is compiled",
        hint="name a source package of it that has a PKG-INFO, as `python -m build --sdist` makes it",
    )


def _of_header(text: str, archive: SourceArchive) -> StaticMetadata:
    raw, _ = parse_email(text)
    version = raw.get("version", "")
    bounds = raw.get("requires_python", "")
    lines = raw.get("requires_dist", [])
    if lines:
        return _checked(
            version,
            lines,
            bounds,
        )
    # Older setuptools write the requirements of a source package into this file alone.
    for name in sorted(archive.names_below_top):
        if not name.endswith(_EGG_REQUIRES):
            continue
        egg = archive.read(name) or ""
        lines = list(_egg_requirements(egg))
    return _checked(
        version,
        lines,
        bounds,
    )


def _egg_requirements(text: str) -> Iterator[str]:
    """The lines of a requires.txt as PEP 508: a section is `[extra]`, `[:marker]` or `[extra:marker]`."""
    conditions = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            extra, _, marker = section.partition(":")
            parts = []
            if extra:
                parts.append(f'extra == "{extra}"')
            if marker:
                parts.append(f"({marker})")
            conditions = " and ".join(parts)
        elif line:
            yield f"{line} ; {conditions}" if conditions else line


def _checked(version: str, lines: object, bounds: str) -> StaticMetadata:
    if not isinstance(lines, list):
        raise LockError("its dependencies are no list of requirements")
    requires = []
    for line in lines:
        try:
            requirement = Requirement(str(line))
        except InvalidRequirement as error:
            raise LockError(f"its requirement {str(line)[:60]!r} is none") from error
        if requirement.url:
            raise LockError(f"its requirement {requirement.name} names an address")
        requires.append(str(requirement))
    try:
        number = Version(version)
    except InvalidVersion as error:
        raise LockError("its metadata has no version") from error
    if not grammar.matches(grammar.Specifier, bounds.replace(" ", "")):
        bounds = ""
    return StaticMetadata(
        version=number, requires=tuple(requires), requires_python=bounds
    )


def stub_wheel(name: str, metadata: StaticMetadata) -> tuple[str, bytes]:
    """File name and content of a wheel that has the metadata of a package and nothing else, for uv to read."""
    in_file = name.replace("-", "_")
    stem = f"{in_file}-{metadata.version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {metadata.version}"]
    if metadata.requires_python:
        lines.append(f"Requires-Python: {metadata.requires_python}")
    for line in metadata.requires:
        lines.append(f"Requires-Dist: {line}")
    for extra in _extras_in(metadata.requires):
        lines.append(f"Provides-Extra: {extra}")
    files = {
        "METADATA": "\n".join([*lines, ""]),
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as wheel:
        for file, text in files.items():
            info = zipfile.ZipInfo(f"{stem}.dist-info/{file}", _OLDEST)
            wheel.writestr(info, text)
    return f"{stem}-py3-none-any.whl", stream.getvalue()


def _extras_in(requires: tuple[str, ...]) -> list[str]:
    """The extras that markers name: `extra == "test"`."""
    extras: set[str] = set()
    for line in requires:
        _, _, marker = line.partition(";")
        extras.update(_EXTRA.findall(marker))
    return sorted(extras)
