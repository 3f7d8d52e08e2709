"""`requires-python` of a project's pyproject.toml, against the Python of an image."""

import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from envbuilder.files import is_file, read_text

FILE = "pyproject.toml"
_PATCHES = 30  # no release of Python has had so many


def requires_python(folder: Path) -> SpecifierSet | None:
    """What the project in a folder requires; None if it says nothing that can be read."""
    if not is_file(folder / FILE):
        return None
    try:
        document: dict[str, Any] = tomllib.loads(read_text(folder / FILE))
        return SpecifierSet(document["project"]["requires-python"])
    except (tomllib.TOMLDecodeError, InvalidSpecifier, KeyError, TypeError):
        return None


def allows(required: SpecifierSet, python: Version) -> bool:
    """Whether some patch release of a Python X.Y is allowed: which one an image has is up to its base."""
    for patch in range(_PATCHES):
        if required.contains(f"{python}.{patch}"):
            return True
    return False
