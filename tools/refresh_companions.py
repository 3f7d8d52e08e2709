"""Read the wheels of packages bound to torch, CUDA or the GPU; show how the facts differ, write with `--write`.

    .venv/bin/python tools/refresh_companions.py [--index-url URL] [--cache DIR] [--only NAME …] [--write]

Which packages, and what their wheels cannot say, stands in `tools/companions.toml`. Pythons, platforms and glibc come
from the names of the files; torch and transformers from METADATA; CUDA and whether C++ of torch is used from the heads
of the libraries in the wheels: of the first and the last release of a range, and of more where those two differ. GPU
code is read out of whole libraries, of the newest release alone unless the table says otherwise; once read, it stays.
It writes `facts/companions.json` and `docs/reference/companions.md`. What was read is kept, by the hash of the file.
"""

import argparse
import json
import re
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from packaging.version import Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple

import companions_table
from facts import FACTS, Row, dumps_today, publish
from index.companion_rows import (
    Range,
    Release,
    ranges_of,
    read_in_range,
    release_facts,
    releases_of,
    rows_of,
    with_rulings,
)
from index.libraries import cuda_majors
from index.remote import CACHE, CountedSession, RemoteFiles

FILE = "companions.json"
TABLE: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("companions.toml").read_text(encoding="utf-8")
)
Package = Mapping[str, Any]
_AT_ONCE = 8  # requests


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 1 if the facts differ and were not written."""
    options = _parser().parse_args(argv)
    begin = time.monotonic()
    rows: list[Row] = []
    with (
        CountedSession() as session,
        PyPISimple(options.index_url, session=session) as index,
    ):
        files = RemoteFiles(session, options.cache)
        for package in TABLE["package"]:
            name = package["name"]
            if options.only and name not in options.only:
                rows += _committed(name)
                continue
            rows += package_rows(package, index, files)
            _report(name, session, begin)
    rows += unversioned_rows()
    result = publish(
        {FILE: dumps_today(FILE, rows)},
        FACTS,
        write=options.write,
        refuse=refuse_lost,
    )
    if options.write:
        companions_table.write()
    return result


def refuse_lost(name: str, old: str, new: str) -> None:
    """Exit if a package would go, or its newest release. A ruling can make one row of two."""
    before, after = _newest(old), _newest(new)
    for package, version in before.items():
        if package not in after or after[package] < version:
            sys.exit(f"error: {name} would lose {package} {version}")


def _newest(text: str) -> dict[str, Version]:
    newest = {}
    for row in json.loads(text)["rows"] if text else ():
        newest[row["name"]] = Version(row.get("last", "0"))
    return newest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--index-url",
        default=PYPI_SIMPLE_ENDPOINT,
        help="an index that serves range requests",
    )
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="what was read before"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="read these packages alone"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the facts after showing what changes",
    )
    return parser


def _report(name: str, session: CountedSession, begin: float) -> None:
    seconds = time.monotonic() - begin
    print(
        f"{name}: {session.requests} requests, {session.bytes / 1e6:.1f} MB, {seconds:.0f} s",
        file=sys.stderr,
    )


def _committed(name: str) -> list[Row]:
    """The rows of a package as they stand in the file."""
    document = json.loads((FACTS / FILE).read_text(encoding="utf-8"))
    return [row for row in document["rows"] if row["name"] == name]


def package_rows(package: Package, index: PyPISimple, files: RemoteFiles) -> list[Row]:
    """The rows of one package, the oldest releases first."""
    name = package["name"]
    kind = package.get("kind", "wheel")
    releases = releases_of(
        index.get_project_page(name),
        date.fromisoformat(TABLE["since"]),
        sources=kind.endswith("-source"),
        prereleases=package.get("prereleases", False),
    )
    oldest = Version(package.get("oldest", "0"))
    releases = [release for release in releases if release.version >= oldest]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        texts = list(pool.map(lambda release: files.metadata(release.file), releases))
    rulings = [one for one in TABLE["ruling"] if one["name"] == name]
    pairs = []
    for release, text in zip(releases, texts, strict=True):
        facts = release_facts(release, text, package.get("extras", ""))
        pairs.append((release, with_rulings(facts, release.version, rulings)))
    if package.get("torch_asks_for_it"):
        pairs = _asked_for(pairs)
    ranges = _with_libraries(package, ranges_of(pairs), files)
    _add_binaries(package, ranges, files)
    _add_imports(name, ranges)
    head = {"name": name, "kind": kind, "family": package.get("family")}
    return list(rows_of(head, ranges, _source(package)))


def _source(package: Package) -> str:
    parts = f"PyPI: {package['name']}, its page and METADATA"
    if "libraries" in package:
        parts += ", and the libraries in its wheels"
    return parts


def _asked_for(pairs: Sequence[tuple[Release, Row]]) -> list[tuple[Release, Row]]:
    """The releases that some torch is pinned to, with those torches."""
    torch = json.loads((FACTS / "torch.json").read_text(encoding="utf-8"))["rows"]
    found = []
    for release, facts in pairs:
        version = str(release.version)
        pinned = [row["torch"] for row in torch if row["triton"] == version]
        if not pinned:
            continue
        first, last = min(pinned, key=Version), max(pinned, key=Version)
        bound = f"=={first}" if first == last else f">={first},<={last}"
        found.append((release, {**facts, "torch": bound}))
    return found


# --- libraries -----------------------------------------------------------------------------------------------------


def _with_libraries(
    package: Package, ranges: Sequence[Range], files: RemoteFiles
) -> list[Range]:
    """Ranges, divided where the libraries in the wheels differ."""
    pairs = []
    for one in ranges:
        for release, found in read_in_range(
            one.releases, lambda release: _linked(package, release, files)
        ):
            facts = {**one.facts}
            for field, value in found.items():
                facts.setdefault(field, value)
            pairs.append((release, facts))
    return ranges_of(pairs)


def _linked(package: Package, release: Release, files: RemoteFiles) -> Row:
    """What the libraries of a release link to."""
    if "cuda" in package:
        return {"cuda": [package["cuda"]]}
    if "libraries" not in package:
        return {}
    libraries = files.libraries(release.file, package["libraries"])
    majors: set[int] = set()
    for library in libraries.values():
        majors |= cuda_majors(library.needed)
    return {
        "cuda": sorted(majors),
        "cuda_lines": _variants(package.get("variants", ""), libraries),
        "torch_minor_abi": any(library.torch_abi for library in libraries.values()),
    }


def _variants(pattern: str, paths: Mapping[str, object]) -> list[str]:
    """The CUDA lines in the names of libraries of which one is loaded: `_cuda126.so` → 12.6."""
    found = set()
    for path in paths:
        match = re.search(pattern, path) if pattern else None
        if match:
            found.add(".".join(match.groups()))
    return sorted(found, key=Version)


def _add_binaries(
    package: Package, ranges: Sequence[Range], files: RemoteFiles
) -> None:
    """The GPU code of the newest release in each range, or in the last range alone; what is known is not read again."""
    if "binaries" not in package:
        return
    known = {row["last"]: row.get("sm") for row in _committed(package["name"])}
    for one in ranges:
        newest = one.releases[-1]
        sm = known.get(str(newest.version))
        if sm is None and (package.get("every") or one is ranges[-1]):
            sm = files.gpu_code(newest.file, package["binaries"])
        if sm is not None:
            one.facts.setdefault("sm", sm)


def _add_imports(name: str, ranges: Sequence[Range]) -> None:
    """Whether releases that somebody imported on a machine without a GPU could be; of the whole range of each."""
    for row in TABLE["import"]:
        if row["name"] != name:
            continue
        imported = Version(row["release"])
        for one in ranges:
            if one.releases[0].version <= imported <= one.releases[-1].version:
                one.facts.setdefault("imports_without_gpu", row["works"])
                sources = one.facts["ruled_by"]
                one.facts["ruled_by"] = [*sources, f"import: {imported}, {row['how']}"]


# --- packages without releases -------------------------------------------------------------------------------------


def unversioned_rows() -> list[Row]:
    """What is said of packages that nobody should get from the index."""
    rows = []
    for row in TABLE["elsewhere"]:
        rows.append({**row, "checked": TABLE["checked"]})
    return rows


if __name__ == "__main__":
    sys.exit(main())
