"""The values worth trying in place of one that does not work, best first."""

import difflib
from collections.abc import Iterator

from packaging.version import Version

from envbuilder.catalog.gpus import alike_gpus, branches, find_gpu, find_gpus, first_drivers, is_capability
from envbuilder.catalog.rows import Catalog, TorchBuild
from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.command_line import parse_option
from envbuilder.resolve.refusal import known, unknown
from envbuilder.resolve.rules import ceiling_of


def values_to_try(option: str, request: Request, best: Candidate, catalog: Catalog) -> Iterator[object]:
    """What was meant, if the value looks misspelt; then what the rest of the request resolves to."""
    said = getattr(request, option)
    if unknown(option, request, catalog):
        yield from _alike(option, said, catalog)
    build = best.build
    if option == "cuda" and not best.cpu:
        yield Version(f"{build.cuda.major}.{build.cuda.minor}")
        yield build.cuda
    elif option == "python":
        yield best.python
    elif option in ("torch", "torchvision", "cudnn"):
        yield getattr(build, option)
    elif option == "driver":
        yield from _drivers(request, build, catalog)
    elif option == "transformers":
        row = ceiling_of(best, catalog)
        if row:
            yield row.newest


def _drivers(request: Request, build: TorchBuild, catalog: Catalog) -> Iterator[Version]:
    """The last branch that knows the GPU, if the driver is past it; what CUDA needs; the first that knows the GPU."""
    gpu = find_gpu(request.gpu, catalog) if request.gpu else None
    known = branches(catalog)[gpu.capability] if gpu else None
    if known and known.last and request.driver and request.driver.major > int(known.last.subject):
        yield first_drivers(catalog).get(int(known.last.subject), Version(known.last.subject))
    yield Version(build.driver_floor)
    if known and known.first and known.first.driver:
        yield Version(known.first.driver)


def _alike(option: str, said: object, catalog: Catalog) -> Iterator[object]:
    if option == "gpu" and not is_capability(str(said)):
        ambiguous = [str(row.capability) for row in find_gpus(str(said), catalog)]
        yield from ambiguous or alike_gpus(str(said), catalog)
        return
    if isinstance(said, Version):
        yield from _alike_versions(option, said, catalog)
        return
    for near in difflib.get_close_matches(str(said), known(option, catalog), cutoff=0.6):
        try:
            yield parse_option(option, near)
        except ValueError:
            continue  # a name in the catalog that the command line does not take


def _alike_versions(option: str, said: Version, catalog: Catalog) -> Iterator[Version]:
    """A release of the same line, then what looks like it and as much of it: 11.7 for 11.70, and not 2.9 for 9.9."""
    versions, parts = sorted(map(Version, known(option, catalog)), reverse=True), len(said.release)
    yield from [version for version in versions if parts > 2 and version.release[:2] == said.release[:2]][:1]
    if option == "python":
        yield Version(".".join(map(str, said.release[:2])))
    lines = dict.fromkeys(".".join(map(str, v.release[:parts])) for v in versions if len(v.release) >= parts)
    near = difflib.get_close_matches(str(said), lines, cutoff=0.6)
    yield from (version for text in near if (version := Version(text)).major == said.major)
