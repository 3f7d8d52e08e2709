"""What an impossible request gets: a conflict that is minimal, reasons with their sources, commands that work."""

import random
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import few

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog
from envbuilder.cli.request import request_from
from envbuilder.cli.resolve_command import command as resolve_command
from envbuilder.doctor import request_for_host
from envbuilder.errors import NoStackError
from envbuilder.grammar import PLATFORMS
from envbuilder.host.records import Host
from envbuilder.model import Request, Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.command_line import parse_request, texts_of_set_options
from envbuilder.resolve.explain import explain

CATALOG = catalog.load()
OPTIONS = {
    "cuda": [
        "11.7",
        "11.7.1",
        "11.7.2",
        "11.2",
        "11",
        "12",
        "12.0",
        "12.1",
        "12.8",
        "13.0",
        "13.0.2",
        "99.9",
        "11.70",
    ],
    "cudnn": ["8", "8.5", "9.1", "7", "9.99"],
    "python": [
        "3.7",
        "3.8",
        "3.9",
        "3.10",
        "3.11",
        "3.13",
        "3.15",
        "4.0",
        "3.1",
        "3.10.4",
    ],
    "torch": ["1.12", "1.13", "2.0", "2.0.1", "2.6", "2.15", "3.0"],
    "torchvision": ["0.15", "0.29.2", "0.1"],
    "transformers": ["4.30", "4.44.2", "4.50", "5", "9.9"],
    "gpu": [
        "3.0",
        "3.7",
        "T4",
        "A100",
        "H100",
        "H10",
        "9.9",
        "5.2",
        "12.0",
        "NVIDIA H100 80GB HBM3",
        "V100",
        "8.7",
        "11.0",
    ],
    "driver": ["390", "400.10", "470.57.02", "535", "535.104.05", "580", "590.48.01"],
    "base": ["bootstrap", "registry.example/team/base:1"],
    "os": ["debian 11", "bookworm", "debian 13", "debian 9", "plan"],
    "flavour": ["devel", "cpu"],
    "platform": ["linux/arm64"],
}
PACKAGES: list[tuple[str, ...]] = [
    (),
    (),
    ("einops<0.9",),
    ("einops", "lion-pytorch==0.1"),
]


@pytest.fixture(autouse=True)
def no_settings_and_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(request_for_host, "ask", lambda _: Host())


def resolved(request: Request) -> Stack | NoStackError:
    try:
        return resolve(request, CATALOG)
    except NoStackError as error:
        return error


def pasted(command: str) -> Request:
    """The request of a command, by the parser of the command line itself."""
    words = shlex.split(command)
    assert words[:2] == ["envbuilder", "resolve"]
    context = resolve_command.make_context("resolve", words[2:])
    return request_from(context.params)


def asked(options: dict[str, str], packages: tuple[str, ...] = ()) -> Request:
    if options.get("base", "").startswith("registry"):
        options = {"python": "3.11", **options}
    return parse_request(options, packages)


def impossible(number: int) -> Iterator[Request]:
    """Requests that nothing answers, all different, the same at every run."""
    chance, seen = random.Random(11), set()
    while len(seen) < number:
        names = chance.sample(sorted(OPTIONS), chance.choice([1, 2, 2, 3, 3, 4, 5, 8]))
        request = asked(
            {name: chance.choice(OPTIONS[name]) for name in names},
            chance.choice(PACKAGES),
        )
        key = (request.packages, *texts_of_set_options(request).items())
        if key not in seen and isinstance(resolved(request), NoStackError):
            seen.add(key)
            yield request


def sources() -> set[str]:
    rows: tuple[Any, ...] = (
        *CATALOG.torch,
        *CATALOG.gpus,
        *CATALOG.runtimes,
        *CATALOG.systems,
    )
    rows = (
        *rows,
        *CATALOG.toolkits,
        *CATALOG.compatibility,
        *CATALOG.transformers,
        *CATALOG.transformers_releases,
    )
    devel = CATALOG.policy.devel
    rows += (*devel.without.values(), *devel.images.values()) if devel else ()
    return {row.source for row in rows} | {CATALOG.policy.registry.source}


def check(request: Request) -> None:
    error = resolved(request)
    assert isinstance(error, NoStackError)
    names = [name for name, _ in error.conflict]
    core = replace(Request(), **{name: getattr(request, name) for name in names})
    assert isinstance(resolved(core), NoStackError)
    for name in names:  # without a word of the platform, any will do
        fewer = replace(core, **{name: getattr(Request(), name)})
        places = (
            [core.platform] if "platform" in names and name != "platform" else PLATFORMS
        )
        assert any(
            isinstance(resolved(replace(fewer, platform=place)), Stack)
            for place in places
        ), name
    assert error.reasons
    assert error.suggestions
    for command in error.suggestions:
        again = pasted(command)
        assert isinstance(resolved(again), Stack), command
        assert again.packages == request.packages


@pytest.mark.parametrize("count", few([40, 400]))
def test_conflicts_are_minimal_and_suggested_commands_work(count: int) -> None:
    for request in impossible(count):
        check(request)


def test_command_for_a_custom_base_includes_its_python() -> None:
    options = {"python": "3.13", "torch": "1.12", "transformers": "4.30", "gpu": "H100"}
    request = asked({**options, "base": "registry.example/team/base:1"})
    check(request)
    error = resolved(request)
    assert isinstance(error, NoStackError)
    with_base = [
        pasted(command)
        for command in error.suggestions
        if "registry.example" in command
    ]
    assert with_base
    assert all(again.python for again in with_base)


@pytest.mark.parametrize("count", few([15, 60]))
def test_suggestions_override_settings_with_the_same_options(
    tmp_path: Path, count: int
) -> None:
    """Dropped options may be in envbuilder.toml, so the command removes them explicitly."""
    for request in impossible(count):
        error = resolved(request)
        lines = [
            f'{name} = "{value}"'
            for name, value in texts_of_set_options(request).items()
        ]
        (tmp_path / "envbuilder.toml").write_text("\n".join(lines))
        assert isinstance(error, NoStackError)
        for command in error.suggestions:
            assert isinstance(resolved(pasted(command)), Stack), command


@pytest.mark.slow
def test_every_reason_names_its_source_or_that_it_is_unknown() -> None:
    known = sources()
    plain = (
        "is not in the catalog",
        "is ambiguous",
        "takes X.Y",
        "flavour cpu",
        "flavour runtime",
    )
    for request in impossible(400):
        error = resolved(request)
        assert isinstance(error, NoStackError)
        for reason in error.reasons:
            assert any(source in reason for source in known) or any(
                word in reason for word in plain
            ), reason


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(values) for name, values in OPTIONS.items()}
    )
)
def test_any_request_is_a_stack_or_a_minimal_refusal(options: dict[str, str]) -> None:
    request = asked(options)
    if isinstance(resolved(request), NoStackError):
        check(request)


def test_an_explanation_has_every_combination_once(facts: Catalog) -> None:
    request = parse_request({"cuda": "11.7"})
    weighed = explain(request, index_for(facts))
    assert (
        weighed.winner
        == "torch 2.0.1 for CUDA 11.7.99 on Python 3.10, python:3.10-slim-bookworm"
    )
    assert weighed.because.endswith(
        "the next best, torch 2.0.1 for CUDA 11.7.99 on Python 3.9, loses: an older Python"
    )
    builds = {f"torch {row.torch} for CUDA {row.cuda}" for row in facts.torch}
    assert {other.build for other in weighed.alternatives} == builds
    assert all(other.reasons for other in weighed.alternatives)
    behind = {
        (other.build, other.reasons) for other in weighed.alternatives if other.fits
    }
    assert ("torch 2.0.0 for CUDA 11.7.99", ("an older torch",)) in behind
    without = ("no torch.compile: torch 2.0.1 raises on Python 3.11 and later",)
    assert ("torch 2.0.1 for CUDA 11.7.99", without) in behind


def test_a_refusal_can_be_explained(facts: Catalog) -> None:
    weighed = explain(parse_request({"cuda": "11.7", "gpu": "H100"}), index_for(facts))
    assert weighed.winner is None
    assert not any(other.fits for other in weighed.alternatives)
