"""Do libraries load, is there one of each, and does nothing from outside come first?"""

import fnmatch
import glob
import json
import os
import re
import struct
import subprocess
import sys
import sysconfig

from acceptance.checks.inspection import Failure, NotRun

CUDA_NAME = re.compile(r"lib(cuda(rt)|cublas|cudnn|nccl|cufft|curand|cusolver|cusparse|nvrtc|cupti|nvJitLink)")
PLACES = ("/opt", "/usr", "/lib", "/lib64", "/home", "/root", "/srv")
LOADER_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT")
DRIVER_PLACES = ("/usr/local/nvidia/lib", "/usr/local/nvidia/lib64")  # where NVIDIA's runtime may mount the driver
# Load by path until nothing more loads; then tell, by library, which of the names that it needs cannot be had.
_LOADER = """
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
def lacks(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return True
answer = {path: {"said": failed[path], "lacks": [name for name in needed[path] if lacks(name)]} for path in left}
print(json.dumps(answer))
"""
PT_LOAD, PT_DYNAMIC, DT_NEEDED, DT_STRTAB, DT_SONAME = 1, 2, 1, 5, 14


def packages():
    return sysconfig.get_paths()["purelib"]


def read_elf(path):
    """What the loader would make of a 64-bit ELF file: {"soname", "needed", "whole"}; None if it is none (elf(5))."""
    with open(path, "rb") as stream:
        header = stream.read(64)
        if len(header) < 64 or header[:5] != b"\x7fELF\x02":
            return None
        length = os.fstat(stream.fileno()).st_size
        start = struct.unpack_from("<Q", header, 32)[0]
        size, count = struct.unpack_from("<HH", header, 54)
        stream.seek(start)
        table = stream.read(size * count)
        broken = {"soname": None, "needed": [], "whole": False}
        if len(table) < size * count:
            return broken
        rows = [struct.unpack_from("<IIQQQQQQ", table, number * size) for number in range(count)]
        loads = [row for row in rows if row[0] == PT_LOAD]
        whole = all(row[2] + row[5] <= length and (row[3] - row[2]) % max(row[7], 1) == 0 for row in loads)
        if not whole:
            return broken
        names = dynamic_names(stream, rows, loads)
        return {"soname": (names[DT_SONAME] or [None])[0], "needed": names[DT_NEEDED], "whole": True}


def dynamic_names(stream, rows, loads):
    """The names in a library's dynamic section: its own (DT_SONAME) and those of the libraries it needs."""
    found = {DT_SONAME: [], DT_NEEDED: []}
    dynamic = next((row for row in rows if row[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return found
    stream.seek(dynamic[2])
    entries = list(struct.iter_unpack("<qQ", stream.read(dynamic[5] // 16 * 16)))
    strings = next((value for tag, value in entries if tag == DT_STRTAB), None)
    for tag, value in entries if strings else ():
        if tag in found:
            home = next(row for row in loads if row[3] <= strings + value < row[3] + row[5])
            stream.seek(home[2] + strings + value - home[3])
            found[tag].append(stream.read(256).split(b"\0", 1)[0].decode(errors="replace"))
    return found


def libraries(places):
    """Every regular file in `places` that is a shared object by name, once per inode."""
    seen = set()
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                if ".so" in name and os.path.isfile(path) and not os.path.islink(path):
                    stat = os.stat(path)
                    if (stat.st_dev, stat.st_ino) not in seen:
                        seen.add((stat.st_dev, stat.st_ino))
                        yield path


def check_whole(inspection):
    """No library is cut off or has a segment that the loader refuses."""
    broken = [path for path in libraries([packages()]) if (read_elf(path) or {"whole": True})["whole"] is False]
    detail = "not a whole library: " + ", ".join(os.path.relpath(path, packages()) for path in broken[:5])
    return inspection.judge("linkage.whole", len(broken), detail, "the disk or the download failed: build it again")


def check_loads(inspection):
    """Every NVIDIA library loads by the path that its wheel gives, without a driver.

    A plug-in may lack what it plugs in and nothing else: bounds.json says which, what and why.
    """
    found = glob.glob(os.path.join(packages(), "nvidia", "*", "lib", "*.so*"))
    paths = sorted(path for path in found if not os.path.islink(path))  # a devel image has links for its linker
    if not paths:
        raise NotRun("CUDA is not in wheels here")
    done = subprocess.run(
        [sys.executable, "-c", _LOADER],
        input=json.dumps({path: (read_elf(path) or {"needed": []})["needed"] for path in paths}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failure(value=len(paths), detail="Python died while loading: " + done.stderr.strip()[-200:])
    failed = json.loads(done.stdout)
    findings = excused(failed, inspection.exceptions["linkage.loads"])
    detail = "does not load: " + "; ".join(failed[path]["said"] for path in sorted(failed)[:3])
    remedy = "a CUDA library is missing or broken: build it again"
    return inspection.judge("linkage.loads", len(failed), detail, remedy, findings=findings)


def excused(failed, exceptions):
    """Take out of `failed` the plug-ins that lack nothing but what they may lack; returns a line on each."""
    findings = []
    for exception in exceptions:
        for path in [path for path in sorted(failed) if is_at(path, exception["library"])]:
            lacks = failed[path]["lacks"]
            if lacks and set(lacks) <= set(exception["may_lack"]):
                del failed[path]
                findings.append("%s lacks %s: %s" % (name_of(path), " and ".join(lacks), exception["reason"]))
    return findings


def name_of(path):
    return os.path.relpath(path, packages())


def is_at(path, pattern):
    """Whether a library lies where an exception says, below site-packages."""
    return fnmatch.fnmatchcase(name_of(path), pattern)


def check_single(inspection):
    """One provider of each CUDA library in the whole image, by the name inside the file; exceptions have a reason."""
    providers = {}
    for path in libraries(PLACES):
        if CUDA_NAME.match(os.path.basename(path)):
            elf = read_elf(path)
            private = os.path.dirname(path).endswith(".libs")  # auditwheel's copies are asked for by file name
            name = os.path.basename(path) if private else (elf or {}).get("soname") or os.path.basename(path)
            providers.setdefault(name, []).append(path)
    findings = []
    for exception in inspection.exceptions["linkage.single"]:
        for paths in providers.values():
            spare = [path for path in paths if is_at(path, exception["library"])]
            if len(spare) == 1:  # a copy of the copy is one too many again
                paths.remove(spare[0])
                findings.append("%s: %s" % (name_of(spare[0]), exception["reason"]))
    twice = {name: paths for name, paths in providers.items() if len(paths) > 1}
    detail = "; ".join("%s is in %s" % (name, " and ".join(paths)) for name, paths in sorted(twice.items()))
    remedy = "take out the copy that torch's wheel did not bring"
    return inspection.hold("linkage.single", len(twice), detail, remedy, findings=findings)


def check_loader_path(inspection):
    """Nothing is put before the image's own libraries."""
    set_here = ["%s has %s" % pair for pair in loader_files()]
    for name in LOADER_VARIABLES:
        entries = [entry for entry in os.environ.get(name, "").split(":") if entry and entry not in DRIVER_PLACES]
        set_here += ["%s has %s" % (name, entry) for entry in entries]
    remedy = "unset it: torch finds its libraries by itself, and another CUDA in front breaks it"
    return inspection.hold("linkage.loader_path", len(set_here), "; ".join(set_here), remedy)


def loader_files(preload="/etc/ld.so.preload", folder="/etc/ld.so.conf.d"):
    """(file, entry) of what the loader's own files put before the image's libraries: ld.so(8), ldconfig(8)."""
    for path in [preload, *sorted(glob.glob(os.path.join(folder, "*.conf")))]:
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as stream:
                entries = stream.read().split("#")[0].split() if path == preload else stream.read().splitlines()
            for entry in (entry.strip() for entry in entries):
                if entry and (path == preload or (entry not in DRIVER_PLACES and holds_cuda(entry))):
                    yield path, entry


def holds_cuda(folder):
    return os.path.isdir(folder) and any(CUDA_NAME.match(name) for name in os.listdir(folder))


def check_maps(inspection):
    """The CUDA libraries that torch really loads are those of its wheels."""
    import torch

    torch.backends.cudnn.version()
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as stream:
        mapped = {line.split(None, 5)[5].strip() for line in stream if len(line.split(None, 5)) == 6}
    strange = sorted(
        path for path in mapped if CUDA_NAME.match(os.path.basename(path)) and not path.startswith(packages())
    )
    detail = "loaded from elsewhere: " + ", ".join(strange)
    return inspection.hold("linkage.maps", len(strange), detail, "take the other CUDA out of the image")


def check_variables(inspection):
    """The variables by which NVIDIA's runtime knows what to mount and which driver is needed."""
    if inspection.flavour == "cpu":
        raise NotRun("an image for CPUs asks for no GPU")
    floor = inspection.stack("driver_floor", os.environ.get("NVIDIA_REQUIRE_CUDA"))
    wanted = {
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "driver>=%s" % floor,
    }
    wrong = [
        "%s is %r, not %r" % (name, os.environ.get(name), value)
        for name, value in sorted(wanted.items())
        if os.environ.get(name) != value
    ]
    if not os.environ.get("NVIDIA_VISIBLE_DEVICES"):
        wrong.append("NVIDIA_VISIBLE_DEVICES is not set")
    return inspection.judge("linkage.variables", len(wrong), "; ".join(wrong), "build the image again")
