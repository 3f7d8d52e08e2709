"""Do libraries load, is there one of each, and does nothing from outside come first?"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator

from acceptance.checks.inspection import Failure, Skipped
from acceptance.elf import read_elf

if TYPE_CHECKING:
    from acceptance.checks.inspection import Answer, Inspection
    from acceptance.limits import Excuse

CUDA_NAME = re.compile(
    r"lib(cuda(rt)|cublas|cudnn|nccl|cufft|curand|cusolver|cusparse|nvrtc|cupti|nvJitLink)"
)
PLACES = ("/opt", "/usr", "/lib", "/lib64", "/home", "/root", "/srv")


def site_packages() -> str:
    return sysconfig.get_paths()["purelib"]


def path_in_packages(path: str) -> str:
    return os.path.relpath(path, site_packages())


def is_cuda(path: str) -> bool:
    return bool(CUDA_NAME.match(os.path.basename(path)))


def libraries(places: Iterable[str]) -> Iterator[str]:
    """Every regular file in `places` that is a shared object by name, once per inode."""
    seen = set()
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                if (
                    ".so" not in name
                    or not os.path.isfile(path)
                    or os.path.islink(path)
                ):
                    continue
                stat = os.stat(path)
                inode = (stat.st_dev, stat.st_ino)
                if inode not in seen:
                    seen.add(inode)
                    yield path


# --- every library loads -------------------------------------------------------------------------------------------


def check_whole(inspection: Inspection) -> Answer:
    """No library is cut off or has a segment that the loader refuses."""
    broken = []
    for path in libraries([site_packages()]):
        library = read_elf(path)
        if library is not None and not library.whole:
            broken.append(path_in_packages(path))
    return inspection.require(
        "linkage.whole",
        len(broken),
        detail=f"damaged libraries: {', '.join(broken[:5])}",
        remedy="the disk or the download failed: build the image again",
    )


# Load by path until nothing more loads; then report, for each library left, which of the names it needs are missing.
LOADER = """
import ctypes, json, sys
needed = json.load(sys.stdin)
left, failed = sorted(needed), {}
while left:
    failed = {}
    for path in left:
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            failed[path] = str(error)
    if len(failed) == len(left):
        break
    left = list(failed)
def is_missing(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return True
answer = {}
for path in left:
    answer[path] = {"error": failed[path], "missing": [name for name in needed[path] if is_missing(name)]}
print(json.dumps(answer))
"""


def check_loads(inspection: Inspection) -> Answer:
    """Every NVIDIA library loads by the path that its wheel gives, without a driver.

    A plug-in may lack what it plugs in and nothing else: bounds.json says which, what and why.
    """
    pattern = os.path.join(site_packages(), "nvidia", "*", "lib", "*.so*")
    # A devel image has links for its linker.
    paths = sorted(path for path in glob.glob(pattern) if not os.path.islink(path))
    if not paths:
        raise Skipped("this image has no CUDA wheels")
    failed = load(paths)
    findings = take_out_excused(failed, inspection.limits.exceptions["linkage.loads"])
    errors = [failed[path]["error"] for path in sorted(failed)]
    return inspection.require(
        "linkage.loads",
        len(failed),
        detail=f"does not load: {'; '.join(errors[:3])}",
        remedy="a CUDA library is missing or damaged: build the image again",
        findings=findings,
    )


def load(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Load libraries in another Python: {"error", "missing"} of each that does not."""
    needed = {}
    for path in paths:
        library = read_elf(path)
        needed[path] = library.needed if library else []
    done = subprocess.run(
        [sys.executable, "-c", LOADER],
        input=json.dumps(needed),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failure(
            f"Python died while loading: {done.stderr.strip()[-200:]}",
            value=len(paths),
        )
    failed: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return failed


def take_out_excused(
    failed: dict[str, dict[str, Any]], excuses: Iterable[Excuse]
) -> list[str]:
    """Take out of `failed` the plug-ins that lack only what they may lack; returns a line on each."""
    findings = []
    for excuse in excuses:
        for path in sorted(failed):
            name = path_in_packages(path)
            missing = failed[path]["missing"]
            if excuse.allows(name, missing):
                del failed[path]
                findings.append(
                    f"{name} lacks {' and '.join(missing)}: {excuse.reason}"
                )
    return findings


# --- one of each ---------------------------------------------------------------------------------------------------


def check_single(inspection: Inspection) -> Answer:
    """One provider of each CUDA library in the whole image, by the name inside the file; exceptions have a reason."""
    providers: dict[str, list[str]] = {}
    for path in libraries(PLACES):
        if is_cuda(path):
            providers.setdefault(loaded_name(path), []).append(path)
    findings: list[str] = []
    for excuse in inspection.limits.exceptions["linkage.single"]:
        for paths in providers.values():
            findings += take_out_spare(paths, excuse)
    duplicates = []
    for name, paths in sorted(providers.items()):
        if len(paths) > 1:
            duplicates.append(f"{name} is in {' and '.join(paths)}")
    return inspection.require_if_locked(
        "linkage.single",
        len(duplicates),
        detail="; ".join(duplicates),
        remedy="remove the copy that torch's wheel did not bring",
        findings=findings,
    )


def loaded_name(path: str) -> str:
    """The name by which other files refer to a library."""
    name = os.path.basename(path)
    if os.path.dirname(path).endswith(
        ".libs"
    ):  # auditwheel's private copies go by their file names
        return name
    library = read_elf(path)
    return library.soname if library and library.soname else name


def take_out_spare(paths: list[str], excuse: Excuse) -> Iterator[str]:
    """Take the one copy that may be spare out of a library's `paths`; yields a line on it."""
    spare = []
    for path in paths:
        if excuse.covers(path_in_packages(path)):
            spare.append(path)
    if len(spare) != 1:  # a copy of the copy is one too many again
        return
    (path,) = spare
    paths.remove(path)
    yield f"{path_in_packages(path)}: {excuse.reason}"


# --- nothing in front ----------------------------------------------------------------------------------------------

LOADER_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT")
DRIVER_PLACES = (
    "/usr/local/nvidia/lib",
    "/usr/local/nvidia/lib64",
)  # where NVIDIA's runtime may mount the driver
PRELOAD = Path("/etc/ld.so.preload")
CONFIGURATION = Path("/etc/ld.so.conf.d")


def check_loader_path(inspection: Inspection) -> Answer:
    """Nothing is put before the image's own libraries."""
    problems = list(loader_files())
    for name in LOADER_VARIABLES:
        for entry in os.environ.get(name, "").split(":"):
            if entry and entry not in DRIVER_PLACES:
                problems.append(f"{name} has {entry}")
    return inspection.require_if_locked(
        "linkage.loader_path",
        len(problems),
        detail="; ".join(problems),
        remedy="unset it: torch finds its libraries by itself, and another CUDA in front breaks it",
    )


def loader_files(
    preload: Path = PRELOAD, configuration: Path = CONFIGURATION
) -> Iterator[str]:
    """A line for each entry of the loader's own files that comes before the image's libraries (ld.so(8))."""
    if preload.exists():
        entries = read_text(preload).split("#")[0]
        for entry in entries.split():
            yield f"{preload} has {entry}"
    for file in sorted(configuration.glob("*.conf")):
        for line in read_text(file).splitlines():
            folder = line.strip()
            if folder not in DRIVER_PLACES and holds_cuda(folder):
                yield f"{file} has {folder}"


def read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def holds_cuda(folder: str) -> bool:
    return os.path.isdir(folder) and any(map(is_cuda, os.listdir(folder)))


def check_maps(inspection: Inspection) -> Answer:
    """The CUDA libraries that torch really loads are those of its wheels."""
    import torch

    torch.backends.cudnn.version()  # loads it
    foreign = []
    for path in sorted(mapped_files()):
        if is_cuda(path) and not path.startswith(site_packages()):
            foreign.append(path)
    return inspection.require_if_locked(
        "linkage.maps",
        len(foreign),
        detail=f"loaded from elsewhere: {', '.join(foreign)}",
        remedy="remove the other CUDA from the image",
    )


def mapped_files() -> set[str]:
    """The files that this process has mapped (proc(5))."""
    files = set()
    text = read_text(Path("/proc/self/maps"))
    for line in text.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6:
            path = fields[5]
            files.add(path.strip())
    return files


def check_variables(inspection: Inspection) -> Answer:
    """The variables by which NVIDIA's runtime knows what to mount and which driver is needed."""
    if inspection.flavour == "cpu":
        raise Skipped("not applicable: this image is for CPUs")
    floor = inspection.locked("driver_floor", os.environ.get("NVIDIA_REQUIRE_CUDA"))
    expected = {
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": f"driver>={floor}",
    }
    problems = []
    for name, value in expected.items():
        if os.environ.get(name) != value:
            problems.append(f"{name} is {os.environ.get(name)!r}, not {value!r}")
    if not os.environ.get("NVIDIA_VISIBLE_DEVICES"):
        problems.append("NVIDIA_VISIBLE_DEVICES is not set")
    return inspection.require(
        "linkage.variables",
        len(problems),
        detail="; ".join(problems),
        remedy="build the image again",
    )
