"""Packages that are built for another CUDA than the stack's. uv and the index are functions."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from elf_library import library
from packaging.version import Version

from envbuilder.errors import NoStackError
from envbuilder.lock.cuda_clash import cuda_clashes, unread_wheels
from envbuilder.lock.cuda_extras import extra_notes
from envbuilder.lock.cuda_refusal import (
    CudaLinks,
    CudaSearch,
    below_line,
    renamed_for,
)
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.known_sources import NO_SOURCES
from envbuilder.lock.library_strings import needed_in_beginning
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_libraries import LinkAnswer, LinkedLibraries, LinkReader
from envbuilder.lock.wheel_metadata import MetadataAnswer, parse_metadata
from envbuilder.model import Layer, Lock, Stack, Wheel
from envbuilder.network import Network
from envbuilder.processes import Completed

ROOT = Path(__file__).parents[2] / "docker/images"


def preset(name: str) -> Lock:
    path = ROOT / name / "envbuilder.lock"
    return parse_lock(path.read_text(), source=str(path))


CU117 = preset("cu117-torch2.0.1-py3.9-debian11")
CU128 = preset("cu128-torch2.10.0-py3.13-debian13")
CU130 = preset("cu130-torch2.14.1-py3.13-debian13")


def wheel_of(name: str, version: str = "1.0", layer: Layer = Layer.STACK) -> Wheel:
    file = f"{name.replace('-', '_')}-{version}-cp313-cp313-manylinux_2_28_x86_64.whl"
    return Wheel(
        name=name,
        version=Version(version),
        file=file,
        size=1,
        sha256=digest(version),
        layer=layer,
    )


def digest(version: str) -> str:
    return version.encode().hex().rjust(64, "0")


def linked(*cuda: str, whole: bool = True) -> LinkedLibraries:
    return LinkedLibraries(needs=(), modules=(), has=(), cuda=cuda, whole=whole)


def problems(
    lock: Lock, wheel: Wheel, *cuda: str, brings: tuple[Wheel, ...] = ()
) -> list[str]:
    stack = replace(lock.stack, extras=(wheel.name,))
    changed = replace(lock, stack=stack, wheels=(*lock.wheels, wheel, *brings))
    answer = LinkAnswer(linked=[(wheel, linked(*cuda))])
    return [clash.text for clash in cuda_clashes(changed, answer)]


BITSANDBYTES = ("libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")


@pytest.mark.parametrize(
    ("lock", "cuda", "clash"),
    [
        (CU128, ("libcublas.so.13", "libcudart.so.13"),
         "x 1.0 is built for CUDA 13 (it links to libcudart.so.13, libcublas.so.13)"),
        (CU130, ("libcudart.so.12", "libcurand.so.10"), "x 1.0 is built for CUDA 12 (it links to libcudart.so.12)"),
        (CU130, ("libcudart.so.13", "libcurand.so.10", "libcudnn.so.9"), ""),
        (CU128, ("libcusolver.so.11", "libcusparse.so.12"), ""),
        (CU117, ("libcudart.so.11.0",), ""),
        (CU117, ("libcufft.so.11",), "x 1.0 is built for CUDA 12 (it links to libcufft.so.11)"),
        (CU117, ("libcusparse.so.12",), "x 1.0 is built for CUDA 12 or 13 (it links to libcusparse.so.12)"),
        (CU117, BITSANDBYTES, ""),
        (CU117, BITSANDBYTES[1:], "x 1.0 is built for CUDA 12 or 13 (it links to libcudart.so.12, libcudart.so.13)"),
        (CU117, ("libcudart.so.11.0", "libcudnn.so.9"), "x 1.0 is built for cuDNN 9"),
        (CU117, ("libcudnn.so.8", "libcudnn.so.9"), ""),
        (CU117, (), ""),
    ],
)  # fmt: skip
def test_what_a_wheel_links_to_decides(
    lock: Lock, cuda: tuple[str, ...], clash: str
) -> None:
    assert problems(lock, wheel_of("x"), *cuda) == [clash] * bool(clash)


@pytest.mark.parametrize(
    ("name", "version", "majors"),
    [
        ("cupy-cuda12x", "14.2.0", 12),
        ("faiss-gpu-cu12", "1.12", 12),
        ("nvidia-dali-cuda120", "1.50", 12),
        ("jax-cuda13-plugin", "0.12", 13),
        ("auto-gptq", "0.7.1+cu121", 12),
        ("flash-attn", "2.8.0+cu12torch2.6", 12),
        ("x", "1.0+cu118", 11),
        ("numba-cuda", "0.20", None),
        ("cuda-python", "12.9", None),
        ("focus12", "1.0+focus.12", None),
        ("x", "1.0+cu12345", None),
    ],
)
def test_a_name_or_a_local_version_decides(
    name: str, version: str, majors: int | None
) -> None:
    layer = Layer.NVIDIA if name.startswith("nvidia-") else Layer.STACK
    wheel = wheel_of(name, version, layer)
    for lock, major in ((CU117, 11), (CU128, 12), (CU130, 13)):
        clash = majors not in (None, major)
        text = f"{name} {version} is built for CUDA {majors}, by its name"
        assert problems(lock, wheel) == [text] * clash


def test_a_cuda_that_packages_bring_is_there() -> None:
    cupy = wheel_of("cupy-cuda12x")
    for name, version in (
        ("nvidia-cuda-runtime-cu12", "12.9"),
        ("nvidia-cuda-runtime", "12.9"),
    ):
        runtime = wheel_of(name, version, Layer.NVIDIA)
        assert problems(CU117, cupy, "libcublas.so.12", brings=(runtime,)) == []
    other = wheel_of("nvidia-cuda-runtime", "13.0", Layer.NVIDIA)
    assert problems(CU117, cupy, brings=(other,)) != []
    # CUDA's own wheels may be wanted as well.
    cublas = wheel_of("nvidia-cublas-cu12", layer=Layer.NVIDIA)
    assert problems(CU117, cublas) == []


def test_without_cuda_only_variants_are_fine() -> None:
    lock = replace(CU128, stack=replace(CU128.stack, cuda=None, cudnn=None))
    assert problems(lock, wheel_of("bitsandbytes"), *BITSANDBYTES) == []
    assert problems(lock, wheel_of("x"), "libcudart.so.13") != []
    assert problems(lock, wheel_of("x"), "libcudnn.so.9") == []


def test_a_wheel_that_was_not_read_whole_is_not_judged() -> None:
    wheel = wheel_of("x")
    lock = replace(CU128, stack=replace(CU128.stack, extras=("x",)))
    answer = LinkAnswer(linked=[(wheel, linked("libcudart.so.13", whole=False))])
    assert cuda_clashes(lock, answer) == []
    assert unread_wheels(answer) == ["x"]


# --- libraries that are large --------------------------------------------------------------------------------------


def test_names_are_found_in_the_beginning_of_a_large_library() -> None:
    names = ["libcudart.so.12", "libc.so.6", "libstdc++.so.6"]
    content = library(*names, "ld-linux-x86-64.so.2", padding=100_000)
    beginning = content[:50_000]
    assert needed_in_beginning(beginning) == names
    assert needed_in_beginning(content) == [*names, "ld-linux-x86-64.so.2"]
    # What a program opens by itself is a string among others.
    opened = b"libX11.so.6\0cannot open %s\0"
    assert needed_in_beginning(beginning + opened + bytes(9)) == names
    cut = content.index(b"libstdc")
    assert needed_in_beginning(content[:cut]) == []  # the table goes on
    assert needed_in_beginning(library("libm.so.6", padding=9000)[:500]) == []


# --- what to request instead ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "renamed"),
    [
        ("cupy-cuda12x", "cupy-cuda13x"),
        ("cupy_cuda12x[ctk]>=13", "cupy-cuda13x[ctk]"),
        ("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        ("jax-cuda12-plugin", "jax-cuda13-plugin"),
        ("onnxruntime-gpu", ""),
    ],
)
def test_a_package_of_a_family_is_renamed(line: str, renamed: str) -> None:
    assert renamed_for(line, CU130.stack) == renamed


@pytest.mark.parametrize(
    ("line", "release", "bound"),
    [
        ("onnxruntime-gpu", (1, 31, 1), "onnxruntime-gpu<1.31"),
        ("x[cuda]>=1.2,!=1.5,<2", (1, 31), "x[cuda]!=1.5,<1.31,>=1.2"),
        ("x==0.0.35", (0, 0, 35), "x<0.0.35"),
        ("x", (3,), "x<3"),
        ("x", (0,), None),
    ],
)
def test_the_next_older_line_of_a_package(
    line: str, release: Sequence[int], bound: str | None
) -> None:
    assert below_line(line, release) == bound


class Index:
    """An index with releases of one package, each for a CUDA, and what it is asked for."""

    def __init__(self, name: str, cuda: dict[str, str]) -> None:
        self.name = name
        self.kept = {}
        for version, soname in cuda.items():
            self.kept[digest(version)] = linked(*soname.split())
        self.versions = sorted(cuda, key=Version, reverse=True)
        self.asked: list[str] = []

    def run(self, argv: Sequence[str]) -> Completed:
        lines = Path(argv[3]).read_text()
        match = re.search(rf"^{self.name}(?:\[.*\])?(?:<([0-9.]+))?$", lines, re.MULTILINE)  # fmt: skip
        text = 'lock-version = "1.0"\ncreated-by = "x"\n'
        if match:
            self.asked.append(match[0])
            bound = Version(match[1] or "9999")
            fitting = [text for text in self.versions if Version(text) < bound]
            if not fitting:
                return Completed(
                    returncode=1, stdout="", stderr="  × No solution found"
                )
            text += self.package(fitting[0])
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")

    def package(self, version: str) -> str:
        wheel = wheel_of(self.name, version)
        url = f"http://127.0.0.1:9/{wheel.file}"
        hashes = f'hashes = {{ sha256 = "{wheel.sha256}" }}'
        return (
            f'[[packages]]\nname = "{self.name}"\nversion = "{version}"\n'
            f'wheels = [{{ url = "{url}", size = 1, {hashes} }}]\n'
        )

    def refuse(self, lock: Lock, *others: tuple[str, Stack]) -> NoStackError:
        stack = replace(lock.stack, extras=(self.name,), requirements=())
        reader = LinkReader(network=Network(), folder=None, kept=self.kept)
        search = CudaSearch(
            uv=Uv(program="uv", run=self.run, client=IndexClient(network=Network())),
            known=NO_SOURCES,
            links=CudaLinks(reader=reader, of_cuda=of_cuda(others)),
            command_for=lambda packages: " ".join(["again", *packages]),
        )
        wheel = wheel_of(self.name, self.versions[0])
        locked = replace(lock, stack=stack, wheels=(wheel,))
        answer = reader.read(locked, {})
        return search.refuse(locked, cuda_clashes(locked, answer))


def of_cuda(
    others: Sequence[tuple[str, Stack]],
) -> Callable[[int], list[tuple[str, Stack]]]:
    def stacks(major: int) -> list[tuple[str, Stack]]:
        return [
            other for other in others if other[1].cuda and other[1].cuda.major == major
        ]

    return stacks


def on(lock: Lock, name: str) -> tuple[str, Stack]:
    stack = replace(lock.stack, extras=(name,), requirements=())
    return f"again --cuda {stack.cuda_line}", stack


ONNXRUNTIME = {
    "1.31.1": "libcudart.so.13",
    "1.31.0": "libcudart.so.13",
    "1.27.0": "libcudart.so.13",
    "1.26.0": "libcudart.so.12",
    "1.18.0": "libcudart.so.11.0",
}


def test_an_older_release_for_this_cuda_is_found() -> None:
    index = Index("onnxruntime-gpu", ONNXRUNTIME)
    error = index.refuse(CU128, on(CU130, "onnxruntime-gpu"))
    assert error.message == (
        "onnxruntime-gpu 1.31.1 is built for CUDA 13 (it links to libcudart.so.13), "
        "and the stack has CUDA 12.8"
    )
    assert error.suggestions == ("again onnxruntime-gpu<1.27",)
    assert error.conflict == (("cuda", "12.8"), ("package", "onnxruntime-gpu"))
    # Whole lines of releases are passed over, and what is suggested was resolved with everything else.
    assert index.asked == [
        *(f"onnxruntime-gpu<{bound}" for bound in ("1.31", "1.27")),
        "onnxruntime-gpu<1.27",
    ]


def test_what_is_older_is_not_for_a_newer_cuda() -> None:
    index = Index("xformers", {"0.0.35": "libcudart.so.12", "0.0.34": "libcudart.so.12"})  # fmt: skip
    error = index.refuse(CU130, on(CU117, "xformers"), on(CU128, "xformers"))
    assert error.suggestions == ("again --cuda 12.8",)
    assert index.asked == ["xformers"]


def test_nothing_fits_and_that_is_said() -> None:
    index = Index("x", {"2.0": "libcudart.so.13", "1.0": "libcudart.so.11.0"})
    error = index.refuse(CU128)
    assert error.suggestions == ()
    assert error.hint == "choose another version of x, or leave it out"


def test_another_cudnn_is_named() -> None:
    index = Index("x", {"2.0": "libcudnn.so.9"})
    message = index.refuse(CU117).message
    assert message == "x 2.0 is built for cuDNN 9, and the stack has cuDNN 8"


# --- a part in an extra --------------------------------------------------------------------------------------------

PARTS = b"""\
Requires-Dist: transformer_engine_cu12==2.20.2; extra == "core"
Requires-Dist: transformer_engine_cu12==2.20.2; extra == "core-cu12"
Requires-Dist: transformer_engine_cu13==2.20.2; extra == "core-cu13"
Requires-Dist: xformers; extra == "cu118only"
Requires-Dist: banana banana
"""


@pytest.mark.parametrize(
    ("lock", "brought", "note"),
    [
        (CU130, (), "te 2.0 has its CUDA part in an extra: add it with `--package 'te[core-cu13]'`"),
        (CU117, (), "te 2.0 has its CUDA part in an extra, for CUDA 12, 13 and not for the stack's 11.7"),
        (CU130, (wheel_of("transformer-engine-cu13"),), ""),
    ],
)  # fmt: skip
def test_a_cuda_part_in_an_extra_is_named(
    lock: Lock, brought: tuple[Wheel, ...], note: str
) -> None:
    stack = replace(lock.stack, extras=("te", "pure", "unread"))
    wheels = (wheel_of("te", "2.0"), wheel_of("pure"), *brought)
    metadata = {
        "te": parse_metadata(PARTS),
        "pure": parse_metadata(b"Requires-Dist: six\n"),
    }
    answer = MetadataAnswer(by_package=metadata)
    notes = list(extra_notes(replace(lock, stack=stack, wheels=wheels), answer))
    assert notes == [note] * bool(note)
