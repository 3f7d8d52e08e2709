"""How large every installed distribution is: one JSON object, the last line of stdout.

`envbuilder inspect` sends this text to `python -I -c` in a container of any image: Python 3.8 or later, standard
library only. A distribution's bytes are those on disk of the files its RECORD names, and of their byte-code, which no
RECORD need name. A file that two distributions claim counts for the first.
"""

import csv
import json
import os
import platform
import sys


def measure(folders):
    """What the folders that Python imports packages from hold."""
    disk, linked = {}, set()
    for folder in folders:
        disk.update(files_below(folder, linked))
    found, owner = [], {}
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.endswith(".dist-info"):
                found.append(distribution(folder, name, owner, disk))
    unclaimed = 0
    for path, size in disk.items():
        if path not in owner:
            claimer = owner.get(source_of(path))
            if claimer is None:
                unclaimed += size
            else:
                claimer["bytes"] += size
    return {
        "python": platform.python_version(),
        "folders": [text(folder) for folder in folders],
        "distributions": found,
        "unclaimed": unclaimed,
    }


def files_below(folder, linked):
    """Path → bytes; a further name of a file (a hard link) has none."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            info = os.lstat(path)
            key = (info.st_dev, info.st_ino)
            yield path, 0 if key in linked else info.st_size
            if info.st_nlink > 1:
                linked.add(key)


def size_of(path):
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):  # it is not there; a RECORD may name anything
        return None


def distribution(folder, name, owner, disk):
    """One distribution; it becomes the owner of its files. `bytes` is None where it keeps no RECORD."""
    title, _, version = name[: -len(".dist-info")].rpartition("-")
    made = {"name": text(title or version), "version": text(version if title else ""), "bytes": None}
    rows = record(os.path.join(folder, name, "RECORD"))
    if rows is None:
        return made
    made["bytes"] = 0
    for row in rows:
        path = os.path.normpath(os.path.join(folder, row))
        size = disk[path] if path in disk else size_of(path)
        if size is not None and path not in owner:
            owner[path] = made
            made["bytes"] += size
    return made


def text(name):
    """A name as JSON can hold it: file names may be no text."""
    return name.encode("utf-8", "replace").decode()


def record(path):
    """The paths that a RECORD names, or None."""
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as stream:
            return [row[0] for row in csv.reader(stream) if row and row[0]]
    except (OSError, csv.Error):
        return None


def source_of(path):
    """`a/__pycache__/b.cpython-39.pyc` → `a/b.py`; None for what is no byte-code."""
    folder, name = os.path.split(path)
    if os.path.basename(folder) != "__pycache__" or not name.endswith(".pyc"):
        return None
    return os.path.join(os.path.dirname(folder), name.split(".")[0] + ".py")


def package_folders(paths):
    """Where packages are installed, of the places Python imports from."""
    places = dict.fromkeys(os.path.realpath(path) for path in paths)
    return [path for path in places if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)]


if __name__ == "__main__":
    print("\n" + json.dumps(measure(package_folders(sys.path))))
