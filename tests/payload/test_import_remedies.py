"""A failed import's remedy names what is missing, once for each cause."""

from acceptance.checks.debian_packages import PACKAGES
from acceptance.checks.import_remedies import UNKNOWN, remedy_for
from envbuilder import catalog

LOST = "cannot open shared object file: No such file or directory"

ERRORS = {
    f"ImportError: libGL.so.1: {LOST}": "x: libGL.so.1 is missing: build the image with `--apt libgl1`",
    f"OSError: libfoo.so.3: {LOST}": "x: libfoo.so.3 is missing: build the image with `--apt PACKAGE`, the",
    f"ImportError: libcudart.so.12: {LOST}": (
        "x: libcudart.so.12 is missing: this image has CUDA 11.7.99; lock a version of the package"
    ),
    f"ImportError: libcudnn_ops_infer.so.8: {LOST}": "x: libcudnn_ops_infer.so.8 is missing: this image has CUDA",
    f"ImportError: libcuda.so.1: {LOST}": "x: libcuda.so.1 comes with the GPU's driver: start the container",
    f"OSError: libtorch_cuda_cpp.so: {LOST}": "x: libtorch_cuda_cpp.so is missing: it was built for another torch",
    "ImportError: /a/b.so: undefined symbol: _ZN3c105ErrorC2E": "x: it was built for another version of torch",
    "ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by b.so)": "x: its wheel needs GLIBC_2.34",
    "ModuleNotFoundError: No module named 'a_b.c'": "x: a_b.c is not installed: `--package a-b`",
    "ImportError: cannot import name 'y' from 'z'": UNKNOWN,
}  # fmt: skip


def test_each_kind_of_error_has_its_remedy() -> None:
    for error, remedy in ERRORS.items():
        assert remedy_for({"x": error}, "11.7.99").startswith(remedy), error


def test_one_cause_is_named_once() -> None:
    lost = f"ImportError: libGL.so.1: {LOST}"
    other = "ModuleNotFoundError: No module named 'six'"
    assert remedy_for({"cv2": lost, "b": other, "cv3": lost, "a": lost}) == (
        "a, cv2 and cv3: libGL.so.1 is missing: build the image with `--apt libgl1`; "
        "b: six is not installed: `--package six`, if that is its name on the index"
    )


def test_without_a_lock_the_cuda_is_unknown() -> None:
    remedy = remedy_for({"x": f"ImportError: libcublas.so.12: {LOST}"})
    assert "this image has another CUDA, or none" in remedy


def test_debian_packages_are_those_of_the_catalog() -> None:
    rows = catalog.read(catalog.SYSTEM_LIBRARIES)
    assert {row.soname: row.package for row in rows} == PACKAGES


def test_a_library_of_a_wheel_is_not_another_cuda() -> None:
    shipped = {"libcudart.so.11.0": False, "libcublas.so.11": True}
    lost = {"torch": "ValueError: libcudart.so.*[0-9] not found in the system path ['"}
    assert remedy_for(lost, "11.7.99", shipped) == (
        "torch: libcudart.so was removed from its wheel: build the image again from its lock"
    )
    there = {"x": f"ImportError: libcublas.so.11: {LOST}"}
    assert "libcublas.so.11 is in the image" in remedy_for(there, "11.7.99", shipped)
