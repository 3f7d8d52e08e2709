#!/usr/bin/env python3
"""Compile a source package for CUDA while an image is built, without network, and say what came out.

    compile_sources.py wheel FOLDER TOOLS WHEELS    compile the package in FOLDER with the environment TOOLS
    compile_sources.py list WHEELS                  write what installs the wheels, and what an image keeps of them

TOOLS is a virtual environment with torch, the build tools and, where wheels bring it, nvcc; else that is in
/usr/local/cuda. FOLDER holds plan.json and the archive, and lies at the same place in every build: nvcc and g++ write
paths and chance into what they compile, which fixed paths, seeds and `strip` take out again. Nothing of the
surroundings reaches the build but the number of jobs, a build secret (`max-jobs`), which changes no byte.
Runs on Python 3.8 or later; standard library only.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Iterator

from build_sources import (
    EPOCH,
    HOOKS,
    BuildError,
    check_archive,
    digest,
    root_of,
    safe,
    settle,
    unpack,
)

TOOLKIT = Path("/usr/local/cuda")
JOBS = Path("/run/secrets/max-jobs")
WORK = Path("/tmp/compile")  # the same in every build: paths get into what is compiled
JOB_MEMORY = 6 << 30  # bytes that one nvcc may need
MOST_JOBS = 16
REPORT = "compiled.json"

Package = Any


# --- nvcc ----------------------------------------------------------------------------------------------------------


def site_packages(tools: Path) -> Path:
    return next((tools / "lib").glob("python*/site-packages"))


def find_cuda(tools: Path) -> Path:
    """The folder with bin/nvcc, with links where compilers and linkers look for libraries."""
    site = site_packages(tools)
    homes = [*sorted(site.glob("nvidia/cu[0-9]*")), TOOLKIT]
    for home in homes:
        if (home / "bin" / "nvcc").exists():
            link_libraries(home, site)
            return home
    raise BuildError("there is no nvcc: neither a wheel nor the base brings it")


def link_libraries(home: Path, site: Path) -> None:
    """Wheels contain no links: `lib64`, and the name without a version that `-lcudart` means."""
    folder = home / "lib64"
    if not folder.exists():
        if (home / "lib").is_dir():
            folder.symlink_to("lib")
        else:
            folder.mkdir()
    for library in sorted(site.glob("nvidia/*/lib/lib*.so.*")):
        link(folder / library.name, library)
        link(folder / (library.name.split(".so.")[0] + ".so"), library)


def link(place: Path, target: Path) -> None:
    if not place.exists():
        place.symlink_to(target)


# --- building ------------------------------------------------------------------------------------------------------


def jobs() -> int:
    """How many compilers run at once: as the user says, else as cores and memory allow."""
    if JOBS.is_file():
        text = JOBS.read_text(encoding="utf-8").strip()
        if not re.fullmatch(r"[1-9][0-9]{0,2}", text):
            raise BuildError(f"MAX_JOBS is {text[:20]!r}, not a number of jobs")
        return int(text)
    by_memory = available_memory() // JOB_MEMORY
    return max(1, min(os.cpu_count() or 1, by_memory, MOST_JOBS))


def available_memory() -> int:
    """Bytes, as the kernel says."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return JOB_MEMORY


def environment(package: Package, tools: Path, home: Path) -> dict[str, str]:
    """All that a build sees."""
    cuda = find_cuda(tools)
    env = {
        "PATH": f"{tools}/bin:{cuda}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PIP_NO_INDEX": "1",
        "CUDA_HOME": str(cuda),
        "CUDA_PATH": str(cuda),
        "TORCH_CUDA_ARCH_LIST": ";".join(package["capabilities"]),
        "MAX_JOBS": str(jobs()),
        "NVCC_THREADS": "1",
        # The names of temporary files, which nvcc writes into objects, follow from the seed.
        "NVCC_APPEND_FLAGS": f"--frandom-seed={package['name']}",
    }
    compiler = package["host_compiler"]
    if compiler:
        env["CXX"] = compiler
        env["CC"] = compiler.replace("g++", "gcc")
        env["NVCC_PREPEND_FLAGS"] = f"-ccbin {compiler}"
    env.update(package.get("environment", {}))
    return env


def compile_wheel(package: Package, folder: Path, tools: Path) -> Path:
    """The wheel of one package, as its build backend made it."""
    check_archive(package, folder)
    shutil.rmtree(str(WORK), ignore_errors=True)
    unpacked, target, home = WORK / "source", WORK / "wheel", WORK / "home"
    for path in (unpacked, target, home):
        path.mkdir(parents=True)
    unpack(folder / package["archive"], unpacked)
    root = root_of(unpacked, package["subdirectory"])
    backend = package["backend"]
    paths = [str(root / path) for path in package["backend_path"]]
    if backend.endswith(":__legacy__"):
        paths.append(str(root))
    python = tools / "bin" / "python"
    argv = [str(python), "-c", HOOKS, backend, json.dumps(paths), "wheel", str(target)]
    os.umask(0o022)
    env = environment(package, tools, home)
    targets = env["TORCH_CUDA_ARCH_LIST"]
    line = f"compiling {package['name']} {package['version']} for {targets}, {env['MAX_JOBS']} at once"
    print(line, file=sys.stderr)
    code = subprocess.run(
        argv,
        cwd=str(root),
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    ).returncode
    built = sorted(target.glob("*.whl"))
    if code != 0 or len(built) != 1:
        raise BuildError(f"it does not compile ({backend} ended with exit code {code})")
    return built[0]


def check_name(wheel: Path, package: Package) -> None:
    """Raise `BuildError` if a build made another package, or another version, than the locked one."""
    name, version = wheel.name.split("-")[:2]
    plain = re.sub(r"[-_.]+", "-", name).lower()
    if (
        plain != package["name"]
        or version.split("+")[0] != package["version"].split("+")[0]
    ):
        raise BuildError(
            f"it is built to {wheel.name}; the lock has {package['name']} {package['version']}"
        )


# --- settled bytes -------------------------------------------------------------------------------------------------


def strip_wheel(wheel: Path, target: Path) -> None:
    """Write a wheel again: libraries without symbols, a RECORD that says so, and bytes that only content decides."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = place / "files"
        with zipfile.ZipFile(str(wheel)) as zipped:
            for member in zipped.infolist():
                if member.is_dir():
                    continue
                path = folder / safe(member.filename, wheel)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(zipped.read(member))
                if member.external_attr >> 16 & 0o100:
                    path.chmod(0o755)
        for library in libraries(folder):
            subprocess.run(["strip", "--strip-unneeded", str(library)], check=True)
        write_record(folder)
        again = place / wheel.name
        with zipfile.ZipFile(str(again), "w") as zipped:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    zipped.write(str(path), str(path.relative_to(folder)))
        settle(again, target)


def libraries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.so*")):
        if path.is_file():
            yield path


def write_record(folder: Path) -> None:
    """Every file with its hash and size (PEP 376)."""
    record = next(folder.glob("*.dist-info")) / "RECORD"
    rows = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path == record:
            continue
        sha = hashlib.sha256(path.read_bytes()).digest()
        text = base64.urlsafe_b64encode(sha).rstrip(b"=").decode()
        rows.append(
            [str(path.relative_to(folder)), f"sha256={text}", path.stat().st_size]
        )
    rows.append([str(record.relative_to(folder)), "", ""])
    with record.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


# --- commands ------------------------------------------------------------------------------------------------------


def make_wheel(folder: Path, tools: Path, wheels: Path) -> None:
    package = json.loads((folder / "plan.json").read_text(encoding="utf-8"))[0]
    try:
        wheel = compile_wheel(package, folder, tools)
        check_name(wheel, package)
        wheels.mkdir(parents=True, exist_ok=True)
        result = wheels / wheel.name
        strip_wheel(wheel, result)
        row = {
            "name": package["name"],
            "version": wheel.name.split("-")[1],
            "wheel": wheel.name,
            "sha256": digest(result),
            "size": result.stat().st_size,
            "capabilities": package["capabilities"],
            "nvcc": nvcc_version(find_cuda(tools)),
        }
        (wheels / f"{package['name']}.json").write_text(json.dumps(row), "utf-8")
    except (BuildError, OSError, EOFError, zipfile.BadZipFile) as error:
        sys.exit(f"source package {package['name']}: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"source package {package['name']}: {error}")
    finally:
        shutil.rmtree(str(WORK), ignore_errors=True)


def nvcc_version(cuda: Path) -> str:
    """`13.0.88`."""
    argv = [str(cuda / "bin" / "nvcc"), "--version"]
    text = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode()
    match = re.search(r"V([0-9.]+)", text)
    return match.group(1) if match else ""


def list_wheels(wheels: Path) -> None:
    """requirements.txt for the installer, and compiled.json for the image."""
    rows = []
    for path in sorted(wheels.glob("*.json")):
        if path.name != REPORT:
            rows.append(json.loads(path.read_text(encoding="utf-8")))
    text = "--only-binary :all:\n"
    for row in rows:
        text += f"{row['name']} @ file:///wheels/{row['wheel']} --hash=sha256:{row['sha256']}\n"
    (wheels / "requirements.txt").write_text(text, encoding="utf-8")
    report = json.dumps(rows, indent=1) + "\n"
    (wheels / REPORT).write_text(report, encoding="utf-8")


def main(command: str, *places: str) -> None:
    if command == "wheel":
        folder, tools, wheels = map(Path, places)
        make_wheel(folder, tools, wheels)
    else:
        list_wheels(Path(places[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
