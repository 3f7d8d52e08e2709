"""Read which Pythons each transformers can be installed on: show how the facts differ, write only with `--write`.

    .venv/bin/python tools/refresh_transformers.py [--index-url URL] [--write]

transformers is pure Python; the tokenizers that it asks for is not, and its wheels decide. What each asks for is read
out of its wheel by range requests, which wheels of tokenizers there are stands on the index's page. It writes
`facts/transformers_releases.json`: the newest patch of each minor release.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import requests
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    ProjectPage,
    PyPISimple,
)
from remotezip import RemoteZip  # type: ignore[import-untyped]

from facts import FACTS, Row, dumps_today, publish
from index.pages import NEWEST_PYTHON, allows, places, pythons

FILE = "transformers_releases.json"
OLDEST = Version(
    "4.18"
)  # of March 2022: what came before is older than any torch of the catalog
PYTHONS = [Version(f"3.{minor}") for minor in range(7, NEWEST_PYTHON + 1)]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 1 if the facts differ and were not written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--index-url",
        default=PYPI_SIMPLE_ENDPOINT,
        help="an index that serves range requests",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the facts after showing what changes",
    )
    options = parser.parse_args(argv)

    def metadata(wheel: DistributionPackage) -> str:
        with RemoteZip(wheel.url, session=session) as file:
            path = next(
                name for name in file.namelist() if name.endswith(".dist-info/METADATA")
            )
            return str(file.read(path).decode())

    with (
        requests.Session() as session,
        PyPISimple(options.index_url, session=session) as index,
    ):
        transformers, tokenizers = (
            index.get_project_page(package)
            for package in ("transformers", "tokenizers")
        )
        rows = list(release_rows(transformers, tokenizers, metadata))
    return publish({FILE: dumps_today(FILE, rows)}, FACTS, write=options.write)


def release_rows(
    transformers: ProjectPage,
    tokenizers: ProjectPage,
    metadata: Callable[[DistributionPackage], str],
) -> Iterator[Row]:
    """A row for the newest patch of each minor release, oldest first."""
    covered = wheels_of(tokenizers)
    began = first_days(transformers)
    for version, wheel in sorted(newest_patches(transformers).items()):
        fields = parse_email(metadata(wheel))[0]
        wanted = tokenizers_bound(fields.get("requires_dist", []))
        required = SpecifierSet(fields.get("requires_python", ""))
        found = {
            platform: [
                str(python)
                for python in PYTHONS
                if allows(required, python) and python in places_of
            ]
            for platform, places_of in installable(wanted, covered).items()
        }
        yield {
            "transformers": str(version),
            "released": wheel.upload_time.date().isoformat()
            if wheel.upload_time
            else None,
            "began": began.get(version.release[:2]),
            "tokenizers": str(wanted),
            "pythons": found,
            "status": "verified",
            "source": "PyPI: transformers, METADATA read with HTTP range requests; tokenizers, its page",
        }


def first_days(page: ProjectPage) -> dict[tuple[int, ...], str]:
    """Minor line → the day of its first patch."""
    days: dict[tuple[int, ...], str] = {}
    for file in page.packages:
        version = Version(file.version or "0")
        if file.package_type != "wheel" or file.is_yanked or version.is_prerelease:
            continue
        if file.upload_time is None:
            continue
        day = file.upload_time.date().isoformat()
        line = version.release[:2]
        days[line] = min(day, days.get(line, day))
    return days


def newest_patches(page: ProjectPage) -> dict[Version, DistributionPackage]:
    """Version → wheel, one for each minor release."""
    found: dict[tuple[int, ...], tuple[Version, DistributionPackage]] = {}
    for file in page.packages:
        version = Version(file.version or "0")
        if (
            file.package_type != "wheel"
            or file.is_yanked
            or version.is_prerelease
            or version < OLDEST
        ):
            continue
        line = version.release[:2]
        if line not in found or version > found[line][0]:
            found[line] = version, file
    return dict(found.values())


def wheels_of(page: ProjectPage) -> dict[Version, dict[str, set[Version]]]:
    """Version → platform → the Pythons that there is a wheel for."""
    found: dict[Version, dict[str, set[Version]]] = {}
    for file in page.packages:
        version = Version(file.version or "0")
        if (
            file.package_type == "wheel"
            and not file.is_yanked
            and not version.is_prerelease
        ):
            required = SpecifierSet(file.requires_python or "")
            for platform in places(file.filename):
                covered = found.setdefault(version, {}).setdefault(platform, set())
                covered |= {
                    python
                    for python in pythons(file.filename)
                    if allows(required, python)
                }
    return found


def tokenizers_bound(lines: Sequence[str]) -> SpecifierSet:
    """What is asked of tokenizers without any extra."""
    wanted = [Requirement(line) for line in lines]
    return next(
        one.specifier
        for one in wanted
        if one.name == "tokenizers" and one.marker is None
    )


def installable(
    wanted: SpecifierSet, covered: dict[Version, dict[str, set[Version]]]
) -> dict[str, set[Version]]:
    """Platform → the Pythons for which some version that is asked for has a wheel."""
    found: dict[str, set[Version]] = {}
    for version, by_platform in covered.items():
        if version in wanted:
            for platform, here in by_platform.items():
                found.setdefault(platform, set()).update(here)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    sys.exit(main())
