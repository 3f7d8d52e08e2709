"""tools/refresh_companions.py: what pages, METADATA and libraries say, and which releases become one row."""

import json
import struct
from datetime import date
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from pypi_simple import ProjectPage

import companions_table
import refresh_companions
from envbuilder import catalog
from envbuilder.lock.needed_libraries import needed_libraries
from index import libraries
from index.companion_rows import (
    Release,
    ranges_of,
    read_in_range,
    release_facts,
    releases_of,
    rows_of,
    with_rulings,
)
from index.remote import RemoteFiles

SINCE = date(2023, 3, 1)
METADATA = (
    "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Python: <3.13,>=3.9\n"
    "Requires-Dist: torch<3,>=2.4\nRequires-Dist: Transformers<5,>=4.56,!=4.57.1\n"
    'Requires-Dist: torch==1.0; extra == "old"\nRequires-Dist: torch==1.0; sys_platform == "darwin"\n'
    "Provides-Extra: core-cu12\nProvides-Extra: core_cu13\nProvides-Extra: test\n"
)


def page(*files: tuple[str, str]) -> ProjectPage:
    """A page with files and the days of their upload."""
    rows = [
        {
            "filename": file,
            "url": f"https://x.example/{file}",
            "hashes": {"sha256": f"{number:064x}"},
            "yanked": "yanked" in day,
            "upload-time": f"{day[:10]}T00:00:00Z",
        }
        for number, (file, day) in enumerate(files)
    ]
    return ProjectPage.from_json_data(
        {"meta": {"api-version": "1.0"}, "name": "demo", "files": rows}
    )


WHEEL = "demo-{}-cp39-abi3-manylinux_2_28_x86_64.whl"
PAGE = page(
    (WHEEL.format("1.10"), "2024-05-01"),
    (WHEEL.format("1.9"), "2024-04-01"),
    ("demo-1.9-cp39-abi3-manylinux_2_31_aarch64.whl", "2024-04-02"),
    ("demo-1.9-py3-none-any.whl", "2024-04-02"),
    ("demo-1.9.tar.gz", "2024-04-02"),
    (WHEEL.format("1.8"), "2023-02-28"),
    (WHEEL.format("1.11"), "2024-06-01 yanked"),
    (WHEEL.format("2.0rc1"), "2024-06-01"),
    ("demo-1.12-cp39-abi3-win_amd64.whl", "2024-06-01"),
    ("demo-1.13.tar.gz", "2024-07-01"),
)


def test_releases_are_the_stable_ones_for_linux() -> None:
    found = releases_of(PAGE, SINCE, sources=False)
    assert [str(release.version) for release in found] == ["1.9", "1.10"]
    assert found[0].day == date(2024, 4, 1)
    assert found[0].file.filename == WHEEL.format("1.9")
    sources = releases_of(PAGE, SINCE, sources=True)
    assert [str(release.version) for release in sources] == ["1.9", "1.13"]
    with_betas = releases_of(PAGE, SINCE, sources=False, prereleases=True)
    assert str(with_betas[-1].version) == "2.0rc1"


def test_metadata_and_names_of_files_make_the_facts() -> None:
    release = releases_of(PAGE, SINCE, sources=False)[0]
    assert release_facts(release, METADATA, "core-cu([0-9]+)") == {
        "torch": ">=2.4,<3",
        "python": ">=3.9,<3.13",
        "platforms": ["linux/amd64", "linux/arm64"],
        "glibc": "2.28",
        "transformers": "<5",
        "needs_for": {"12": ["demo[core-cu12]"], "13": ["demo[core-cu13]"]},
    }


def test_source_has_the_pythons_of_its_metadata() -> None:
    release = releases_of(PAGE, SINCE, sources=True)[0]
    assert release_facts(release, METADATA)["python"] == ">=3.9,<3.13"
    assert release_facts(release, "Name: demo\n")["python"] == ""


def test_later_ruling_wins_and_each_has_its_status() -> None:
    rulings: list[dict[str, Any]] = [
        {"name": "demo", "transformers": "<5", "status": "documented", "source": "a"},
        {
            "name": "demo",
            "versions": "<2",
            "torch": "==2.4.*",
            "status": "inferred",
            "source": "b",
        },
        {"name": "demo", "needs": ["x"], "status": "verified", "source": "c"},
        {
            "name": "demo",
            "versions": ">=2",
            "torch": "==3",
            "status": "verified",
            "source": "d",
        },
    ]
    ruled = with_rulings({"torch": ">=2"}, Version("1.9"), rulings)
    assert ruled == {
        "torch": "==2.4.*",
        "transformers": "<5",
        "needs": ["x"],
        "field_status": {"transformers": "documented", "torch": "inferred"},
        "ruled_by": ["a", "b", "c"],
    }


def releases(count: int) -> list[Release]:
    """1.0, 1.1, … on the days of a January."""
    found = []
    for number in range(count):
        day = date(2025, 1, number + 1)
        found.append(Release(version=Version(f"1.{number}"), day=day, files=[]))
    return found


@pytest.mark.parametrize(
    ("changes", "most"), [((), 2), ((7,), 10), ((3, 4), 10), ((1,), 10)]
)
def test_only_where_the_ends_differ_more_is_read(
    changes: tuple[int, ...], most: int
) -> None:
    read: set[Version] = set()

    def facts(release: Release) -> dict[str, Any]:
        read.add(release.version)
        minor = release.version.minor
        return {"cuda": sum(minor >= change for change in changes)}

    some = releases(16)
    pairs = list(read_in_range(some, facts))
    assert [release for release, _ in pairs] == some
    assert len(read) <= most
    for release, found in pairs:
        assert found == facts(release)


def test_a_range_ends_on_the_day_of_the_next() -> None:
    same = {"torch": "==2.0", "torch_minor_abi": False, "imports_without_gpu": False}
    pairs = [
        (release, {**same, "cuda": [11 + (number > 1)], "ruled_by": ["b"]})
        for number, release in enumerate(releases(3))
    ]
    head = {"name": "demo", "kind": "wheel", "family": None}
    rows = list(rows_of(head, ranges_of(pairs), "a"))
    assert rows == [
        {
            "name": "demo", "kind": "wheel", "first": "1.0", "last": "1.1", "released": "2025-01-01",
            "next_released": "2025-01-03", "torch": "==2.0", "imports_without_gpu": False, "cuda": [11],
            "status": "verified", "source": "a; b",
        },
        {
            "name": "demo", "kind": "wheel", "first": "1.2", "last": "1.2", "released": "2025-01-03",
            "torch": "==2.0", "imports_without_gpu": False, "cuda": [12], "status": "verified", "source": "a; b",
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        ([{"name": "a", "last": "1.10"}, {"name": "b"}], ""),
        ([{"name": "a", "last": "1.9"}, {"name": "b"}], "a 1.10"),
        ([{"name": "a", "last": "1.10"}], "b 0"),
    ],
)
def test_a_refresh_loses_no_release(rows: list[dict[str, str]], lost: str) -> None:
    old = [{"name": "a", "last": "1.9"}, {"name": "a", "last": "1.10"}, {"name": "b"}]
    texts = [json.dumps({"rows": some}) for some in (old, rows)]
    refresh_companions.refuse_lost("x.json", "", texts[1])
    if not lost:
        refresh_companions.refuse_lost("x.json", *texts)
        return
    with pytest.raises(SystemExit, match=f"would lose {lost}"):
        refresh_companions.refuse_lost("x.json", *texts)


# --- libraries -----------------------------------------------------------------------------------------------------


def library(names: list[bytes], undefined: int, before: bytes = b"") -> bytes:
    """The beginning of one: its symbols, the first of which others have to define, and its names."""
    table = b"\0"
    symbols = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for number, name in enumerate(names):
        section = 0 if number < undefined else 7
        symbols += struct.pack("<IBBHQQ", len(table), 18, 0, section, 1, 9)
        table += name + b"\0"
    return b"\x7fELF" + bytes(60) + before + symbols + table + b"\2\0\3\0\2\0"


NAMES = [b"_ZN3c105ErrorC1Ev", b"cudaMalloc", b"libcudart.so.12", b"libcusparse.so.13"]


def test_head_of_a_library_has_its_needs_and_its_symbols() -> None:
    found = libraries.read_head(library(NAMES, undefined=2))
    assert found == libraries.Library(
        needed=("libcudart.so.12", "libcusparse.so.13"), torch_abi=True
    )
    assert libraries.cuda_majors(found.needed) == {12}


def test_torch_that_a_library_defines_itself_binds_to_none() -> None:
    found = libraries.read_head(library(NAMES, undefined=0))
    assert found is not None
    assert not found.torch_abi


def test_text_that_looks_like_names_is_none() -> None:
    text = b"\1\1\1\1\1\0libcudart.so.11\0cannot\0be\0loaded\0\0"
    assert libraries.read_head(b"\x7fELF" + bytes(60) + text) is None
    found = libraries.read_head(library(NAMES, 2, before=text))
    assert found is not None
    assert "libcudart.so.11" not in found.needed
    assert libraries.read_head(b"no library") is None


@pytest.mark.parametrize("module", ["msgspec._core", "_ssl", "_ctypes"])
def test_heads_of_real_libraries_have_what_they_need(module: str) -> None:
    spec = find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".so"):
        pytest.skip(f"{module} is part of this Python's program")
    content = Path(spec.origin).read_bytes()
    found = libraries.read_head(content) or libraries.read_whole(content)
    assert set(needed_libraries(content)) <= set(found.needed)
    assert not found.torch_abi


def unit(*entries: tuple[int, int, int]) -> bytes:
    """A fat binary: kind, architecture and flags of each entry."""
    body = b""
    for kind, architecture, flags in entries:
        body += struct.pack(
            "<HHIQIIHHIIIQ", kind, 257, 64, 8, 8, 0, 1, 8, architecture, 0, 0, flags
        )
        body += bytes(64 - struct.calcsize("<HHIQIIHHIIIQ") + 8)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_gpu_code_is_found_in_a_library() -> None:
    """Flags as nvcc 13.0 writes them: 0x100000 for `a`, 0x200000 for `f`."""
    first = unit((2, 80, 0x11), (2, 90, 0x100011), (1, 90, 0x8011), (1, 80, 0x8011))
    second = unit((2, 100, 0x1208011), (1, 80, 0x8011))
    found = libraries.find_gpu_code(
        b"\0" * 33 + first + b"\0" * 7 + second + b"\0" * 64
    )
    assert found.binaries == {"sm_80", "sm_90a", "sm_100f"}
    assert found.ptx == {"compute_80"}
    assert libraries.find_gpu_code(first[:40]).binaries == frozenset()


class NoSession:
    """Nothing may be requested."""


def test_what_was_read_is_kept(tmp_path: Path) -> None:
    file = PAGE.packages[0]
    name = f"{file.digests['sha256']}.code"
    (tmp_path / name).write_text(
        '{"pattern": "x", "found": {"a.so": {"binaries": ["sm_90a", "sm_100"], "ptx": ["compute_80", "compute_90"]},'
        ' "b.so": {"binaries": ["sm_80", "sm_90"], "ptx": ["compute_90"]}, "c.so": {"binaries": [], "ptx": []}}}'
    )
    files = RemoteFiles(NoSession(), tmp_path)  # type: ignore[arg-type]
    assert files.gpu_code(file, "x") == [
        "sm_80", "sm_90", "sm_90a", "sm_100", "compute_90",
    ]  # fmt: skip


# --- the committed files -------------------------------------------------------------------------------------------


def test_every_package_of_the_table_has_rows() -> None:
    names = {row.name for row in catalog.load_companions()}
    table = refresh_companions.TABLE
    assert names == {row["name"] for row in (*table["package"], *table["elsewhere"])}
    assert {row["name"] for row in table["ruling"]} <= names


def test_rows_of_a_package_are_together_and_in_order() -> None:
    rows = catalog.load_companions()
    for row, following in pairwise(rows):
        if row.first and following.first and row.name == following.name:
            assert row.first < following.first
    names = [row.name for row in rows]
    changes = [name for name, after in pairwise(names) if name != after]
    assert len(changes) == len(set(names)) - 1


def test_the_page_is_current() -> None:
    """After a change: `.venv/bin/python tools/companions_table.py`."""
    text = companions_table.PAGE.read_text(encoding="utf-8")
    assert text == companions_table.page(catalog.load_companions())
