"""`catalog verify --online`: what uv answers about companions is compared with their rows."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from envbuilder import catalog
from envbuilder.catalog import online_companions as online
from envbuilder.catalog.rows import Catalog

ROWS = online.newest_rows(catalog.load_companions())
VLLM = next(row for row in ROWS if row.name == "vllm")


def answer(torch: str = "2.14.0", day: str = "2026-11-02") -> dict[str, Any]:
    assert str(VLLM.first) == "0.33.0"
    return tomllib.loads(f"""
[[packages]]
name = "vllm"
version = "0.33.0"
wheels = [
  {{ url = "x/vllm-0.33.0-cp38-abi3-macosx_11_0_arm64.whl", upload-time = 2026-11-01T16:35:32Z }},
  {{ url = "x/vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl", upload-time = {day}T16:35:32Z }},
]
[[packages]]
name = "torch"
version = "{torch}"
""")


def test_an_index_that_agrees_has_no_problems() -> None:
    assert list(online.compare_release(VLLM, answer())) == []
    assert list(online.compare_torch(VLLM, answer())) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            answer(torch="2.15.0"),
            "companions.json vllm 0.33.0: torch: is ==2.14.0; the index resolves 2.15.0 for 0.33.0",
        ),
        (
            answer(day="2026-11-03"),
            "companions.json vllm 0.33.0: released: is 2026-11-02; the index has 2026-11-03 for 0.33.0",
        ),
    ],
)
def test_an_index_that_differs_is_named(document: dict[str, Any], said: str) -> None:
    found = [
        *online.compare_release(VLLM, document),
        *online.compare_torch(VLLM, document),
    ]
    assert [str(problem) for problem in found] == [said]


def test_the_newest_range_of_each_package_is_asked_about() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert {"vllm", "xformers", "onnxruntime-gpu", "cupy-cuda12x"} <= set(names)
    assert not {"deepspeed", "apex", "detectron2", "flash-attn"} & set(names)


def test_uv_resolves_for_a_python_that_fits(facts: Catalog) -> None:
    for row in ROWS:
        assert online.python_for(row, facts).major == 3
    assert str(online.python_for(VLLM, facts)) == "3.14"
    words = online.argv(VLLM, facts, "uv", Path("f"), alone=True)
    assert words[words.index("--python-version") + 1] == "3.14"
    assert "--no-deps" in words
    assert "--no-deps" not in online.argv(VLLM, facts, "uv", Path("f"), alone=False)
    assert online.with_torch(VLLM) == "vllm==0.33.0\ntorch\n"
    assert "no such release" in str(online.unreadable(VLLM, "× No\n  solution"))
