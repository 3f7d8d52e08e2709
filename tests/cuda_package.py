"""A source package with one CUDA file, as people publish them: its setup.py imports torch and lets it compile."""

import io
import tarfile

NAME = "line-ops"
VERSION = "1.0"
ARCHIVE = f"line_ops-{VERSION}.tar.gz"
# FORCE_BUILD: as those do whose setup files otherwise fetch a wheel that somebody has built.
SETUP = """
import os
import sys
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

if os.environ.get("LINE_OPS_FORCE_BUILD") != "TRUE":
    sys.exit("would fetch a wheel from somewhere")
setup(
    name="line-ops",
    version="1.0",
    packages=["line_ops"],
    ext_modules=[CUDAExtension("line_ops._C", ["line_ops/line.cu"])],
    cmdclass={"build_ext": BuildExtension},
)
"""
MODULE = """
from pathlib import Path
import torch

[LIBRARY] = Path(__file__).parent.glob("_C*.so")
torch.ops.load_library(str(LIBRARY))
line = torch.ops.line_ops.line
"""
KERNEL = """
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

__global__ void line_kernel(const float *x, float *y, int64_t n) {
    int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (i < n) y[i] = x[i] * 2 + 1;
}

at::Tensor line_on_gpu(const at::Tensor &x) {
    auto y = at::empty_like(x);
    int64_t n = x.numel();
    line_kernel<<<(n + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
        x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), n);
    return y;
}

at::Tensor line_on_cpu(const at::Tensor &x) {
    auto y = at::empty_like(x);
    const float *from = x.const_data_ptr<float>();
    float *to = y.mutable_data_ptr<float>();
    for (int64_t i = 0; i < x.numel(); ++i) to[i] = from[i] * 2 + 1;
    return y;
}

TORCH_LIBRARY(line_ops, m) { m.def("line(Tensor x) -> Tensor"); }
TORCH_LIBRARY_IMPL(line_ops, CUDA, m) { m.impl("line", line_on_gpu); }
TORCH_LIBRARY_IMPL(line_ops, CPU, m) { m.impl("line", line_on_cpu); }
"""
HEADER = """Metadata-Version: 2.1
Name: line_ops
Version: 1.0
Requires-Python: >=3.8
"""
FILES = {
    "PKG-INFO": HEADER,
    "line_ops.egg-info/requires.txt": "torch\n\n[test]\npytest\n",
    "line_ops/__init__.py": MODULE,
    "line_ops/line.cu": KERNEL,
    "setup.py": SETUP,
}


def source_package() -> bytes:
    """The archive, as `python -m build --sdist` makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"line_ops-{VERSION}/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
