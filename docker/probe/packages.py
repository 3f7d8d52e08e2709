"""How large every installed distribution is: one JSON object, the last line of stdout.

`envbuilder inspect` sends this text to `python -I -c` in a container of any image: Python 3.8 or later, standard
library only. A distribution's bytes are those on disk of the files its RECORD names, and of their byte-code, which no
RECORD need name. A file that two distributions claim counts for the first.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Iterable, Iterator


@dataclass
class Distribution:
    """`bytes` is None if it keeps no RECORD."""

    name: str
    version: str
    bytes: int | None


def main() -> None:
    folders = package_folders(sys.path)
    document = json.dumps(measure(folders))
    print(f"\n{document}")


def package_folders(paths: Iterable[str]) -> list[str]:
    """Where packages are installed, of the places Python imports from."""
    folders: list[str] = []
    for path in map(os.path.realpath, paths):
        if not path.endswith(("site-packages", "dist-packages")):
            continue
        if os.path.isdir(path) and path not in folders:
            folders.append(path)
    return folders


def measure(folders: list[str]) -> dict[str, Any]:
    """What the folders that Python imports packages from hold."""
    sizes = sizes_below(folders)
    owners: dict[str, Distribution] = {}
    distributions = []
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.endswith(".dist-info"):
                distribution = claim_files(folder, name, sizes, owners)
                distributions.append(distribution)
    unclaimed = add_byte_code(sizes, owners)
    return {
        "python": platform.python_version(),
        "folders": [to_text(folder) for folder in folders],
        "distributions": [asdict(distribution) for distribution in distributions],
        "unclaimed": unclaimed,
    }


# --- files ---------------------------------------------------------------------------------------------------------


def sizes_below(folders: list[str]) -> dict[str, int]:
    """Path → bytes; a further name of a file (a hard link) has none."""
    sizes = {}
    linked = set()
    for path in files_below(folders):
        info = os.lstat(path)
        inode = (info.st_dev, info.st_ino)
        sizes[path] = 0 if inode in linked else info.st_size
        if info.st_nlink > 1:
            linked.add(inode)
    return sizes


def files_below(folders: list[str]) -> Iterator[str]:
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                yield os.path.join(root, name)


def size_of(path: str) -> int | None:
    """None if there is no such file; a RECORD may name anything."""
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):
        return None


def source_of(path: str) -> str | None:
    """`a/__pycache__/b.cpython-39.pyc` → `a/b.py`; None for what is no byte-code."""
    file = PurePath(path)
    cache = file.parent
    if cache.name != "__pycache__" or file.suffix != ".pyc":
        return None
    module = file.name.split(".")[0]
    return str(cache.parent / f"{module}.py")


# --- who owns them -------------------------------------------------------------------------------------------------


def claim_files(
    folder: str,
    dist_info: str,
    sizes: dict[str, int],
    owners: dict[str, Distribution],
) -> Distribution:
    """One distribution; it becomes the owner of its files."""
    distribution = read_name(dist_info)
    rows = read_record(os.path.join(folder, dist_info, "RECORD"))
    if rows is None:
        return distribution
    distribution.bytes = 0
    for row in rows:
        path = os.path.normpath(os.path.join(folder, row))
        size = sizes.get(path)
        if size is None:  # it lies elsewhere, as a script does
            size = size_of(path)
        if size is not None and path not in owners:
            owners[path] = distribution
            distribution.bytes += size
    return distribution


def read_name(dist_info: str) -> Distribution:
    """`torch-2.0.1.dist-info` → torch, 2.0.1."""
    stem = dist_info[: -len(".dist-info")]
    name, _, version = stem.rpartition("-")
    if not name:
        name, version = stem, ""
    return Distribution(to_text(name), to_text(version), None)


def read_record(path: str) -> list[str] | None:
    """The paths that a RECORD names, or None if there is none."""
    try:
        with open(
            path, newline="", encoding="utf-8", errors="surrogateescape"
        ) as stream:
            return [row[0] for row in csv.reader(stream) if row and row[0]]
    except (OSError, csv.Error):
        return None


def add_byte_code(sizes: dict[str, int], owners: dict[str, Distribution]) -> int:
    """Count the byte-code for the owner of its source; returns the bytes that belong to nobody."""
    unclaimed = 0
    for path, size in sizes.items():
        if path in owners:
            continue
        source = source_of(path) or ""
        owner = owners.get(source)
        if owner is None or owner.bytes is None:
            unclaimed += size
        else:
            owner.bytes += size
    return unclaimed


def to_text(name: str) -> str:
    """A name as JSON can hold it: file names may be no text."""
    return name.encode("utf-8", "replace").decode()


if __name__ == "__main__":
    main()
