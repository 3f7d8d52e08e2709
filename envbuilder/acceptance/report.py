"""To come."""

from collections.abc import Callable

from envbuilder.model import Receipt


def form_of(suffix: str) -> Callable[[Receipt], str]:
    raise NotImplementedError(suffix)
