"""What the facts say of a request, by brute force: every combination is looked at, one after the other.

Written from the facts and from policy.toml, with nothing of envbuilder in it: numbers are tuples, rows are dicts.
Slow and plain on purpose; the resolver has to agree with it.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Number = tuple[int, ...]


@cache
def number(text: str) -> Number:
    return tuple(int(part) for part in text.split("."))


def branch(driver: Number) -> Number:
    """580 of 580.00, which no driver for PCs calls itself."""
    return driver if any(driver[1:]) else driver[:1]


def begins(wanted: Number, found: Number) -> bool:
    return found[: len(wanted)] == wanted


@cache
def runs(archs: Sequence[str], capability: Number) -> bool:
    """Some binary, or PTX, runs on the capability."""
    for arch in archs:
        kind, digits, only = re.fullmatch(
            r"(sm|compute)_([0-9]+)([a-z]*)", arch
        ).groups()  # type: ignore[union-attr]
        built = (int(digits[:-1]), int(digits[-1]))
        if only == "a":
            fits = capability == built
        elif kind == "sm" or only == "f":
            fits = capability[0] == built[0] and capability[1] >= built[1]
        else:
            fits = capability >= built
        if fits:
            return True
    return False


@dataclass(frozen=True)
class Place:
    """A Python on a base."""

    kind: str  # "registry", "bootstrap" or "own"
    os: str
    release: str
    reference: str
    glibc: Number


@dataclass(frozen=True)
class Combination:
    row: Row
    python: str
    place: Place
    platform: str
    cpu: bool

    @property
    def archs(self) -> tuple[str, ...]:
        arm = (
            self.row.get("arch_list_arm64", ())
            if self.platform == "linux/arm64"
            else ()
        )
        return (*(arm or self.row["arch_list"]), *self.row.get("ptx", ()))

    @property
    def answer(self) -> tuple[str, str, str, str]:
        cuda = "none" if self.cpu else self.row["cuda"]
        return self.row["torch"], cuda, self.python, self.place.reference


class Oracle:
    def __init__(self, folder: Path) -> None:
        def rows(name: str) -> list[Row]:
            found: list[Row] = json.loads(
                (folder / "facts" / f"{name}.json").read_text()
            )["rows"]
            return found

        self.torch, self.systems = rows("torch"), rows("systems")
        self.gpus, self.runtimes, self.transformers = (
            rows("gpus"),
            rows("runtimes"),
            rows("transformers"),
        )
        self.minors = rows("transformers_releases")
        self.gpu_names = rows("gpu_names")
        self.toolkits, self.compatibility = rows("toolkits"), rows("compatibility")
        self.policy = tomllib.loads((folder / "policy.toml").read_text())
        self.cuda_lines, self.drives = cache(self._cuda_lines), cache(self._drives)
        self.all = sorted(self.combinations(), key=self.rank, reverse=True)

    # --- what there is ---

    def places(self, python: str) -> Iterator[Place]:
        yield Place(kind="own", os="", release="", reference="own", glibc=(2, 28))
        registry = self.policy["registry"]
        for row in self.systems:
            glibc = number(row["glibc"] or "2.28")
            if row["release"] == registry["release"] and python in registry["pythons"]:
                name = registry["reference"].format(
                    python=python, release=row["release"]
                )
                yield Place("registry", row["os"], row["release"], name, glibc)
            if row["os"] in self.policy["bootstrap"]["systems"] and begins(
                number(python), number(row["python"])
            ):
                name = self.policy["bootstrap"]["reference"].format(
                    number=row["os"].split()[1]
                )
                yield Place("bootstrap", row["os"], row["release"], name, glibc)

    def combinations(self) -> Iterator[Combination]:
        seen = set()
        for row in self.torch:
            for platform in row["platforms"]:
                yield from self.on_platform(row, platform, cpu=False)
        for row in sorted(
            self.torch,
            key=lambda row: (
                row["index"] != "pypi",
                number(row["cuda"]),
                row["source"],
            ),
        ):
            if "cpu" in self.policy and row["torch"] not in seen:
                seen.add(row["torch"])
                for platform in ("linux/amd64", "linux/arm64"):
                    yield from self.on_platform(row, platform, cpu=True)

    def on_platform(
        self, row: Row, platform: str, *, cpu: bool
    ) -> Iterator[Combination]:
        for python in row.get("family", {}).get(platform, row["pythons"]):
            for place in self.places(python):
                yield Combination(row, python, place, platform, cpu)

    # --- which one is better ---

    def index(self, some: Combination) -> str:
        """A wheel on a platform without CUDA is a CPU build; otherwise CPU builds are on a separate index."""
        row = some.row
        for_cpu = (
            some.platform in row.get("family", {})
            and some.platform not in row["platforms"]
        )
        return str(
            self.policy["cpu"]["index"] if some.cpu and not for_cpu else row["index"]
        )

    def compiles(self, some: Combination) -> bool:
        until = some.row["compile_until"]
        return bool(some.row["compile"]) and (
            until is None or number(some.python) < number(until)
        )

    def rank(self, some: Combination) -> Sequence[Any]:
        row = some.row
        worth = {
            "features": int(self.compiles(some)),
            "index": int(self.index(some) == "pypi"),
            "torch": number(row["torch"]),
            "cuda": number(row["cuda"]),
            "registry": int(some.place.kind != "bootstrap"),
            "python": number(some.python),
        }
        wheels = (
            number(row["torch"]),
            number(row["cuda"]),
            number(row["cudnn"]),
            row["index"],
            row["source"],
        )
        tie = (
            *wheels,
            number(some.python),
            some.place.os or "custom",
            some.place.reference,
            some.platform,
        )
        return [*(worth[word] for word in self.policy["preference"]), *tie]

    # --- what is asked ---

    def _cuda_lines(self, said: str) -> set[str]:
        """The `cuda` of torch rows that a CUDA version means."""
        wanted, made = number(said), {row["cuda"] for row in self.torch}
        exact = {cuda for cuda in made if begins(wanted, number(cuda))}
        if exact:
            return exact
        meant = [
            row
            for row in self.runtimes
            if begins(wanted, number(row["release"]))
            or (row["runtime"] and number(row["runtime"]) == wanted)
        ]
        by_number = {
            cuda
            for cuda in made
            for row in meant
            if cuda in (row["release"], row["runtime"])
        }
        if by_number:
            return by_number
        patch = len(wanted) >= 3 and meant
        return (
            {cuda for cuda in made if number(cuda)[:2] == wanted[:2]}
            if patch
            else set()
        )

    def capability(self, said: str) -> Number | None:
        """Of a capability, or of a name exactly as in the facts."""
        found = {
            row["capability"]
            for row in self.gpus
            if said == row["capability"] or said in row["names"]
        }
        return number(found.pop()) if len(found) == 1 else None

    def gpu(self, capability: Number) -> Row:
        return next(row for row in self.gpus if number(row["capability"]) == capability)

    def comes_with_arm64(self, said: str, gpu: Row) -> bool:
        """Of a capability: each GPU that has it does."""
        names = {
            name for row in self.gpu_names if row.get("arm64") for name in row["names"]
        }
        return said in names or (
            said == gpu["capability"] and set(gpu["names"]) <= names
        )

    def runs(self, some: Combination, capability: Number, said: str) -> bool:
        gpu = self.gpu(capability)
        jetson = list(gpu["families"]) == ["jetson"]
        if (
            not jetson
            and some.platform != "linux/arm64"
            and self.comes_with_arm64(said, gpu)
        ):
            return False
        if jetson:
            [since] = [
                row["subject"]
                for row in self.compatibility
                if row["kind"] == "server wheels"
            ]
            if (
                number(gpu["first_cuda"]) < number(since)
                or some.platform != "linux/arm64"
            ):
                return False
        return runs(some.archs, capability)

    def _drives(self, driver: Number, capability: Number) -> bool:
        """A driver of this branch knows the GPU."""
        gpu = self.gpu(capability)
        drivers = [
            number(row["driver"])
            for row in self.toolkits
            if row["driver"] and number(row["cuda"])[:2] == number(gpu["first_cuda"])
        ]
        if drivers and driver[0] < min(drivers)[0]:
            return False
        ends = [
            row["subject"]
            for row in self.compatibility
            if gpu["architecture"] in row.get("architectures", ())
        ]
        return all(driver[0] <= int(end) for end in ends)

    def ceiling(self, some: Combination) -> tuple[Number, Sequence[str]]:
        line = number(some.row["torch"])[:2]
        rows = [row for row in self.transformers if number(row["torch"])[:2] == line]
        if not rows:
            return max(number(row["newest"]) for row in self.transformers), ()

        def distance(row: Row) -> tuple[int, Number]:
            return abs(number(row["python"])[1] - number(some.python)[1]), number(
                row["newest"]
            )

        nearest = min(rows, key=distance)
        return number(nearest["newest"]), nearest.get("broken", ())

    def fits(self, some: Combination, asked: Mapping[str, str]) -> bool:  # noqa: PLR0911
        row, place = some.row, some.place
        base, platform = asked.get("base", "auto"), asked.get("platform", "linux/amd64")
        kinds = {"auto": ("registry", "bootstrap"), "bootstrap": ("bootstrap",)}.get(
            base, ("own",)
        )
        if (
            some.cpu != (asked.get("flavour") == "cpu")
            or place.kind not in kinds
            or place.glibc < number(row["glibc"])
        ):
            return False
        if some.platform != platform or (
            asked.get("flavour") == "devel" and not self.has_nvcc(some)
        ):
            return False
        if some.cpu and {"cuda", "cudnn", "gpu"} & asked.keys():
            return False
        if "cuda" in asked and row["cuda"] not in self.cuda_lines(asked["cuda"]):
            return False
        for name, found in (
            *((name, row[name]) for name in ("cudnn", "torch", "torchvision")),
            ("python", some.python),
        ):
            if name in asked and not begins(number(asked[name]), number(found)):
                return False
        if "driver" in asked and not some.cpu:
            driver = branch(number(asked["driver"]))
            if driver < number(row["driver_floor"])[: len(driver)]:
                return False
        if "gpu" in asked:
            capability = self.capability(asked["gpu"])
            if capability is None or not self.runs(some, capability, asked["gpu"]):
                return False
            if "driver" in asked and not self.drives(
                number(asked["driver"]), capability
            ):
                return False
        if "transformers" in asked and not self.has_transformers(
            some, asked["transformers"]
        ):
            return False
        return "os" not in asked or self.has_os(some, asked["os"])

    def has_transformers(self, some: Combination, said: str) -> bool:
        wanted, (newest, broken) = number(said), self.ceiling(some)
        if wanted > newest[: len(wanted)] or said in broken:
            return False
        meant = [
            row
            for row in self.minors
            if begins(wanted[:2], number(row["transformers"]))
        ]
        here = [row for row in meant if number(row["transformers"]) <= newest]
        return any(some.python in row["pythons"][some.platform] for row in here)

    def has_nvcc(self, some: Combination) -> bool:
        """By wheels, by an image whose nvcc takes a g++ of the system, or by whoever names a base."""
        line = ".".join(some.row["cuda"].split(".")[:2])
        devel = self.policy["devel"]
        if some.place.kind == "own" or line in devel["compilers"]:
            return True
        image = devel["images"].get(line)
        majors = devel["host_compilers"].get(some.place.os, [])
        return image is not None and (not majors or min(majors) <= image["newest_gxx"])

    def has_os(self, some: Combination, said: str) -> bool:
        if some.place.kind != "own":
            return said in (some.place.os, some.place.release)
        return any(
            said in (row["os"], row["release"])
            and row["os"].startswith(("debian", "ubuntu"))
            and (not row["glibc"] or number(row["glibc"]) >= number(some.row["glibc"]))
            for row in self.systems
        )

    def best(self, asked: Mapping[str, str]) -> Combination | None:
        """The first that fits; `all` is sorted, best first."""
        return next((some for some in self.all if self.fits(some, asked)), None)
