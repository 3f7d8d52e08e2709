"""The values worth trying in place of one that does not work, best first."""

import difflib
from collections.abc import Iterator, Sequence

from packaging.version import Version

from envbuilder.catalog.gpus import first_drivers
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.resolved_request import ResolvedRequest

_CUTOFF = 0.6  # how much of a misspelt value must be right


# --- what was probably meant ---------------------------------------------------------------------------------------


def similar_names(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, cutoff=_CUTOFF)


def similar_versions(version: Version, known: Sequence[Version]) -> list[Version]:
    """A release of the same line, then what looks like it and as much of it: 11.7 for 11.70, and not 2.9 for 9.9."""
    newest_first = sorted(known, reverse=True)
    similar = []
    if len(version.release) > 2:
        of_same_line = [other for other in newest_first if other.release[:2] == version.release[:2]]
        similar += of_same_line[:1]
    for text in difflib.get_close_matches(str(version), _prefixes(newest_first, len(version.release)), cutoff=_CUTOFF):
        near = Version(text)
        if near.major == version.major:
            similar.append(near)
    return similar


def _prefixes(versions: Sequence[Version], parts: int) -> list[str]:
    """The first so many numbers of each version that has as many."""
    prefixes: dict[str, None] = {}
    for version in versions:
        if len(version.release) >= parts:
            prefixes[".".join(map(str, version.release[:parts]))] = None
    return list(prefixes)


# --- what the rest of the request resolves to ----------------------------------------------------------------------


def cuda_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    if not best.cpu:
        yield Version(best.cuda_line)
        yield best.build.cuda


def cudnn_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    yield best.build.cudnn


def python_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    yield best.python


def torch_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    yield best.build.torch


def torchvision_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    yield best.build.torchvision


def transformers_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    if best.transformers:
        yield best.transformers.newest


def drivers_to_try(wanted: ResolvedRequest, best: Candidate) -> Iterator[object]:
    """The last branch that supports the GPU, if the driver is past it; what CUDA needs; the GPU's first driver."""
    driver, branches = wanted.request.driver, wanted.drivers
    if branches and branches.newest and driver and driver.major > branches.newest:
        newest = Version(str(branches.newest))
        yield first_drivers(wanted.catalog).get(branches.newest, newest)
    yield Version(best.build.driver_floor)
    if branches and branches.first and branches.first.driver:
        yield Version(branches.first.driver)
