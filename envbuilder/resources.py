"""Where envbuilder's own data files are: templates, installer, payload and probe. The one module that knows.

In a wheel they are package data (`envbuilder/_data`, put there by `force-include`); in a checkout, which is also
what an editable install sees, they are the top-level `templates/` and the folders of `docker/`.
"""

import os
from pathlib import Path

from envbuilder.errors import EnvbuilderError
from envbuilder.files import is_file, read_text

_PACKAGE = Path(__file__).parent
_PLACES = {
    "install": (_PACKAGE / "_data" / "install", _PACKAGE.parent / "docker" / "install"),
    "devel": (_PACKAGE / "_data" / "devel", _PACKAGE.parent / "docker" / "devel"),
    "templates": (_PACKAGE / "_data" / "templates", _PACKAGE.parent / "templates"),
    "payload": (_PACKAGE / "_data" / "payload", _PACKAGE.parent / "docker" / "payload"),
    "system": (_PACKAGE / "_data" / "system", _PACKAGE.parent / "docker" / "system"),
    "sources": (_PACKAGE / "_data" / "sources", _PACKAGE.parent / "docker" / "sources"),
    "probe": (_PACKAGE / "_data" / "probe", _PACKAGE.parent / "docker" / "probe"),
}
_IGNORED_DIRS = frozenset({"__pycache__"})


def folder(name: str) -> Path:
    """The folder called `name`: "templates", "install", "devel", "payload", "system", "sources" or "probe"."""
    for place in _PLACES[name]:
        if place.is_dir():
            return place
    places = ", ".join(str(place) for place in _PLACES[name])
    raise EnvbuilderError(
        f"this installation of envbuilder lacks its {name} (expected in {places})",
        hint="install the package `torch-envbuilder` again",
    )


def files(name: str) -> dict[str, Path]:
    """Relative path → file of everything in a folder, sorted."""
    return files_in(folder(name))


def text(name: str, file: str) -> str:
    """The text of one file of a folder, by its path in it."""
    return read_text(folder(name) / file)


def files_in(root: Path) -> dict[str, Path]:
    """Relative path → file of everything below `root`, sorted, without Python's caches; empty if there is no `root`.

    Files that vanish meanwhile, because another envbuilder replaces the folder, are left out.
    """
    paths = []
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED_DIRS]
        for name in names:
            path = Path(place) / name
            if is_file(path):
                paths.append(path)
    files = {}
    for path in sorted(paths):
        relative = path.relative_to(root)
        files[relative.as_posix()] = path
    return files
