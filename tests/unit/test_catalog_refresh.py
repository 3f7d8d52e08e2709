"""tools/refresh_torch.py on saved pages and on texts from real wheels: what it reads, and what it makes of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from pypi_simple import ProjectPage

import facts
import refresh_catalog
import refresh_torch
import refresh_transformers
from envbuilder import catalog
from index import pages, texts

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PAGES = {
    name: ProjectPage.from_json_data(page)
    for name, page in json.loads((GOLDEN / "pages.json").read_text()).items()
}
TEXTS = json.loads((GOLDEN / "wheel_texts.json").read_text())


def committed(file: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        (catalog.FOLDER / "facts" / file).read_text()
    )["rows"]
    return rows


ROWS = {(row["package"], row["version"]): row for row in committed("wheels.json")}
TORCH = {(row["torch"], row["index"]): row for row in committed("torch.json")}


class Saved:
    """The wheels whose texts were saved; another has what one like it has: on arm64 a build for a CPU."""

    def read(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        torch = "torch 2.11.0" if platform == "linux/amd64" else "torch 2.6.0"
        other = torch if package == "torch" else "torchvision 0.15.2"
        return (
            TEXTS.get(f"{package} {version} {platform}") or TEXTS[f"{other} {platform}"]
        )

    def architectures(self, version: str, platform: str) -> list[str]:
        return ["sm_80", "sm_90"]


def test_a_page_becomes_the_committed_rows() -> None:
    made = {
        row["version"]: row
        for row in refresh_torch.wheel_rows("torch", PAGES["torch"], Saved())
    }
    assert list(made) == ["2.0.1", "2.5.1", "2.6.0", "2.11.0"]
    for version in ("2.0.1", "2.5.1", "2.11.0"):
        assert made[version] == ROWS["torch", version]
    assert made["2.6.0"] | {"requires": {}} == ROWS["torch", "2.6.0"] | {"requires": {}}


def test_a_yanked_release_does_not_count() -> None:
    assert any(
        file.version == "0.15.0" and file.is_yanked
        for file in PAGES["torchvision"].packages
    )
    assert list(pages.releases("torchvision", PAGES["torchvision"])) == [
        "0.15.2",
        "0.20.1",
        "0.21.0",
        "0.26.0",
        "0.29.2",
    ]


@pytest.mark.parametrize(
    ("file", "platforms", "pythons"),
    [
        ("torch-2.0.1-cp310-cp310-manylinux1_x86_64.whl", {"linux/amd64": "2.5"}, ["3.10"]),
        ("torch-2.7.0-cp313-cp313t-manylinux_2_28_x86_64.whl", {"linux/amd64": "2.28"}, []),
        ("torch-1.13.1-cp37-cp37m-manylinux2014_aarch64.whl", {"linux/arm64": "2.17"}, ["3.7"]),
        ("triton-3.9.0-cp312-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", {"linux/amd64": "2.27"},
         ["3.12", "3.13", "3.14", "3.15"]),
        ("xformers-0.0.35-py39-none-manylinux_2_28_x86_64.whl", {"linux/amd64": "2.28"},
         ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]),
        ("torch-2.0.1-cp310-cp310-win_amd64.whl", {}, ["3.10"]),
        ("not a wheel.whl", {}, None),
    ],
)  # fmt: skip
def test_wheel_name_gives_its_platforms(
    file: str, platforms: dict[str, str], pythons: list[str] | None
) -> None:
    assert pages.places(file) == {
        platform: Version(glibc) for platform, glibc in platforms.items()
    }
    if pythons is not None:
        assert [str(python) for python in sorted(pages.pythons(file))] == pythons


@pytest.mark.parametrize("version", ["2.0.1", "2.5.1", "2.11.0"])
def test_wheel_contents_match_the_catalog(version: str) -> None:
    found = texts.torch_facts(TEXTS[f"torch {version} linux/amd64"])
    assert found.items() <= TORCH[version, "pypi"].items()


def test_cpu_wheels_and_cuda_wheels_are_distinguished() -> None:
    both = {"pythons": {"linux/arm64": ["3.12"]}}
    assert refresh_torch.placed({**both, "version": "2.6.0"}, Saved()) == {
        "platforms": ["linux/amd64"]
    }
    assert refresh_torch.placed({**both, "version": "2.11.0"}, Saved()) == {
        "platforms": ["linux/amd64", "linux/arm64"]
    }


def test_architectures_are_read_out_of_the_library() -> None:
    assert texts.find_architectures(b"\x7fELF\0sm_x\0sm_75 sm_80 sm_120\0more") == [
        "sm_75",
        "sm_80",
        "sm_120",
    ]
    assert texts.find_architectures(b"\x7fELF\0nothing\0") == []


def wheels() -> list[dict[str, Any]]:
    return [
        row
        for name, page in PAGES.items()
        for row in refresh_torch.wheel_rows(name, page, Saved())
    ]


def test_the_family_has_only_the_pythons_of_all_three() -> None:
    made = {(row["package"], row["version"]): row for row in wheels()}
    pythons = ["3.9", "3.10", "3.11", "3.12"]
    family = refresh_torch.family_of(TORCH["2.5.1", "pypi"], made)
    assert family == {
        "linux/amd64": pythons,
        "linux/arm64": pythons,
    }  # on arm64 without CUDA
    assert TORCH["2.5.1", "pypi"]["platforms"] == ["linux/amd64"]
    assert TORCH["2.5.1", "pypi"]["pythons"][-1] == "3.13"


def test_a_release_that_is_new_gets_a_row() -> None:
    old = [row for key, row in TORCH.items() if key[0] in ("2.0.1", "2.5.1", "2.6.0")]
    after = refresh_torch.torch_rows(old, wheels(), Saved())
    assert [(row["torch"], row["index"]) for row in after[len(old) :]] == [
        ("2.11.0", "pypi")
    ]
    made, known = after[-1], TORCH["2.11.0", "pypi"]
    same = ("released", "cuda", "cudnn", "nccl", "triton", "pythons", "platforms", "glibc", "compile", "compile_until",
            "driver_floor", "requires_python", "setuptools", "numpy2")  # fmt: skip
    assert {name: made[name] for name in same} == {name: known[name] for name in same}
    assert (made["arch_list"], made["arch_list_arm64"]) == (
        ["sm_80", "sm_90"],
        ["sm_80", "sm_90"],
    )
    assert made["field_status"]["numpy2"] == "inferred"
    assert catalog.unknown_fields(catalog.TORCH, made, "new") == []


def test_a_release_that_is_gone_from_the_index_stays() -> None:
    old = [TORCH["1.13.1", "pypi"], TORCH["2.0.1", "pypi"]]
    rows = [row for row in wheels() if row["version"] in ("2.0.1", "0.15.2", "2.0.2")]
    assert refresh_torch.torch_rows(old, rows, Saved()) == old


def test_an_answer_that_shrank_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wheels.json").write_text(
        facts.dumps("2026-11-24", list(ROWS.values()))
    )
    with pytest.raises(
        SystemExit, match=r"wheels\.json would shrink from 114 rows to 1"
    ):
        facts.publish(
            {"wheels.json": facts.dumps("2026-11-25", [{}])}, tmp_path, write=True
        )
    assert len(json.loads((tmp_path / "wheels.json").read_text())["rows"]) == 114


def test_differences_are_shown_and_written_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(facts.dumps("2026-11-24", [{"a": 1}]))
    new = {"x.json": facts.dumps("2026-11-24", [{"a": 2}])}
    assert facts.publish(new, tmp_path, write=False) == 1
    assert '-  {"a": 1}\n+  {"a": 2}\n' in capsys.readouterr().out
    assert '"a": 1' in (tmp_path / "x.json").read_text()
    assert facts.publish(new, tmp_path, write=True) == 0
    assert facts.publish(new, tmp_path, write=False) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_fields_of_the_other_refresher_are_kept() -> None:
    before = {"torch": "2.9.0", "family": {"linux/amd64": ["3.12"]}, "glibc": "2.27",
              "field_status": {"glibc": "inferred", "family": "inferred"}, "old": 1}  # fmt: skip
    row = refresh_catalog.with_own(
        {"glibc": "2.28", "torch": "2.9.0", "field_status": {"glibc": "documented"}},
        before,
    )
    assert list(row.items()) == [
        ("torch", "2.9.0"),
        ("family", {"linux/amd64": ["3.12"]}),
        ("glibc", "2.28"),
        ("field_status", {"glibc": "documented", "family": "inferred"}),
    ]


def page(name: str, *files: str, yanked: str = "") -> ProjectPage:
    """A page of an index with these files on it."""
    day = "2023-06-13T00:00:00Z"
    rows = [
        {
            "filename": file,
            "url": file,
            "hashes": {},
            "yanked": file == yanked,
            "upload-time": day,
        }
        for file in files
    ]
    return ProjectPage.from_json_data(
        {"meta": {"api-version": "1.0"}, "name": name, "files": rows}
    )


def test_wheels_of_tokenizers_determine_pythons_of_transformers() -> None:
    yanked = "transformers-4.30.3-py3-none-any.whl"
    transformers = page("transformers", "transformers-4.30.1-py3-none-any.whl", "transformers-4.30.2-py3-none-any.whl",
                        yanked, "transformers-4.0.0-py3-none-any.whl", yanked=yanked)  # fmt: skip
    tokenizers = page(
        "tokenizers",
        "tokenizers-0.13.3-cp36-cp36m-manylinux_2_17_x86_64.whl",
        "tokenizers-0.13.3-cp310-cp310-manylinux_2_17_x86_64.whl",
        "tokenizers-0.13.3-cp310-cp310-manylinux_2_17_aarch64.whl",
        "tokenizers-0.13.2-cp311-cp311-manylinux_2_17_x86_64.whl",
        "tokenizers-0.14.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        "tokenizers-0.13.3.tar.gz",
    )
    metadata = (
        "Metadata-Version: 2.1\nName: transformers\nVersion: 4.30.2\nRequires-Python: >=3.7.0\n"
        'Requires-Dist: tokenizers (!=0.11.3,<0.14,>=0.11.1)\nRequires-Dist: tokenizers<0.1; extra == "old"\n'
    )
    made = list(
        refresh_transformers.release_rows(
            transformers, tokenizers, lambda wheel: metadata
        )
    )
    assert made == [
        {
            "transformers": "4.30.2",
            "released": "2023-06-13",
            "began": "2023-06-13",
            "tokenizers": "!=0.11.3,<0.14,>=0.11.1",
            "pythons": {"linux/amd64": ["3.10", "3.11"], "linux/arm64": ["3.10"]},
            "status": "verified",
            "source": "PyPI: transformers, METADATA read with HTTP range requests; tokenizers, its page",
        }
    ]
