"""The values worth trying in place of one that does not work, best first."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from packaging.version import Version

from envbuilder.catalog.gpus import first_drivers
from envbuilder.catalog.rows import Catalog
from envbuilder.model import PYPI
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.versions import minor_line

_CUTOFF = 0.6  # how much of a misspelt value must be right


# --- what was probably meant ---------------------------------------------------------------------------------------


def similar_names(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, cutoff=_CUTOFF)


def similar_versions(version: Version, known: Iterable[Version]) -> list[Version]:
    """A release of the same line, then versions spelt alike, of the same length and major.

    11.7 for 11.70, and not 2.9 for 9.9.
    """
    newest_first = sorted(known, reverse=True)
    parts = len(version.release)
    similar = []
    if parts > 2:
        similar += _newest_of_line(version, newest_first)
    prefixes = _prefixes(newest_first, parts)
    for text in difflib.get_close_matches(str(version), prefixes, cutoff=_CUTOFF):
        near = Version(text)
        if near.major == version.major:
            similar.append(near)
    return similar


def _newest_of_line(version: Version, newest_first: Iterable[Version]) -> list[Version]:
    line = minor_line(version)
    for other in newest_first:
        if minor_line(other) == line:
            return [other]
    return []


def _prefixes(versions: Iterable[Version], parts: int) -> list[str]:
    """Each version cut to `parts` numbers."""
    prefixes: dict[str, None] = {}
    for version in versions:
        numbers = version.release[:parts]
        text = ".".join(map(str, numbers))
        if len(numbers) == parts:
            prefixes[text] = None
    return list(prefixes)


# --- what the rest of the request resolves to ----------------------------------------------------------------------


def cuda_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    cuda = rows.request.cuda
    if cuda and not rows.cuda:
        yield from _nearest_lines(cuda, rows.catalog)
    if nearest.cpu:
        return
    yield Version(nearest.cuda_line)
    yield nearest.build.cuda


def _nearest_lines(cuda: Version, catalog: Catalog) -> list[Version]:
    """The lines of its major that torch is built for, the nearest older one first, then newer ones; PyPI's first.

    An older CUDA runs on every driver that the requested one runs on.
    """
    on_pypi = set()
    lines = set()
    for build in catalog.torch:
        line = Version(minor_line(build.cuda))
        lines.add(line)
        if build.index == PYPI:
            on_pypi.add(line)
    of_same_major = [line for line in lines if line.major == cuda.major]
    candidates = of_same_major or list(lines)
    candidates.sort(key=lambda line: _distance(line, cuda))
    candidates.sort(key=lambda line: line not in on_pypi)
    candidates.sort(key=lambda line: line > cuda)
    return candidates


def _distance(line: Version, other: Version) -> int:
    majors = line.major - other.major
    minors = line.minor - other.minor
    return abs(100 * majors + minors)


def cudnn_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    yield nearest.build.cudnn


def python_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    yield nearest.python


def torch_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    yield nearest.build.torch


def torchvision_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    yield nearest.build.torchvision


def transformers_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    if nearest.transformers_run:
        yield nearest.transformers_run.newest


def drivers_to_try(rows: RequestRows, nearest: Candidate) -> Iterator[object]:
    """The last branch that supports the GPU, if the driver is past it; what CUDA needs; the GPU's first driver."""
    branches = rows.driver_branches
    floor = Version(nearest.build.driver_floor)
    if branches is None:
        yield floor
        return
    driver = rows.request.driver
    newest = branches.newest
    if driver and newest and driver.major > newest:
        yield _driver_of_branch(newest, rows.catalog)
    yield floor
    first = branches.first
    if first and first.driver:
        yield Version(first.driver)


def _driver_of_branch(branch: int, catalog: Catalog) -> Version:
    """Its first driver that came with a CUDA toolkit, or just the branch."""
    by_branch = first_drivers(catalog)
    driver = by_branch.get(branch)
    if driver is None:
        return Version(str(branch))
    return driver
