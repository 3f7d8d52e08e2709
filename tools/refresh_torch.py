#!/usr/bin/env python3
"""Read the wheels of torch and its family on the index: show how the facts differ, write only with `--write`.

    tools/refresh_torch.py [--index-url URL] [--write]

Which wheels there are stands on the index's pages. What is in them (pins, CUDA, torch.compile's gate, architectures) is
read out of the wheels by range requests, a few hundred kilobytes each: not every index serves their metadata as a file.
It writes `facts/wheels.json` and, in `facts/torch.json`, the fields of a release that a wheel can prove; what is known
from elsewhere stays as it is. A release that the catalog does not have becomes a new row. policy.toml is not touched.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import requests
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage, ProjectPage, PyPISimple
from refresh_catalog import FACTS, FLOORS, SUPPLEMENT, Row, dumps, publish
from remotezip import RemoteZip  # type: ignore[import-untyped]

OLDEST = {"torch": "1.13", "torchvision": "0.14", "torchaudio": "0.13", "triton": "2.0", "numpy": "1.21"}
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
ARM = "linux/arm64"
NEWEST_PYTHON = 15  # what a wheel for every Python 3 is taken to cover
LEGACY_TAGS = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
KEPT = re.compile(r"nvidia-.+|cuda-.+|triton|setuptools|torch|numpy")
INSIDE = re.compile(r"[^/]+\.dist-info/METADATA|torch/version\.py|torch/_dynamo/eval_frame\.py")
CUDA = re.compile(r"^cuda(?:: [^=]+)? = '([0-9.]+)'", re.M)  # in torch/version.py; None in a build for a CPU


class Wheels(Protocol):
    """What is in the wheels on an index."""

    def read(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        """METADATA, version.py and eval_frame.py of the wheel; {} without a wheel."""

    def architectures(self, version: str, platform: str) -> list[str]:
        """The GPU binaries in a wheel of torch, as `torch.cuda.get_arch_list` has them."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index-url", default=PYPI_SIMPLE_ENDPOINT, help="an index that serves range requests")
    parser.add_argument("--write", action="store_true", help="write the facts after showing what changes")
    options = parser.parse_args(argv)
    today = datetime.now(tz=UTC).date().isoformat()
    with requests.Session() as session, PyPISimple(options.index_url, session=session) as index:
        pages = {package: index.get_project_page(package) for package in OLDEST}
        wheels = Index(pages, session)
        rows = [row for package, page in pages.items() for row in wheel_rows(package, page, wheels)]
        old = json.loads((FACTS / "torch.json").read_text())
        torch = torch_rows(old["rows"], rows, wheels)
    # The date of torch.json is what stacks are resolved as of: it moves only when a release comes in.
    date = today if len(torch) > len(old["rows"]) else old["date"]
    return publish({"wheels.json": dumps(today, rows), "torch.json": dumps(date, torch)}, FACTS, write=options.write)


# --- what is on a page: pure ---------------------------------------------------------------------------------------


def releases(package: str, page: ProjectPage) -> dict[str, list[DistributionPackage]]:
    """Version → its wheels for Linux that are not yanked, of the releases that matter, oldest first."""
    found: dict[str, list[DistributionPackage]] = {}
    for file in page.packages:
        if file.package_type == "wheel" and not file.is_yanked and file.version and places(file.filename):
            found.setdefault(file.version, []).append(file)
    kept = [name for name in found if Version(name) >= Version(OLDEST[package]) and not Version(name).is_prerelease]
    if package == "numpy":  # the newest patch of each minor
        kept = list({Version(name).release[:2]: name for name in sorted(kept, key=Version)}.values())
    return {name: found[name] for name in sorted(kept, key=Version)}


def places(filename: str) -> dict[str, Version]:
    """Platform → the glibc that the wheel's tag promises; {} for another system."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return {}
    found: dict[str, Version] = {}
    for tag in tags:
        tagged = re.fullmatch(r"(manylinux[0-9]+|manylinux_([0-9]+_[0-9]+))_(x86_64|aarch64)", tag.platform)
        if tagged:
            glibc = Version(tagged[2].replace("_", ".") if tagged[2] else LEGACY_TAGS[tagged[1]])
            platform = MACHINES[tagged[3]]
            found[platform] = min(glibc, found.get(platform, glibc))
    return found


def pythons(filename: str) -> set[Version]:
    """The Pythons X.Y that a wheel is for; free-threaded builds are another interpreter."""
    found: set[Version] = set()
    for tag in parse_wheel_filename(filename)[3]:
        exact = re.fullmatch(r"cp3([0-9]+)", tag.interpreter)
        if tag.interpreter == "py3":
            found |= {Version(f"3.{minor}") for minor in range(7, NEWEST_PYTHON + 1)}
        elif exact and tag.abi == "abi3":
            found |= {Version(f"3.{minor}") for minor in range(int(exact[1]), NEWEST_PYTHON + 1)}
        elif exact and not tag.abi.endswith("t"):
            found.add(Version(f"3.{exact[1]}"))
    return found


def wheel_rows(package: str, page: ProjectPage, wheels: Wheels) -> Iterator[Row]:
    """One row for each release of a package."""
    for name, files in releases(package, page).items():
        covered: dict[str, set[Version]] = {}
        glibc: dict[str, Version] = {}
        required = SpecifierSet(files[0].requires_python or "")
        for file in files:
            for platform, promised in places(file.filename).items():
                covered.setdefault(platform, set()).update(p for p in pythons(file.filename) if allows(required, p))
                glibc[platform] = min(promised, glibc.get(platform, promised))
        texts = wheels.read(package, name, "linux/amd64") if package != "numpy" else {}
        yield {
            "package": package,
            "version": name,
            "released": min(file.upload_time.date().isoformat() for file in files if file.upload_time),
            "requires_python": files[0].requires_python or "",
            "pythons": {platform: [str(p) for p in sorted(found)] for platform, found in sorted(covered.items())},
            "glibc": {platform: str(found) for platform, found in sorted(glibc.items())},
            "requires": requires(texts["METADATA"]) if texts else {},
            "status": "verified",
            "source": f"PyPI: {package}, its page" + (" and METADATA read with HTTP range requests" if texts else ""),
        }


def allows(required: SpecifierSet, python: Version) -> bool:
    return required.contains(f"{python}.99", prereleases=True)


# --- what is in a wheel: pure --------------------------------------------------------------------------------------


def requires(metadata: str, platform: str = "linux/amd64") -> dict[str, str]:
    """What a wheel pins of CUDA and of its family on Linux, as package → PEP 440."""
    machine = next(m for m, place in MACHINES.items() if place == platform)
    found: dict[str, str] = {}
    for line in parse_email(metadata)[0].get("requires_dist", []):
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if KEPT.fullmatch(name) and any(holds(wanted, machine, python) for python in range(7, NEWEST_PYTHON + 1)):
            found[name] = str(wanted.specifier)
    return found


def holds(wanted: Requirement, machine: str, minor: int) -> bool:
    here = {
        "platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "platform_machine": machine,
        "python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0", "extra": "",
    }  # fmt: skip
    return wanted.marker is None or wanted.marker.evaluate(here)


def torch_facts(texts: Mapping[str, str]) -> Row:
    """What a wheel of torch says of itself."""
    pins = requires(texts["METADATA"])
    cuda = CUDA.search(texts["version.py"])
    gate = re.search(r"version_info >= \(3, ([0-9]+)\):\s+raise RuntimeError", texts.get("eval_frame.py", ""))
    return {
        "cuda": pin(pins, "nvidia-cuda-runtime", "cuda-toolkit") or (cuda[1] if cuda else None),
        "cudnn": pin(pins, "nvidia-cudnn"),
        "nccl": pin(pins, "nvidia-nccl"),
        "triton": pin(pins, "triton"),
        "compile": gate is not None,
        "compile_until": f"3.{gate[1]}" if gate else None,
        "requires_python": parse_email(texts["METADATA"])[0].get("requires_python", ""),
    }


def pin(pins: Mapping[str, str], *names: str) -> str | None:
    """The version that one of the packages is pinned to, whatever its suffix (`-cu11`)."""
    for name in names:
        for package, bound in pins.items():
            if re.fullmatch(rf"{name}(-cu[0-9]+)?", package) and (found := re.match(r"[=~]=([0-9.]+)", bound)):
                return found[1]
    return None


def setuptools_bound(release: str, pins: Mapping[str, str]) -> Row:
    known = SUPPLEMENT["setuptools"]
    if Version(release) < Version(known["until"]):
        return {"setuptools": known["bound"], "setuptools_source": known["source"]}
    return {"setuptools": pins.get("setuptools", ""), "setuptools_source": "the wheel's METADATA"}


def family_of(row: Row, by_name: Mapping[tuple[str, str], Row]) -> dict[str, list[str]]:
    """Platform → the Pythons for which torch, torchvision and torchaudio all have a wheel."""
    names = [(package, row[package]) for package in ("torch", "torchvision", "torchaudio") if row[package]]
    found = {}
    for platform in row["platforms"]:
        sets = [set(by_name[name]["pythons"].get(platform, ())) for name in names]
        found[platform] = sorted(set.intersection(*sets), key=Version)
    return found


# --- rows of torch.json --------------------------------------------------------------------------------------------


def torch_rows(old: Sequence[Row], rows: Sequence[Row], wheels: Wheels) -> list[Row]:
    """The rows with what the wheels say; a release that was not there comes in, one that is not on the index stays."""
    by_name = {(row["package"], row["version"]): row for row in rows}
    known = {(row["torch"], row["index"]): row for row in old}
    found: dict[str, Row] = {}
    for (package, name), wheel in by_name.items():
        if package == "torch":
            facts = {**torch_facts(wheels.read("torch", name, "linux/amd64")), **placed(wheel, wheels)}
            before = known.get((name, "pypi")) or new_row(facts, wheel, rows, old, wheels)
            found[name] = proven({**before, **facts}, wheel, by_name, wheels)
    after = []
    for row in old:
        proved = found.get(row["torch"], row)
        after.append(proved if row["index"] == "pypi" else like_sister(row, proved))
    return after + [row for name, row in found.items() if (name, "pypi") not in known]


def placed(wheel: Row, wheels: Wheels) -> Row:
    """The platforms whose wheel is a CUDA build; on arm64 most are for a CPU."""
    arm = wheels.read("torch", wheel["version"], ARM) if ARM in wheel["pythons"] else {}
    return {"platforms": ["linux/amd64", *([ARM] if arm and CUDA.search(arm["version.py"]) else [])]}


def proven(before: Row, wheel: Row, by_name: Mapping[tuple[str, str], Row], wheels: Wheels) -> Row:
    """A row with everything that its wheel proves."""
    row = {
        **before,
        "released": wheel["released"],
        "pythons": wheel["pythons"]["linux/amd64"],
        "glibc_tag": wheel["glibc"]["linux/amd64"],
        **setuptools_bound(wheel["version"], wheel["requires"]),
    }
    if ARM in row["platforms"] and not row.get("arch_list_arm64"):
        row["arch_list_arm64"] = wheels.architectures(wheel["version"], ARM)
    return {**row, "family": family_of(row, by_name)}


def new_row(facts: Row, wheel: Row, rows: Sequence[Row], old: Sequence[Row], wheels: Wheels) -> Row:
    """A release that the catalog does not have: its family by their pins, the rest as in the newest row there is."""
    name = wheel["version"]
    newest = max((row for row in old if row["index"] == "pypi"), key=lambda row: Version(row["torch"]))
    return {
        "torch": name,
        "released": wheel["released"],
        "index": "pypi",
        **{field: facts[field] for field in ("cuda", "cudnn", "nccl", "triton")},
        **{package: companion(package, name, rows) for package in ("torchvision", "torchaudio")},
        "pythons": wheel["pythons"]["linux/amd64"],
        "platforms": facts["platforms"],
        "arch_list": wheels.architectures(name, "linux/amd64"),
        "glibc": wheel["glibc"]["linux/amd64"],
        "numpy2": newest["numpy2"],
        "driver_floor": FLOORS[facts["cuda"].split(".")[0]],
        "status": "verified",
        "source": f"PyPI: torch {name}, its wheel read with HTTP range requests",
        "compile_source": "torch/_dynamo/eval_frame.py inside the wheel",
        "numpy2_source": f"as torch {newest['torch']}",
        "field_status": {"numpy2": "inferred", "glibc": "documented"},
    }


def companion(package: str, torch: str, rows: Sequence[Row]) -> str | None:
    """The newest release of a package that asks for this torch."""
    fitting = []
    for row in rows:
        bound = row["requires"].get("torch") if row["package"] == package else None
        if bound and SpecifierSet(bound).contains(torch):
            fitting.append(row["version"])
    return max(fitting, key=Version, default=None)


def like_sister(row: Row, sister: Row) -> Row:
    """A build on PyTorch's own index, whose wheels nobody could read: Pythons and bounds as its release has on PyPI."""
    names = ("requires_python", "glibc_tag", "setuptools", "setuptools_source")
    family = {place: found for place, found in sister.get("family", {}).items() if place in row["platforms"]}
    more = {name: sister[name] for name in names if name in sister}
    status = {**row.get("field_status", {}), **dict.fromkeys(("family", "glibc_tag", "requires_python"), "inferred")}
    return {**row, **more, "family": family, "field_status": status}


# --- the index -----------------------------------------------------------------------------------------------------


class Index:
    """The wheels on the index; each is opened once."""

    def __init__(self, pages: Mapping[str, ProjectPage], session: requests.Session) -> None:
        self._files = {package: releases(package, page) for package, page in pages.items()}
        self._session = session
        self._read: dict[tuple[str, str, str], Mapping[str, str]] = {}

    def read(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        key = (package, version, platform)
        if key not in self._read:
            self._read[key] = self._open(*key)
        return self._read[key]

    def _file(self, package: str, version: str, platform: str) -> DistributionPackage | None:
        """The wheel for the newest Python: pins are the same in all but for their markers."""
        files = [file for file in self._files[package][version] if platform in places(file.filename)]
        return max(
            files, key=lambda file: (max(pythons(file.filename), default=Version("0")), file.filename), default=None
        )

    def _open(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        file = self._file(package, version, platform)
        if file is None:
            return {}
        with RemoteZip(file.url, session=self._session) as wheel:
            found = {path.rsplit("/", 1)[-1]: path for path in wheel.namelist() if INSIDE.fullmatch(path)}
            return {short: wheel.read(path).decode() for short, path in found.items()}

    def architectures(self, version: str, platform: str) -> list[str]:
        """The GPU binaries in a wheel of torch, as `torch.cuda.get_arch_list` has them."""
        file = self._file("torch", version, platform)
        assert file is not None
        with RemoteZip(file.url, session=self._session) as wheel:
            return find_architectures(wheel.read("torch/lib/libtorch_python.so"))


def find_architectures(library: bytes) -> list[str]:
    """CUDA_ARCH_FLAGS, which libtorch_python.so holds as one string."""
    found = re.search(rb"\0((?:sm_[0-9]+a? ?)+)\0", library)
    return found[1].decode().split() if found else []


if __name__ == "__main__":
    sys.exit(main())
