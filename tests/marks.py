"""Which cases of a test are left to `make test`."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], *, fast: int = 1) -> list[Any]:
    """The cases of a test, of which `make fast` runs only the first ones; a tuple is the values of one case."""
    params = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        params.append(
            pytest.param(*values, marks=[] if number < fast else pytest.mark.slow)
        )
    return params
