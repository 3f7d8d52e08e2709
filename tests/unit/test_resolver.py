"""Every request becomes a complete stack or a minimal refusal whose suggestions work."""

import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from envbuilder import catalog, resolver
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.model import BASE_BOOTSTRAP, BaseSource, Request, Stack
from envbuilder.request import parse_request

CATALOG = catalog.load()


def request(**options: str) -> Request:
    return parse_request(options)


def refused(wanted: Request) -> NoStackError:
    with pytest.raises(NoStackError) as caught:
        resolver.resolve(wanted, CATALOG)
    return caught.value


def test_cuda_11_7_is_the_stack_of_the_guide(facts: Catalog) -> None:
    stack = resolver.resolve(request(cuda="11.7"), facts)
    assert (str(stack.torch), str(stack.torchvision), str(stack.torchaudio)) == ("2.0.1", "0.15.2", "2.0.2")
    assert (str(stack.cuda), str(stack.cudnn), str(stack.nccl)) == ("11.7.99", "8.5.0.96", "2.14.3")
    assert stack.arch_list == ("sm_37", "sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86")
    assert stack.driver_floor == "450.80.02"
    assert {"numpy<2", "transformers<=4.49.0"} <= set(stack.requirements)
    assert str(stack.python) == "3.10"
    assert stack.base.reference == "python:3.10-slim-bookworm"
    assert all(feature.available for feature in stack.features)
    assert stack.evidence == "verified"
    assert stack.as_of.isoformat() == "2025-03-20"


def test_a_build_that_pypi_has_comes_before_newer_ones_elsewhere(facts: Catalog) -> None:
    stack = resolver.resolve(request(cuda="12.6"), facts)
    assert (str(stack.torch), stack.index) == ("2.7.1", "pypi")
    alone = resolver.resolve(request(cuda="11.8"), facts)
    assert (str(alone.torch), alone.index, alone.evidence) == ("2.7.1", "pytorch-cu118", "inferred")


def test_bootstrap_takes_the_debian_whose_python_can_do_all(facts: Catalog) -> None:
    stack = resolver.resolve(request(cuda="11.7", base="bootstrap"), facts)
    assert (str(stack.python), stack.base.os, stack.base.source) == ("3.9", "debian 11", BaseSource.BOOTSTRAP)
    assert any("end of life" in note for note in stack.notes)


def test_python_3_11_is_allowed_and_says_what_it_costs(facts: Catalog) -> None:
    stack = resolver.resolve(request(cuda="11.7", python="3.11"), facts)
    feature = {feature.name: feature for feature in stack.features}["torch.compile"]
    assert not feature.available
    assert "3.11" in feature.reason
    assert any("torch.compile is not available" in note for note in stack.notes)


@pytest.mark.parametrize(
    ("options", "conflict"),
    [
        ({"cuda": "99.9"}, {"cuda"}),
        ({"cuda": "11.70"}, {"cuda"}),
        ({"python": "3.42"}, {"python"}),
        ({"cuda": "11.7", "gpu": "H100"}, {"cuda", "gpu"}),
        ({"cuda": "11.7", "gpu": "9.0", "python": "3.10"}, {"cuda", "gpu"}),
        ({"cuda": "11.7", "torch": "2.5"}, {"cuda", "torch"}),
        ({"python": "3.10", "base": "bootstrap"}, {"python", "base"}),
        ({"cuda": "12.1", "driver": "470.57"}, {"cuda", "driver"}),
        ({"cuda": "11.7", "platform": "linux/arm64"}, {"cuda", "platform"}),
        ({"cuda": "11.7", "cudnn": "9"}, {"cuda", "cudnn"}),
    ],
)
def test_a_refusal_names_only_what_clashes(options: dict[str, str], conflict: set[str]) -> None:
    error = refused(request(**options))
    assert {name for name, _ in error.conflict} == conflict
    assert error.reasons
    assert error.suggestions


def test_an_ada_gpu_runs_ampere_code(facts: Catalog) -> None:
    assert resolver.resolve(request(cuda="11.7", gpu="RTX 4090"), facts).cuda_line == "11.7"


def test_unknown_is_told_from_impossible() -> None:
    assert "unknown to the catalog" in refused(request(cuda="99.9")).reasons[0]
    assert "unknown" not in " ".join(refused(request(cuda="11.7", gpu="H100")).reasons)


def test_a_near_miss_is_suggested() -> None:
    assert refused(request(cuda="11.70")).suggestions == ("envbuilder resolve --cuda 11.7",)


def parsed(command: str) -> Request:
    words = shlex.split(command)[2:]
    return parse_request({name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)})


OPTIONS = {
    "cuda": ["11.7", "12.1", "12.8", "13.0", "11.2", "99.9"],
    "python": ["3.8", "3.9", "3.10", "3.11", "3.13", "3.15", "4.0"],
    "torch": ["1.13", "2.0", "2.0.1", "2.6", "2.15", "3.0"],
    "gpu": ["3.7", "T4", "A100", "RTX 4090", "H100", "RTX 5090"],
    "driver": ["400.10", "470.57", "535.104", "580.65.06"],
    "base": ["bootstrap"],
    "platform": ["linux/arm64"],
}


def answer(wanted: Request) -> Stack | NoStackError:
    try:
        return resolver.resolve(wanted, CATALOG)
    except NoStackError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in OPTIONS.items()}))
def test_every_request_is_a_stack_or_a_minimal_refusal(options: dict[str, str]) -> None:
    wanted = request(**options)
    found = answer(wanted)
    if isinstance(found, Stack):
        assert wanted.base != BASE_BOOTSTRAP or found.base.source is BaseSource.BOOTSTRAP
        return
    core = request(**dict(found.conflict))
    assert isinstance(answer(core), NoStackError)
    fewer = [replace(core, **{name: getattr(Request(), name)}) for name, _ in found.conflict]
    assert all(isinstance(answer(one), Stack) for one in fewer)
    assert found.suggestions
    assert all(isinstance(answer(parsed(command)), Stack) for command in found.suggestions)


def test_resolving_is_fast(facts: Catalog) -> None:
    import time

    wanted = request(cuda="11.7")
    started = time.perf_counter()
    resolver.resolve(wanted, facts)
    assert time.perf_counter() - started < 0.05


def test_a_version_covers_by_its_parts() -> None:
    assert resolver.covers(Version("11.7"), Version("11.7.99"))
    assert not resolver.covers(Version("11.70"), Version("11.7.99"))
    assert not resolver.covers(Version("2.1"), Version("2.10.0"))
