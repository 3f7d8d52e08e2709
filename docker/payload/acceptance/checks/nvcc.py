"""Does a devel image compile: nvcc a program of CUDA, and torch an extension of C++ and CUDA?"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

from acceptance.checks.inspection import Failure, NotRun

WORKS = "compiles, links and runs"
REBUILD = "build the image again from its lock: flavour devel has nvcc, CUDA's headers and its static libraries"
TOOLS = "g++, ninja and the headers of Python and CUDA must be in the image: build it again from its lock"
NO_GPU = (35, 100)  # cudaErrorInsufficientDriver, which no driver is too, and cudaErrorNoDevice: driver_types.h

# It says "sum 3" where there is a GPU, and where there is none what CUDA says of that.
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

# CUDAContext.h takes cuBLAS', cuSOLVER's and cuSPARSE's headers in, as most extensions do.
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

# In a process of its own: what it loads, and how it may die, is then no part of the suite's.
BUILD = """
import sys, torch
from torch.utils.cpp_extension import load
folder = sys.argv[1]
built = load("line", [folder + "/line.cpp", folder + "/line_on_gpu.cu"], build_directory=folder)
x = torch.arange(1000, dtype=torch.float32)
devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
for device in devices:
    assert torch.equal(built.line(x.to(device)).cpu(), x * 2 + 1), "it answers wrongly on the " + device
print("ran on", *devices)
"""


def check_nvcc(inspection):
    """nvcc is of the stack's CUDA line; what it and torch's own builder compile links, loads and answers."""
    if inspection.flavour is None:
        raise NotRun("there is no lock in here that promises a CUDA compiler", shutil.which("nvcc"))
    if inspection.flavour != "devel":
        raise NotRun("this is a %s image: only one of flavour devel has a CUDA compiler" % inspection.flavour)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise failure("missing", "there is no nvcc on PATH", REBUILD)
    seen = ["nvcc %s" % version(nvcc, ".".join(inspection.stack("cuda").split(".")[:2]))]
    capability = newest_capability(inspection)
    with tempfile.TemporaryDirectory() as folder:
        seen.append(run_sample(nvcc, capability, folder))
        seen.append(build_extension(capability, folder))
    return {"value": WORKS, "bound": WORKS, "detail": "; ".join(seen)}


def failure(value, detail, remedy):
    return Failure(value=value, bound=WORKS, detail=detail, remedy=remedy)


def version(nvcc, wanted):
    """nvcc's version in full, if it is of the line of CUDA that is wanted."""
    said = run([nvcc, "--version"], "does not start", REBUILD)
    found = re.search(r"release ([0-9]+\.[0-9]+), V([0-9.]+)", said)
    if found is None or found.group(1) != wanted:
        told = found.group(2) if found else said.strip()[-100:]
        raise Failure(
            value=told,
            bound=wanted,
            detail="torch is built for CUDA %s; nvcc is %s (%s)" % (wanted, told, nvcc),
            remedy="take the other CUDA off PATH, or build the image again",
        )
    return found.group(2)


def newest_capability(inspection):
    """`12.0`: of the GPU that is here, else the newest that the stack has kernels for."""
    import torch

    if torch.cuda.is_available():
        return "%d.%d" % torch.cuda.get_device_capability()
    numbers = [int(arch[3:]) for arch in inspection.stack("arch_list") if re.match(r"sm_[0-9]+$", arch)]
    return "%d.%d" % divmod(max(numbers), 10)


def run_sample(nvcc, capability, folder):
    """Compile, link and run SAMPLE; returns a line on what it said."""
    source, program = os.path.join(folder, "sample.cu"), os.path.join(folder, "sample")
    write(source, SAMPLE)
    arch = "sm_%s" % capability.replace(".", "")
    run([nvcc, "-arch", arch, "-o", program, source], "a program of CUDA does not compile", REBUILD)
    said = run([program], "a program of CUDA does not run", "a library that it needs is missing: " + REBUILD).strip()
    words = said.split(None, 2)
    if words[:1] == ["error"] and int(words[1]) in NO_GPU and not has_gpu():
        return "a program compiles, links and starts for %s; without a GPU CUDA says: %s" % (arch, words[2])
    if said != "sum 3":
        raise failure(
            said, "1 + 2 on the GPU: the program says %r" % said, "does the driver fit? see `envbuilder doctor`"
        )
    return "a program compiles, links and adds on the GPU (%s)" % arch


def has_gpu():
    import torch

    return torch.cuda.is_available()


def build_extension(capability, folder):
    """Build and import an extension with torch's own builder; returns a line on it."""
    write(os.path.join(folder, "line.cpp"), CPP)
    write(os.path.join(folder, "line_on_gpu.cu"), CUDA)
    env = dict(os.environ, TORCH_CUDA_ARCH_LIST=capability)
    said = run(
        [sys.executable, "-W", "ignore", "-c", BUILD, folder], "an extension of torch does not build", TOOLS, env
    )
    return "an extension of C++ and CUDA compiles and links for %s; it %s" % (capability, said.strip().splitlines()[-1])


def write(path, text):
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def run(words, problem, remedy, env=None):
    """What a command prints; where it fails, `problem` with the line that says why."""
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False, env=env
        )
    except OSError as error:
        raise failure("fails", "%s: %s" % (problem, error), remedy) from error
    if done.returncode != 0:
        raise failure("fails", "%s: %s" % (problem, cause(done.stdout + done.stderr, done.returncode)), remedy)
    return done.stdout


# How the line with the reason looks. A linker's comes first: what called the linker says "error: ld returned 1" of it.
REASONS = (r"cannot find -l.*", r"undefined reference to .*", r"error: .*", r"\w*Error: .*")


def cause(text, code):
    """The line of a compiler's, a linker's or Python's output that says why it failed."""
    for pattern in REASONS:
        found = re.search("(?m)^.*?%s$" % pattern, text)
        if found:
            return found.group(0).strip()[:300]
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "exit code %d" % code
