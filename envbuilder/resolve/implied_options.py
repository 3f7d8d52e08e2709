"""What the name of a custom base implies for the options that a request leaves open."""

from collections.abc import Iterator
from dataclasses import replace

from envbuilder.catalog.rows import Catalog
from envbuilder.errors import UsageError
from envbuilder.model import Flavour, Request
from envbuilder.resolve.base_check import (
    base_name_of,
    implied_cuda,
    implied_python,
    refusal_of,
    system_of,
)
from envbuilder.resolve.candidate_index import index_for


def complete_request(request: Request, catalog: Catalog) -> Request:
    """The request with the Python and the CUDA of its base, as far as nothing else in the request is against them.

    Raises `UsageError` if nothing tells which Python an image on the base has.
    """
    base = base_name_of(request)
    if base is None or refusal_of(base, catalog):
        return request
    variants = list(_variants(request, catalog))
    index = index_for(catalog)
    for variant in variants:
        if index.best(variant) is not None:
            break
    else:
        return request
    if variant.python is None and system_of(base, catalog) is None:
        raise UsageError(
            f"--base {request.base} needs --python X.Y: its system is not in the catalog"
        )
    return variant


def _variants(request: Request, catalog: Catalog) -> Iterator[Request]:
    """The request with all that the base implies, then with less of it."""
    base = base_name_of(request)
    if base is None:
        return
    python = request.python or implied_python(base, catalog)
    cuda = request.cuda
    if cuda is None and request.flavour is not Flavour.CPU:
        cuda = implied_cuda(base, catalog)
    yield replace(request, python=python, cuda=cuda)
    yield replace(request, cuda=cuda)
    yield replace(request, python=python)
    yield request
