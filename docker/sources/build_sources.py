#!/usr/bin/env python3
"""Build source packages to wheels, offline, and compare them with the lock.

    build_sources.py tools FOLDER TOOLS            install each package's pinned build tools, from the index
    build_sources.py requires FOLDER TOOLS FILE    ask each build backend which further tools it wants
    build_sources.py wheels FOLDER TOOLS WHEELS    build; a wheel other than the locked one is an error

FOLDER holds sources.json, the archives, and NAME.txt, the build tools of each package with their hashes. The wheels of
packages that need no build are only compared and copied. `tools` alone uses the network; the others run without one,
with an environment of their own, so that the same archive and the same tools give the same bytes wherever they run.
What a backend leaves open is settled here: order and dates in a wheel, permissions, compression.
Runs on Python 3.8 or later; standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, Iterator

SECRETS = Path("/run/secrets")
EPOCH = 315532800  # 1980-01-01, the oldest date a zip archive can hold
MOST_BYTES = 1 << 30
MOST_FILES = 50000
LONGEST = 900  # seconds of one build
PURE = "-none-any.whl"
# Packages that ask a repository for the version; an archive has none, so the lock gives it.
VERSION_VARIABLES = (
    "SETUPTOOLS_SCM_PRETEND_VERSION",
    "PDM_BUILD_SCM_VERSION",
    "PBR_VERSION",
)
HOOKS = """
import importlib, json, sys
backend, path, hook, target = sys.argv[1:5]
sys.path[:0] = json.loads(path)
name, _, attributes = backend.partition(":")
module = importlib.import_module(name)
for attribute in attributes.split(".") if attributes else ():
    module = getattr(module, attribute)
if hook == "requires":
    ask = getattr(module, "get_requires_for_build_wheel", None)
    answer = list(ask(None)) if ask else []
else:
    answer = module.build_wheel(target, None)
with open(target + ".json", "w", encoding="utf-8") as stream:
    json.dump(answer, stream)
"""

Package = Any


class BuildError(Exception):
    """What is wrong with a package, in one sentence."""


# --- archives ------------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`: regular files alone, with permissions that do not vary."""
    size = 0
    for count, (name, executable, stream) in enumerate(members(archive)):
        path = folder / safe(name, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            piece = stream.read(1 << 16)
            while piece:
                size += len(piece)
                if size > MOST_BYTES or count > MOST_FILES:
                    raise BuildError(f"{archive.name} unpacks to too much")
                target.write(piece)
                piece = stream.read(1 << 16)
        path.chmod(0o755 if executable else 0o644)
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (EPOCH, EPOCH))


def members(archive: Path) -> Iterator[tuple[str, bool, IO[bytes]]]:
    """The regular files of a tar or zip archive: name, run bit, content."""
    if archive.name.endswith((".zip", ".whl")):
        with zipfile.ZipFile(str(archive)) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as stream:
                        yield (
                            info.filename,
                            bool(info.external_attr >> 16 & 0o100),
                            stream,
                        )
        return
    with tarfile.open(str(archive)) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                # A link could lead out of the folder; what needs one is rare in a source package.
                safe(member.name, archive)
                print(
                    f"{archive.name}: left out {member.name}, no file", file=sys.stderr
                )
                continue
            content = tar.extractfile(member)
            assert content is not None
            yield member.name, bool(member.mode & 0o100), content


def safe(name: str, archive: Path) -> str:
    """A member's path; an error for one that leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise BuildError(f"{archive.name} contains {name!r}, which leads out of it")
    return str(path)


def root_of(folder: Path, subdirectory: str) -> Path:
    """Where the package is: below the one folder at the top of an archive, if there is one."""
    entries = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    root = entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
    root = root / subdirectory
    if not root.is_dir():
        raise BuildError(f"there is no folder {subdirectory} in it")
    return root


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def settle(wheel: Path, target: Path) -> None:
    """Write a wheel again so that only its content decides its bytes: order, dates, permissions, no compression."""
    with zipfile.ZipFile(str(wheel)) as old:
        members = {}
        for member in old.infolist():
            if not member.is_dir():
                members[member.filename] = member
        with zipfile.ZipFile(str(target), "w", zipfile.ZIP_STORED) as new:
            for name in sorted(members, key=metadata_last):
                info = settled_info(members[name], wheel)
                new.writestr(info, old.read(name))


def metadata_last(name: str) -> tuple[bool, str]:
    """By name, and a wheel's metadata at its end, as the format recommends."""
    return ".dist-info/" in name, name


def settled_info(member: zipfile.ZipInfo, wheel: Path) -> zipfile.ZipInfo:
    """A file's entry with the oldest date, and of its permissions only whether it can be run."""
    name = safe(member.filename, wheel)
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    executable = member.external_attr >> 16 & 0o100
    mode = 0o100755 if executable else 0o100644
    info.external_attr = mode << 16
    info.create_system = 3  # Unix
    return info


# --- building ------------------------------------------------------------------------------------------------------


def backend_environment(package: Package, home: Path) -> dict[str, str]:
    """Nothing of the surroundings: what a build reads is the same everywhere."""
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PIP_NO_INDEX": "1",
        # An image has no compiler: what can do without one is built without here, too.
        "CC": "false",
        "CXX": "false",
    }
    env.update(package.get("environment", {}))
    if package.get("pretend_version"):
        for name in VERSION_VARIABLES:
            env[name] = package["pretend_version"]
    return env


def call_backend(
    package: Package, tools: Path, work: Path, hook: str, archive: Path
) -> tuple[Any, Path]:
    """Unpack the archive and call one hook of its build backend; returns the answer, and where wheels were put."""
    unpacked = work / "unpacked"
    unpacked.mkdir()
    unpack(archive, unpacked)
    root = root_of(unpacked, package["subdirectory"])
    target = work / "wheel"
    target.mkdir()
    backend = package["backend"]
    paths = [str(root / path) for path in package["backend_path"]]
    if backend.endswith(":__legacy__"):  # a setup.py may import what lies next to it
        paths.append(str(root))
    python = tools / package["name"] / "bin" / "python"
    argv = [str(python), "-c", HOOKS, backend, json.dumps(paths), hook, str(target)]
    os.umask(0o022)
    home = work / "home"
    home.mkdir()
    try:
        code = subprocess.run(
            argv,
            cwd=str(root),
            env=backend_environment(package, home),
            check=False,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        ).returncode
    except subprocess.TimeoutExpired:
        raise BuildError(f"it was not built within {LONGEST // 60} minutes") from None
    answer = Path(str(target) + ".json")
    if code != 0 or not answer.is_file():
        raise BuildError(f"{backend} failed (exit code {code})")
    return json.loads(answer.read_text(encoding="utf-8")), target


def build(package: Package, folder: Path, tools: Path, wheels: Path) -> Path:
    """The wheel of one package, with settled bytes, in the folder `wheels`."""
    archive = folder / package["archive"]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _, target = call_backend(package, tools, work, "wheel", archive)
        built = sorted(target.glob("*.whl"))
        if len(built) != 1:
            raise BuildError(f"its build made {len(built)} wheels, not one")
        wheel = built[0]
        if not wheel.name.endswith(PURE):
            raise BuildError(
                f"its wheel is {wheel.name}, which is not pure Python: it compiles for one platform"
            )
        result = wheels / wheel.name
        settle(wheel, result)
    return result


def compare(package: Package, result: Path) -> None:
    """Raise `BuildError` if a wheel is not the locked one."""
    expected = package.get("wheel")
    if not expected:
        return
    if result.name != expected:
        raise BuildError(f"it is {result.name} here, the lock has {expected}")
    found = digest(result)
    if found != package["wheel_sha256"]:
        raise BuildError(
            f"{expected} is another wheel here than the locked one: sha256 {found}, locked {package['wheel_sha256']}"
        )


def check_archive(package: Package, folder: Path) -> None:
    archive = folder / package["archive"]
    found = digest(archive)
    if found != package["sha256"]:
        raise BuildError(
            f"{archive.name} is another file than the locked one: sha256 {found}, locked {package['sha256']}"
        )


# --- commands ------------------------------------------------------------------------------------------------------


def install_tools(package: Package, folder: Path, tools: Path) -> None:
    """A virtual environment with the pinned build tools of one package; the way to the index is in build secrets."""
    env = dict(os.environ, UV_NO_CONFIG="1", UV_LINK_MODE="copy", UV_HTTP_TIMEOUT="300")
    for name, variable in (("ca", "SSL_CERT_FILE"), ("netrc", "NETRC")):
        if (SECRETS / name).is_file():
            env[variable] = str(SECRETS / name)
    if (SECRETS / "index").is_file():
        text = (SECRETS / "index").read_text(encoding="utf-8")
        env["UV_DEFAULT_INDEX"] = text.strip()
    place = tools / package["name"]
    python = os.path.realpath(sys.executable)
    uv = ["uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", python, str(place)], env=env, check=True)
    install = ["pip", "install", "--no-deps", "--require-hashes", "--no-build"]
    install += ["--python", str(place / "bin" / "python")]
    install += ["--requirements", str(folder / f"{package['name']}.txt")]
    subprocess.run([*uv, *install], env=env, check=True)


def ask_requirements(package: Package, folder: Path, tools: Path) -> list[str]:
    """The build tools that a backend wants in addition to those that the package names."""
    check_archive(package, folder)
    with tempfile.TemporaryDirectory() as name:
        archive = folder / package["archive"]
        answer, _ = call_backend(package, tools, Path(name), "requires", archive)
    return [str(line) for line in answer]


def make_wheel(package: Package, folder: Path, tools: Path, wheels: Path) -> None:
    """Put the wheel of one package into the folder `wheels`, if it is the locked one."""
    check_archive(package, folder)
    wheels.mkdir(parents=True, exist_ok=True)
    if package["backend"]:
        compare(package, build(package, folder, tools, wheels))
        return
    archive = folder / package["archive"]
    shutil.copyfile(str(archive), str(wheels / archive.name))


def main(command: str, folder: Path, tools: Path, output: Path) -> None:
    packages = json.loads((folder / "sources.json").read_text(encoding="utf-8"))
    answers = {}
    for package in packages:
        name = package["name"]
        try:
            if command == "tools" and package["backend"]:
                install_tools(package, folder, tools)
            elif command == "requires":
                answers[name] = ask_requirements(package, folder, tools)
            elif command == "wheels":
                make_wheel(package, folder, tools, output)
        except (BuildError, OSError, EOFError, zipfile.BadZipFile) as error:
            sys.exit(f"source package {name}: {error}")
        except (tarfile.TarError, subprocess.CalledProcessError) as error:
            sys.exit(f"source package {name}: {error}")
    if command == "requires":
        output.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, [*sys.argv[2:], os.devnull][:3]))
