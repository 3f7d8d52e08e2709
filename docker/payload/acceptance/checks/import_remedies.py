"""What to do about a package that does not import, read from the error of its import."""

from __future__ import annotations

import re
from typing import Iterable

from acceptance.checks.debian_packages import PACKAGES

LACKS_LIBRARY = re.compile(
    r"(lib[\w+.-]+\.so[\w.]*): cannot open shared object file"
    r"|(lib\w+\.so)\S* not found in the system path"  # torch's own words for CUDA's libraries
)
LACKS_SYMBOL = re.compile(r"undefined symbol: \S+")
LACKS_GLIBC = re.compile(r"version `(GLIBC(?:XX)?_[\w.]+)' not found")
LACKS_MODULE = re.compile(r"No module named '([\w.]+)'")
CUDA_LIBRARY = re.compile(
    r"lib(?:cuda|cudart|cublas|cublasLt|cudnn\w*|cufft|cufile|cupti|curand|cusolver\w*|cusparse\w*|nccl|nvrtc\S*"
    r"|nvJitLink|nvToolsExt|npp\w*|nvjpeg)\.so"
)
DRIVER = "libcuda.so.1"
TORCH_LIBRARY = re.compile(r"lib(?:torch\w*|c10\w*)\.so")
UNKNOWN = "two packages are incompatible: lock them again, as of the stack's date"


def remedy_for(
    errors: dict[str, str], cuda: str = "", shipped: dict[str, bool] | None = None
) -> str:
    """What to do, once for each cause; `errors` by the name of the module, `cuda` the image's version, if known.

    `shipped`: the names of libraries that the installed wheels have, and whether each is still there.
    """
    causes: dict[str, list[str]] = {}
    for name, error in sorted(errors.items()):
        causes.setdefault(cause_of(error, cuda, shipped or {}), []).append(name)
    parts = []
    for cause, names in causes.items():
        parts.append(f"{list_of(names)}: {cause}" if cause != UNKNOWN else UNKNOWN)
    return "; ".join(parts)


def cause_of(error: str, cuda: str, shipped: dict[str, bool]) -> str:
    library = LACKS_LIBRARY.search(error)
    if library:
        return library_remedy(library.group(1) or library.group(2), cuda, shipped)
    glibc = LACKS_GLIBC.search(error)
    if glibc:
        return f"its wheel needs {glibc.group(1)}, newer than this image's system: use a newer base"
    if LACKS_SYMBOL.search(error):
        return "it was built for another version of torch or CUDA: lock a version that was built for this one"
    module = LACKS_MODULE.search(error)
    if module:
        package = module.group(1).split(".")[0].replace("_", "-")
        return f"{module.group(1)} is not installed: `--package {package}`, if that is its name on the index"
    return UNKNOWN


def library_remedy(library: str, cuda: str, shipped: dict[str, bool]) -> str:
    """What to do about one library that the loader does not find."""
    own = own_library_remedy(library, shipped)
    if own:
        return own
    if library == DRIVER:
        return f"{DRIVER} comes with the GPU's driver: start the container with `--gpus all`"
    if CUDA_LIBRARY.match(library):
        version = f"CUDA {cuda}" if cuda else "another CUDA, or none"
        return f"{library} is missing: this image has {version}; lock a version of the package that was built for it"
    if TORCH_LIBRARY.match(library):
        return f"{library} is missing: it was built for another torch; lock a version that was built for this one"
    package = PACKAGES.get(library, "PACKAGE")
    remedy = f"{library} is missing: build the image with `--apt {package}`"
    if library not in PACKAGES:
        remedy += ", the Debian package that has it"
    return remedy


def own_library_remedy(library: str, shipped: dict[str, bool]) -> str:
    """The same for a library that one of the image's wheels has brought; empty for any other."""
    for name, is_there in shipped.items():
        if name == library or name.startswith(f"{library}."):
            if is_there:
                return f"{library} is in the image, but the loader was not pointed to it: fix what else does not import"
            return f"{library} was removed from its wheel: build the image again from its lock"
    return ""


def list_of(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
