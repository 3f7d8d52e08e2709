"""The values worth trying in place of one that does not work, best first."""

import difflib
from collections.abc import Iterator

from packaging.version import Version

from envbuilder.candidates import Candidate
from envbuilder.catalog.rows import Catalog
from envbuilder.knowledge import known, unknown
from envbuilder.model import Request
from envbuilder.request import parse_option
from envbuilder.rules import ceiling_of


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
        yield Version(build.driver_floor)
    elif option == "transformers":
        row = ceiling_of(best, catalog)
        if row:
            yield row.newest


def _alike(option: str, said: object, catalog: Catalog) -> Iterator[object]:
    text, names = str(said), known(option, catalog)
    if isinstance(said, Version):
        parts = len(said.release)
        if option == "python":
            yield Version(".".join(map(str, said.release[:2])))
        lines = {".".join(name.split(".")[:parts]) for name in names if name.count(".") >= parts - 1}
        names = sorted(lines, key=Version)
    for near in difflib.get_close_matches(text, names, cutoff=0.6):
        try:
            yield parse_option(option, near)
        except ValueError:
            continue  # a name in the catalog that the command line does not take
