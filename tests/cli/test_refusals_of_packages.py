"""A package that clashes, with the real uv against the recorded index: what is tried, what is said, and how fast."""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from index_server import RECORDED, Faults, IndexServer, serve

from cli.conftest import Answer, Run

pytestmark = pytest.mark.slow


def wheel(file: str, day: str, *requires: str, python: str = "") -> Mapping[str, Any]:
    return {
        "filename": file,
        "upload-time": f"{day}T00:00:00Z",
        "requires-python": python or None,
        "requires": requires,
        "size": 1000,
        "hashes": {"sha256": "a" * 64},
        "yanked": False,
    }


PROJECTS = {
    # Each release is for one torch; the recorded index has 2.0.0 and 2.0.1 for CUDA 11.7.
    "kernels": [
        wheel("kernels-1.0-py3-none-any.whl", "2023-04-01", "torch==1.0"),
        wheel("kernels-2.0-py3-none-any.whl", "2023-05-01", "torch==2.0.0"),
    ],
    "forpython": [
        wheel("forpython-1.0-cp310-cp310-manylinux2014_x86_64.whl", "2023-05-01"),
    ],
    "sources": [wheel("sources-1.0.tar.gz", "2023-05-01")],
    "pinned": [
        wheel("pinned-1.0-py3-none-any.whl", "2025-03-16"),
        wheel("pinned-1.1-py3-none-any.whl", "2025-03-20"),
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recorded index, and the projects of this module."""
    made = tmp_path / "index"
    shutil.copytree(RECORDED, made)
    for name, files in PROJECTS.items():
        metadata = {}
        rows = []
        for number, file in enumerate(files):
            lines = [f"Requires-Dist: {text}" for text in file["requires"]]
            metadata[str(number)] = lines
            row = {key: value for key, value in file.items() if key != "requires"}
            rows.append({**row, "metadata": str(number)})
        document = {"files": rows, "metadata": metadata}
        (made / f"{name}.json").write_text(json.dumps(document))
    return made


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def index(folder: Path, faults: Faults) -> Iterator[IndexServer]:
    with serve(faults, folder=folder) as server:
        yield server


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))


def lock(run: Run, index: IndexServer, *words: str) -> Answer:
    base = ("lock", "--cuda", "11.7", "--base", "bootstrap", "--os", "debian12")
    return run(*base, *words, "--index-url", index.url)


def test_the_torch_that_a_package_needs_is_the_hint(
    run: Run, index: IndexServer
) -> None:
    answer = lock(run, index, "--package", "kernels")
    assert answer.code == 4, answer.err
    assert "kernels 2.0 needs torch==2.0.0, and this is torch 2.0.1" in answer.err
    command = answer.err.split("hint: try `envbuilder ")[1].split("`")[0]
    assert "--torch 2.0.0" in command
    assert "kernels 2.0 with torch 2.0.0 for CUDA 11.7" in answer.err
    again = run(*shlex.split(command))
    assert again.code == 0, again.err


def test_another_python_is_the_hint(run: Run, index: IndexServer) -> None:
    answer = run(
        "lock", "--cuda", "11.7", "--python", "3.9", "--package", "forpython",
        "--index-url", index.url,
    )  # fmt: skip
    assert answer.code == 4, answer.err
    assert "they are for" not in answer.err
    assert "forpython 1.0 has no wheel for Python 3.9 on linux/amd64" in answer.err
    assert "--python 3.10" in answer.err
    # The user gave it, so that the hint says that it is another.
    assert "in place of Python 3.9" in answer.err


def test_all_of_a_derivation_is_there_to_read(run: Run, index: IndexServer) -> None:
    short = lock(run, index, "--package", "kernels")
    whole = lock(run, index, "--package", "kernels", "--explain")
    assert len(short.err.splitlines()) <= 12
    assert len(whole.err) >= len(short.err)


def test_a_pin_moves_the_day(run: Run, index: IndexServer) -> None:
    answer = lock(run, index, "--package", "pinned==1.0")
    assert answer.code == 0, answer.err
    assert (
        "packages are as of 2025-03-19, the last day on which pinned 1.0" in answer.err
    )
    document = json.loads(Path("envbuilder.lock").read_text())
    assert document["stack"]["as_of"] == "2025-03-19"
    check = run("lock", "--check", "--index-url", index.url)
    assert check.code == 0, check.err


def test_a_day_that_is_given_stays(run: Run, index: IndexServer) -> None:
    answer = lock(run, index, "--package", "pinned==1.0", "--as-of", "2025-03-20")
    assert answer.code == 0, answer.err
    assert "as of 2025-03-20" in answer.err
    assert "last day" not in answer.err


def test_resolve_looks_at_a_package(
    run: Run, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "resolve",
        "--cuda",
        "11.7",
        "--package",
        "kernels",
        "--package",
        "sources",
    )
    assert "note: kernels" not in run(*words).out  # tests are without a network
    monkeypatch.setenv("ENVBUILDER_INDEX_URL", index.url)
    monkeypatch.delenv("ENVBUILDER_PACKAGE_LOOK")
    answer = run(*words)
    assert answer.code == 0, answer.err
    assert "note: kernels 2.0 needs torch==2.0.0, and this is torch 2.0.1" in answer.out
    assert "note: sources 1.0 has no wheel, only a source package" in answer.out
    assert len(index.paths) == 3  # two pages and one METADATA


def test_resolve_says_that_it_could_not_look(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVBUILDER_PACKAGE_LOOK")
    closed = ("--index-url", "http://127.0.0.1:9/simple")
    answer = run("resolve", "--cuda", "11.7", "--package", "kernels", *closed)
    assert answer.code == 0
    assert "note: kernels not looked at: " in answer.out


def test_without_an_index_there_is_one_error(run: Run) -> None:
    answer = run(
        "lock", "--cuda", "11.7", "--package", "kernels", "--package", "pinned==1.0",
        "--index-url", "http://127.0.0.1:9/simple",
    )  # fmt: skip
    assert answer.code == 6
    assert answer.err.count("error:") == 1
