"""Does a devel image compile: nvcc a program of CUDA, and torch an extension of C++ and CUDA?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Sequence

from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.text import first_line, last_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

WORKS = "compiles, links and runs"
REBUILD = "build the image again from its lock: flavor devel has nvcc, CUDA's headers and static libraries"
TOOLS = "the image needs g++, ninja and the headers of Python and CUDA: build it again from its lock"
NO_GPU = (
    35,
    100,
)  # cudaErrorInsufficientDriver, which no driver is too, and cudaErrorNoDevice: driver_types.h

# It prints "sum 3" on a GPU, and without one CUDA's own error.
SAMPLE = """
#include <cstdio>
#include <cuda_runtime.h>

__global__ void add(const float *one, float *other) { other[threadIdx.x] += one[threadIdx.x]; }

int fail(cudaError_t error) { printf("error %d %s\\n", (int)error, cudaGetErrorString(error)); return 0; }

int main() {
    float *one, *other;
    cudaError_t error = cudaMallocManaged(&one, sizeof(float));
    if (error == cudaSuccess) error = cudaMallocManaged(&other, sizeof(float));
    if (error != cudaSuccess) return fail(error);
    *one = 1; *other = 2;
    add<<<1, 1>>>(one, other);
    error = cudaGetLastError();
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    if (error != cudaSuccess) return fail(error);
    printf("sum %g\\n", *other);
    return 0;
}
"""

CPP = """
#include <torch/extension.h>

torch::Tensor line_on_gpu(torch::Tensor x);

torch::Tensor line(torch::Tensor x) {
    return x.is_cuda() ? line_on_gpu(x) : x * 2 + 1;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("line", &line); }
"""

# CUDAContext.h includes the headers of cuBLAS, cuSOLVER and cuSPARSE, as most extensions do.
CUDA = """
#include <ATen/cuda/CUDAContext.h>
#include <torch/types.h>

__global__ void line(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * 2 + 1;
}

torch::Tensor line_on_gpu(torch::Tensor x) {
    auto y = torch::empty_like(x);
    int n = x.numel();
    line<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(x.data_ptr<float>(), y.data_ptr<float>(), n);
    return y;
}
"""

# Runs in a process of its own, which may load and break anything.
BUILD = """
import sys, torch
from torch.utils.cpp_extension import load
folder = sys.argv[1]
built = load("line", [folder + "/line.cpp", folder + "/line_on_gpu.cu"], build_directory=folder)
x = torch.arange(1000, dtype=torch.float32)
devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
for device in devices:
    assert torch.equal(built.line(x.to(device)).cpu(), x * 2 + 1), "wrong results on " + device
print("ran on", *devices)
"""


def check_nvcc(inspection: Inspection) -> Answer:
    """nvcc is of the stack's CUDA line; what it and torch's own builder compile links, loads and computes."""
    if inspection.flavour is None:
        raise Skipped(
            "this image has no lock that promises a CUDA compiler", shutil.which("nvcc")
        )
    if inspection.flavour != "devel":
        raise Skipped(
            f"this is a {inspection.flavour} image: only devel images have a CUDA compiler"
        )
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise failure("missing", "nvcc is not on PATH", REBUILD)
    major, minor = inspection.locked("cuda").split(".")[:2]
    version = nvcc_version(nvcc, f"{major}.{minor}")
    capability = newest_capability(inspection)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program_result = run_sample(nvcc, capability, folder)
        extension_result = build_extension(capability, folder)
    return Answer(
        value=WORKS,
        bound=WORKS,
        detail=f"nvcc {version}; {program_result}; {extension_result}",
    )


def failure(value: str, detail: str, remedy: str) -> Failure:
    return Failure(detail, value=value, bound=WORKS, remedy=remedy)


def nvcc_version(nvcc: str, wanted: str) -> str:
    """nvcc's version in full, if it is of the wanted line of CUDA."""
    output = run([nvcc, "--version"], "nvcc does not start", REBUILD)
    match = re.search(r"release ([0-9]+\.[0-9]+), V([0-9.]+)", output)
    version = match.group(2) if match else output.strip()[-100:]
    if match is None or match.group(1) != wanted:
        raise Failure(
            f"torch is built for CUDA {wanted}, nvcc is {version} ({nvcc})",
            value=version,
            bound=wanted,
            remedy="remove the other CUDA from PATH, or build the image again",
        )
    return version


def newest_capability(inspection: Inspection) -> str:
    """`12.0`: of the GPU in this machine, or else the newest that the stack has kernels for."""
    import torch

    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return f"{major}.{minor}"
    numbers = []
    for architecture in inspection.locked("arch_list"):
        match = re.fullmatch(r"sm_([0-9]+)", architecture)
        if match:
            numbers.append(int(match.group(1)))
    major, minor = divmod(max(numbers), 10)
    return f"{major}.{minor}"


def run_sample(nvcc: str, capability: str, folder: Path) -> str:
    """Compile, link and run SAMPLE; returns a line on what it printed."""
    source = folder / "sample.cu"
    program = folder / "sample"
    source.write_text(SAMPLE, encoding="ascii")
    architecture = f"sm_{capability.replace('.', '')}"
    run(
        [nvcc, "-arch", architecture, "-o", str(program), str(source)],
        "a CUDA program does not compile",
        REBUILD,
    )
    output = run(
        [str(program)],
        "a CUDA program does not run",
        f"a library that it needs is missing: {REBUILD}",
    ).strip()
    if output == "sum 3":
        return f"a program compiles, links and adds on the GPU ({architecture})"
    error = missing_gpu_error(output)
    if error is None:
        raise failure(
            output,
            f"1 + 2 on the GPU: the program prints {output!r}",
            "check the driver with `envbuilder doctor`",
        )
    return f"a program compiles, links and starts for {architecture}; without a GPU CUDA says: {error}"


def missing_gpu_error(output: str) -> str | None:
    """CUDA's own words for a missing GPU, if that is what the sample ended with and there really is none."""
    match = re.match(r"error ([0-9]+) (.*)", output)
    if match is None or int(match.group(1)) not in NO_GPU or has_gpu():
        return None
    return match.group(2)


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def build_extension(capability: str, folder: Path) -> str:
    """Build and import an extension with torch's own builder; returns a line on it."""
    (folder / "line.cpp").write_text(CPP, encoding="ascii")
    (folder / "line_on_gpu.cu").write_text(CUDA, encoding="ascii")
    output = run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(folder)],
        "a torch extension does not build",
        TOOLS,
        env={**os.environ, "TORCH_CUDA_ARCH_LIST": capability},
    )
    return f"an extension of C++ and CUDA compiles and links for {capability}; it {last_line(output)}"


def run(
    command: Sequence[str],
    problem: str,
    remedy: str,
    env: Mapping[str, str] | None = None,
) -> str:
    """What a command prints; if it fails, a `Failure` of `problem` and the line that says why."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=env,
        )
    except OSError as error:
        raise failure("fails", f"{problem}: {error}", remedy) from error
    if done.returncode != 0:
        reason = (
            find_reason(done.stdout + done.stderr) or f"exit code {done.returncode}"
        )
        raise failure("fails", f"{problem}: {reason}", remedy)
    return done.stdout


# What the line with the reason looks like. A linker's own comes first, as its caller just says "ld returned 1".
REASONS = (
    r"cannot find -l.*",
    r"undefined reference to .*",
    r"error: .*",
    r"\w*Error: .*",
)


def find_reason(text: str) -> str:
    """The line of a compiler's, a linker's or Python's output that says why it failed; empty if there is none."""
    for pattern in REASONS:
        match = re.search(f"(?m)^.*?{pattern}$", text)
        if match:
            return first_line(match.group())
    return last_line(text)
