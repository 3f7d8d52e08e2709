"""The torches that a request could have in place of the one that was refused, Python by Python."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request, Stack
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.candidates import Candidate
from envbuilder.versions import listed, matches_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A request that is like the user's but for its torch or its Python, and the stack that it is."""

    command: str
    stack: Stack
    moved: str = ""  # "Python 3.13": what the user gave and is another here


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRange:
    """The torches that one Python can have, the newest first."""

    torches: tuple[Version, ...]
    without: tuple[Version, ...] = ()  # between them, and not for this CUDA
    variant: Callable[[Version], Variant | None]

    @property
    def specifier(self) -> str:
        """`>=2.11.0,<=2.14.1`."""
        oldest = self.torches[-1]
        newest = self.torches[0]
        clauses = [f">={oldest}", f"<={newest}"]
        for version in self.without:
            clauses.append(f"!={version}")
        return ",".join(clauses)


ResolveAs = Callable[[Request], tuple[str, Stack] | None]
"""The command for a request, and its stack; None if there is none."""


def torch_ranges(
    request: Request, stack: Stack, catalog: Catalog, resolve_as: ResolveAs
) -> Iterator[TorchRange]:
    """Where a refused request may be answered: on its Python, then on others, the newest first.

    What the user gave comes before what moves it: another torch or Python than the requested one.
    """
    loose = replace(request, torch=None, torchvision=None, python=None)
    levels = []
    for torch, torchvision in (
        (request.torch, request.torchvision),
        (None, None),
    ):
        for python in (request.python, None):
            level = replace(loose, torch=torch, torchvision=torchvision, python=python)
            if level not in levels:
                levels.append(level)
    seen: set[tuple[Version, tuple[Version, ...]]] = set()
    for level in levels:
        for python in _pythons(level, stack, catalog):
            torches = _torches(level, python, stack, catalog)
            if not torches or (python, torches) in seen:
                continue
            seen.add((python, torches))
            yield TorchRange(
                torches=torches,
                without=_between(torches, catalog),
                variant=_variant_maker(request, python, resolve_as),
            )


def _fitting(request: Request, stack: Stack, catalog: Catalog) -> list[Candidate]:
    """The candidates of the same index: PyTorch's own have one CUDA each, and other wheels."""
    index = index_for(catalog)
    mask = index.matching(request) & index.mask_for_packages(request)
    fitting = []
    for candidate in index.candidates_in(mask):
        if candidate.package_index == stack.index:
            fitting.append(candidate)
    return fitting


def _pythons(request: Request, stack: Stack, catalog: Catalog) -> list[Version]:
    """That of the stack, then the others, the newest first."""
    pythons = set()
    for candidate in _fitting(request, stack, catalog):
        pythons.add(candidate.python)
    own = stack.python
    others = pythons - {own}
    newest_first = sorted(others, reverse=True)
    if own in pythons:
        newest_first.insert(0, own)
    return newest_first


def _torches(
    request: Request, python: Version, stack: Stack, catalog: Catalog
) -> tuple[Version, ...]:
    on_python = replace(request, python=python)
    torches = set()
    for candidate in _fitting(on_python, stack, catalog):
        torch = candidate.build.torch
        torches.add(torch)
    newest_first = sorted(torches, reverse=True)
    return tuple(newest_first)


def _between(torches: tuple[Version, ...], catalog: Catalog) -> tuple[Version, ...]:
    """The torches inside a range that are not of it."""
    oldest = torches[-1]
    newest = torches[0]
    others = set()
    for build in catalog.torch:
        torch = build.torch
        if torch in torches:
            continue
        if oldest < torch < newest:
            others.add(torch)
    return tuple(sorted(others))


def _variant_maker(
    request: Request, python: Version, resolve_as: ResolveAs
) -> Callable[[Version], Variant | None]:
    def make(torch: Version) -> Variant | None:
        for changed in _requests_for(request, python, torch):
            found = resolve_as(changed)
            if found is None:
                continue
            command, stack = found
            if (stack.python, stack.torch) == (python, torch):
                moved = _moved(request, stack)
                return Variant(command=command, stack=stack, moved=moved)
        return None

    return make


def _requests_for(
    request: Request, python: Version, torch: Version
) -> Iterator[Request]:
    """The request with as little as possible changed to get a torch on a Python."""
    kept_torch = request.torch
    kept_vision = request.torchvision
    if kept_torch is not None and not matches_prefix(kept_torch, torch):
        kept_torch = torch
        kept_vision = None
    kept_python = request.python
    if kept_python is not None and kept_python != python:
        kept_python = python
    kept = replace(
        request,
        python=kept_python,
        torch=kept_torch,
        torchvision=kept_vision,
    )
    yield kept
    yield replace(kept, python=python)
    yield replace(kept, torch=torch, torchvision=None)
    yield replace(kept, python=python, torch=torch, torchvision=None)


def _moved(request: Request, stack: Stack) -> str:
    """What the user gave and the stack has not."""
    torch = request.torch
    python = request.python
    moved = []
    if torch and not matches_prefix(torch, stack.torch):
        moved.append(f"torch {torch}")
    if python and python != stack.python:
        moved.append(f"Python {python}")
    return listed(moved)
