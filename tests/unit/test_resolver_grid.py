"""Every cell of the grid is a stack or a refusal, the one that the facts say."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import few
from oracle import Combination, Oracle, number

from envbuilder import catalog
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.model import Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.candidate_index import REFUSED, CandidateIndex, index_for
from envbuilder.resolve.command_line import parse_option, parse_request

CATALOG = catalog.load()
ORACLE = Oracle(catalog.FOLDER)
DRIVERS = (
    "390 410 418 440 450 455 460 465 470 495 510 515 520 525 530 535 545 550 555 560 565 570 575 580 590 595 610 615 "
    "450.51.06 470.57.02 535.104.05 580.65.06"
).split()
Said = Sequence[str | None]
AXES: dict[str, Said] = {
    "cuda": [
        None, "99.9", "11.7.2", "11", "12", "13",
        *sorted({f"{number(row['release'])[0]}.{number(row['release'])[1]}" for row in ORACLE.runtimes}),
        *sorted({row["release"] for row in ORACLE.runtimes} | {row["cuda"] for row in ORACLE.torch}),
    ],
    "torch": [None, "1.12", "2.0", "2.5.2", *sorted({row["torch"] for row in ORACLE.torch})],
    "python": [None, *(f"3.{minor}" for minor in range(8, 16))],
    "gpu": [None, "9.9", *(row["capability"] for row in ORACLE.gpus)],
    "driver": [None, *DRIVERS],
}  # fmt: skip


def parsed(name: str) -> list[object]:
    return [None if text is None else parse_option(name, text) for text in AXES[name]]


def key(chosen: CandidateIndex, found: int) -> tuple[str, ...] | None:
    if found == REFUSED:
        return None
    some = chosen.candidates[found]
    return (
        str(some.build.torch),
        str(some.build.cuda),
        str(some.python),
        some.base.reference,
    )


def expected(cuda: str | None, torch: str | None) -> Iterator[Combination | None]:
    """The oracle's answers to one block of the grid: fewer combinations are left with every axis."""
    said = {
        name: text
        for name, text in (("cuda", cuda), ("torch", torch))
        if text is not None
    }
    left = [some for some in ORACLE.all if ORACLE.fits(some, said)]  # on linux/amd64
    drivers = [number(driver) if driver else None for driver in AXES["driver"]]
    for python in AXES["python"]:
        on_python = [some for some in left if python in (None, some.python)]
        for gpu in AXES["gpu"]:
            capability = ORACLE.capability(gpu) if gpu else None
            running = [
                some
                for some in on_python
                if gpu is None or (capability and ORACLE.runs(some, capability, gpu))
            ]
            floors = [number(some.row["driver_floor"]) for some in running]
            for have in drivers:
                if have and capability and not ORACLE.drives(have, capability):
                    yield None
                    continue
                pairs = zip(running, floors, strict=True)
                yield next(
                    (
                        some
                        for some, floor in pairs
                        if have is None or have >= floor[: len(have)]
                    ),
                    None,
                )


@pytest.mark.slow
def test_whole_grid_agrees_with_the_oracle() -> None:
    chosen = CandidateIndex(CATALOG)
    cells = chosen.grid({name: parsed(name) for name in AXES})
    assert len(cells) == prod(map(len, AXES.values())) > 5_000_000
    size = len(AXES["python"]) * len(AXES["gpu"]) * len(AXES["driver"])
    refused = array("i", [REFUSED]) * size
    for place, (cuda, torch) in enumerate(product(AXES["cuda"], AXES["torch"])):
        block = cells[place * size : (place + 1) * size]
        said = {
            name: text
            for name, text in (("cuda", cuda), ("torch", torch))
            if text is not None
        }
        if not any(ORACLE.fits(some, said) for some in ORACLE.all):
            assert block == refused, (cuda, torch)
            continue
        answers = {found: key(chosen, found) for found in set(block)}
        for found, some in zip(block, expected(cuda, torch), strict=True):
            assert answers[found] == (some and some.answer), (cuda, torch)


@pytest.mark.parametrize("seed", few(range(200), fast=40))
def test_grid_cell_equals_the_answer_of_resolve(seed: int) -> None:
    import random

    chance = random.Random(seed)
    options = {name: chance.choice(texts) for name, texts in AXES.items()}
    asked = {name: text for name, text in options.items() if text is not None}
    best = ORACLE.best(asked)
    if best is None:
        with pytest.raises(NoStackError):
            resolve(parse_request(asked), CATALOG)
        return
    assert answer(resolve(parse_request(asked), CATALOG)) == best.answer


def answer(stack: Stack) -> tuple[str, ...]:
    return (
        str(stack.torch),
        str(stack.cuda or "none"),
        str(stack.python),
        stack.base.reference,
    )


NAMES = sorted(
    {
        name
        for row in ORACLE.gpus
        for name in row["names"]
        if name in ("H100", "A100", "T4", "V100", "A40")
    }
)
MORE: dict[str, Sequence[str]] = {
    **{
        name: [text for text in texts if text is not None]
        for name, texts in AXES.items()
    },
    "gpu": [*NAMES, *(row["capability"] for row in ORACLE.gpus)],
    "cudnn": [
        "8",
        "8.5",
        "9",
        "9.10.2.21",
        "7",
        *sorted({row["cudnn"] for row in ORACLE.torch}),
    ],
    "torchvision": [
        "0.15",
        "0.29.2",
        "0.9",
        *sorted({row["torchvision"] for row in ORACLE.torch}),
    ],
    "transformers": [
        "3",
        "4",
        "4.10",
        "4.30",
        "4.42",
        "4.40.1",
        "4.49.0",
        "4.50",
        "5",
        "5.23.0",
        "9.9",
    ],
    "base": ["auto", "bootstrap", "registry.example/team/base:1"],
    "os": [
        "debian 11",
        "bookworm",
        "debian 13",
        "debian 9",
        *(row["os"] for row in ORACLE.systems),
    ],
    "flavour": ["runtime", "devel", "cpu"],
    "platform": ["linux/amd64", "linux/arm64"],
}


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(texts) for name, texts in MORE.items()}
    )
)
def test_any_subset_of_options_agrees_with_the_oracle(asked: dict[str, str]) -> None:
    if asked.get("base", "").startswith("registry"):
        asked = {"python": "3.11", **asked}
    best = ORACLE.best(asked)
    try:
        found = answer(resolve(parse_request(asked), CATALOG))
    except NoStackError:
        assert best is None
        return
    assert best is not None
    own = (*best.answer[:3], asked["base"]) if best.place.kind == "own" else best.answer
    assert found == own


def test_the_order_of_the_rows_does_not_matter(facts: Catalog) -> None:
    from dataclasses import replace

    turned = replace(
        facts,
        torch=facts.torch[::-1],
        systems=facts.systems[::-1],
        gpus=facts.gpus[::-1],
    )
    assert index_for(turned).candidates == index_for(facts).candidates
