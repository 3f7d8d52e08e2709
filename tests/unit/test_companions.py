"""Packages that are bound to torch: pairs that were seen to work, out of the committed facts."""

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog.companions import Companion, covers

ROWS = catalog.load_companions()


def row_of(name: str, version: str) -> Companion:
    found = [row for row in ROWS if row.name == name and covers(row, Version(version))]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("name", "versions", "torch"),
    [
        ("vllm", "0.33.0", "2.14.0"),
        ("vllm", "0.20.0 0.24.0 0.26.0", "2.11.0"),
        ("vllm", "0.17.0 0.18.1 0.19.1", "2.10.0"),
        ("vllm", "0.14.0 0.15.1 0.16.0", "2.9.1"),
        ("vllm", "0.10.0 0.10.1 0.10.1.1", "2.7.1"),
        ("vllm", "0.8.0 0.8.3 0.8.5.post1", "2.6.0"),
        ("xformers", "0.0.31.post1", "2.7.1"),
        ("xformers", "0.0.22", "2.0.1"),
    ],
)
def test_a_release_belongs_to_one_torch(name: str, versions: str, torch: str) -> None:
    for version in versions.split():
        assert row_of(name, version).torch == f"=={torch}"


@pytest.mark.parametrize(
    ("name", "version", "newest"),
    [
        ("vllm", "0.33.0", "3.14"),
        ("vllm", "0.19.1", "3.13"),
        ("vllm", "0.10.1.1", "3.12"),
        ("xformers", "0.0.30", "3.12"),
    ],
)
def test_python_has_an_upper_bound(name: str, version: str, newest: str) -> None:
    pythons = SpecifierSet(row_of(name, version).python)
    assert pythons.contains(f"{newest}.99")
    assert not pythons.contains(f"3.{int(newest[2:]) + 1}.0")


@pytest.mark.parametrize(
    ("name", "version", "cuda"),
    [
        ("vllm", "0.2.1.post1", (11,)),
        ("vllm", "0.19.1", (12,)),
        ("vllm", "0.20.0", (13,)),
        ("xformers", "0.0.22", (11,)),
        ("xformers", "0.0.35", (12,)),
        ("onnxruntime-gpu", "1.18.1", (11,)),
        ("onnxruntime-gpu", "1.19.0", (12,)),
        ("onnxruntime-gpu", "1.26.0", (12,)),
        ("onnxruntime-gpu", "1.27.0", (13,)),
        ("cupy-cuda13x", "14.2.0", (13,)),
    ],
)
def test_extensions_link_to_one_major(
    name: str, version: str, cuda: tuple[int, ...]
) -> None:
    assert row_of(name, version).cuda == cuda


def test_old_vllm_does_not_run_on_transformers_5() -> None:
    for version in ("0.8.5.post1", "0.10.1.1", "0.11.0"):
        bound = SpecifierSet(row_of("vllm", version).transformers)
        assert not bound.contains("5.0.0")
        assert bound.contains("4.57.6")


def test_a_row_ends_where_the_next_one_begins() -> None:
    row = row_of("vllm", "0.10.1.1")
    following = row_of("vllm", "0.10.2")
    assert row.next_released == following.released
    assert row_of("vllm", "0.33.0").next_released is None


def test_a_version_outside_is_not_covered() -> None:
    row = row_of("vllm", "0.33.0")
    assert not covers(row, Version("0.32.0"))
    assert not covers(row, Version("0.33.1"))
