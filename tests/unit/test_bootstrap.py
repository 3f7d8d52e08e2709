"""A base is taken from the engine's store only if it holds what this stack asks of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envbuilder import resolver, workflow
from envbuilder.catalog.rows import Catalog
from envbuilder.engine import bootstrap
from envbuilder.engine.client import ImageFacts
from envbuilder.model import BASE_BOOTSTRAP, Request, Stack


@pytest.fixture
def stack(facts: Catalog) -> Stack:
    return resolver.resolve(Request(base=BASE_BOOTSTRAP), facts)


def made_by(contents: str) -> ImageFacts:
    return ImageFacts(
        id="sha256:1", labels={bootstrap.LABEL: contents} if contents else {}, env=(), size=1, digest=None
    )


@pytest.mark.parametrize(("contents", "made"), [(None, 0), ("python3", 1), ("", 1)], ids=["ours", "older", "unknown"])
def test_a_base_that_lacks_something_is_made_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, contents: str | None, made: int
) -> None:
    bases: list[str] = []
    monkeypatch.setattr(workflow, "make_base", lambda base, engine, site: bases.append(base.reference))
    found = made_by(bootstrap.contents(stack.base) if contents is None else contents)
    engine = cast("Any", SimpleNamespace(image=lambda reference: found))
    assert workflow.have_base(stack, engine, cast("Any", None)) is found
    assert bases == [stack.base.reference] * made


def test_the_label_says_what_a_base_holds(stack: Stack) -> None:
    assert bootstrap.changes(replace(stack.base, system_packages=("a", "b")))[-1] == 'LABEL dev.envbuilder.base="a b"'
