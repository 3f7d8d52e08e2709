"""A base in the engine is used only if it has the packages that this stack needs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envbuilder import pipeline
from envbuilder.catalog.rows import Catalog
from envbuilder.engine import bootstrap
from envbuilder.engine.image import ImageFacts
from envbuilder.errors import EngineError
from envbuilder.model import BASE_BOOTSTRAP, Request, Stack
from envbuilder.network import Network
from envbuilder.resolve import resolve


@pytest.fixture
def stack(facts: Catalog) -> Stack:
    return resolve(Request(base=BASE_BOOTSTRAP), facts)


def made_by(contents: str) -> ImageFacts:
    return ImageFacts(
        id="sha256:1",
        labels={bootstrap.LABEL: contents} if contents else {},
        env=(),
        size=1,
        digest=None,
        platform="linux/amd64",
    )


def session(**network: str) -> Any:
    console = SimpleNamespace(say=lambda text: None)
    return SimpleNamespace(network=Network(**network), console=console)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contents", "made"),
    [(None, 0), ("python3", 1), ("", 1)],
    ids=["ours", "older", "unknown"],
)
def test_a_base_that_lacks_something_is_made_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, contents: str | None, made: int
) -> None:
    bases: list[str] = []
    monkeypatch.setattr(
        pipeline, "make_base", lambda base, engine, site: bases.append(base.reference)
    )
    found = made_by(bootstrap.contents(stack.base) if contents is None else contents)
    engine = cast(
        "Any",
        SimpleNamespace(image=lambda reference: found, platform=lambda: "linux/amd64"),
    )
    assert pipeline.ensure_base(stack, engine, cast("Any", None)) is found
    assert bases == [stack.base.reference] * made


def test_base_for_another_platform_is_not_bootstrapped(stack: Stack) -> None:
    engine = cast("Any", SimpleNamespace(image=made_by, platform=lambda: "linux/amd64"))
    with pytest.raises(EngineError) as caught:
        pipeline.ensure_base(
            replace(stack, platform="linux/arm64"), engine, cast("Any", None)
        )
    assert caught.value.problems == ("this engine runs on linux/amd64",)


def test_base_for_another_platform_is_pulled_again(facts: Catalog) -> None:
    pulled = []

    def pull(reference: str, platform: str) -> str:
        pulled.append((reference, platform))
        return "no registry here"

    stack = resolve(Request(platform="linux/arm64"), facts)
    engine = cast(
        "Any", SimpleNamespace(image=lambda reference: made_by(""), pull=pull)
    )
    with pytest.raises(
        EngineError,
        match="not found in the engine's store nor on any reachable registry",
    ):
        pipeline.ensure_base(stack, engine, session())
    assert pulled == [(stack.base.reference, "linux/arm64")]


def test_registry_mirror_is_asked_for_the_base(facts: Catalog) -> None:
    pulled = []

    def pull(reference: str, platform: str) -> str:
        pulled.append(reference)
        return ""

    stack = resolve(Request(), facts)
    name = f"mirror.example/hub/library/{stack.base.reference}"
    images = iter([None, made_by("")])
    engine = cast(
        "Any", SimpleNamespace(image=lambda reference: next(images), pull=pull)
    )
    pipeline.ensure_base(stack, engine, session(registry_mirror="mirror.example/hub"))
    assert pulled == [name]


def test_base_label_lists_its_packages(stack: Stack) -> None:
    assert (
        bootstrap.changes(replace(stack.base, system_packages=("a", "b")))[-1]
        == 'LABEL dev.envbuilder.base="a b"'
    )
