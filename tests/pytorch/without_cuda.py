#!/usr/bin/env python3
"""Take CUDA out of an unpacked torch wheel, so that it runs on a CPU and brings none of CUDA's libraries.

    without_cuda.py FOLDER

Runs in a base image, which has a compiler; standard library only. The libraries of CUDA and those of torch that compute
with it are replaced by small ones that have the names, the versions and the symbols that the rest is linked to, and in
which each function reports that there is no device. The computation on a CPU is PyTorch's own, untouched.
"""

import re
import subprocess
import sys
from pathlib import Path

CUDA = re.compile(r"lib(torch_cuda|c10_cuda|caffe2_nvrtc|nvfuser|cu|nv)")
CALLS = re.compile(r"(cuda|cudnn|cupti|cublas|cufft|curand|nvtx|nvjpeg)[A-Z]")
NO_DEVICE = 100  # cudaErrorNoDevice
TYPES = """
namespace c10d { struct ProcessGroupNCCL { virtual void f(); }; void ProcessGroupNCCL::f() {} }
namespace torch { namespace jit { namespace tensorexpr {
struct CudaCodeGen { virtual void f(); }; void CudaCodeGen::f() {}
}}}
"""
VARIABLES = "_ZN3c104cuda20CUDACachingAllocator9allocatorE"


def output(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout


def symbols(path, which):
    """Symbols of a library: pairs of name and version; a symbol without a version has ""."""
    for line in output(
        "nm", "-D", which, "--with-symbol-versions", str(path)
    ).splitlines():
        name, _, version = line.split()[-1].partition("@")
        yield name, version.lstrip("@")


def needed_by(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", str(path)))


def make(path, soname, functions, versions):
    """A library with these functions; versions: name of a function → the version that others are linked to."""
    lines = [TYPES if soname == "libtorch_cuda.so" else ""]
    for number, name in enumerate(sorted(functions)):
        if name == VARIABLES:
            lines.append(f'void* v{number} __asm__("{name}") = nullptr;')
            continue
        value = NO_DEVICE if CALLS.match(name) else 0
        lines.append(f'extern "C" long f{number}() __asm__("{name}");')
        lines.append(f"long f{number}() {{ return {value}; }}")
    source = path.with_suffix(".cpp")
    source.write_text("\n".join(lines) + "\n")
    script = path.with_suffix(".map")
    used = sorted({versions[name] for name in functions if versions.get(name)})
    script.write_text("".join(f"{version} {{ *; }};\n" for version in used))
    command = ["g++", "-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{soname}"]
    if used:
        command.append(f"-Wl,--version-script={script}")
    subprocess.run([*command, "-o", str(path), str(source)], check=True)
    source.unlink()
    script.unlink()


def take_out(root):
    """Replace the libraries of CUDA below a folder; returns the names of the new ones."""
    removed = [path for path in root.rglob("lib*.so*") if CUDA.match(path.name)]
    provided = {name for path in removed for name, _ in symbols(path, "--defined-only")}
    places = {path.name: path for path in removed}
    for path in removed:
        path.unlink()
    sonames, versions = set(), {}
    for path in root.rglob("*.so*"):
        sonames.update(name for name in needed_by(path) if CUDA.match(name))
        for name, version in symbols(path, "--undefined-only"):
            if name in provided or CALLS.match(name):
                versions[name] = version
    for soname in sorted(sonames):
        stem = re.split(r"[.]", soname)[0]
        functions = {
            name for name, version in versions.items() if version.startswith(stem + ".")
        }
        if soname == "libtorch_cuda.so":
            functions = {name for name, version in versions.items() if not version}
            functions = {name for name in functions if not name.startswith("_ZT")}
        make(
            places.get(soname, root / "torch/lib" / soname), soname, functions, versions
        )
    return sorted(sonames)


if __name__ == "__main__":
    take_out(Path(sys.argv[1]))
