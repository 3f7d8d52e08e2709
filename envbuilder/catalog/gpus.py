"""What GPUs and drivers are called, which drivers know a GPU, and which of a wheel's binaries run on it."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog.rows import Catalog, Compatibility, Family, Gpu, Toolkit

_ARCH = re.compile(r"(sm|compute)_([0-9]+)([0-9])([af]?)[a-z]*")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_MAKERS = frozenset({"nvidia", "geforce", "tesla", "quadro", "rtx", "gtx", "generation"})
_FEW = 3  # names that are told
_SHAPES = re.compile(r"[0-9]+gb|sxm[0-9]*|pcie|hbm[0-9]e?|nvl[0-9]*")  # an H100 is an H100 however it is mounted


@lru_cache(maxsize=1024)
def find_gpus(said: str, catalog: Catalog) -> tuple[Gpu, ...]:
    """The rows that a GPU's name or a compute capability such as `8.6` can mean; several if the name is ambiguous."""
    whole, wanted = _whole(said), _words(said)
    meant = (wanted, wanted | {"ada"})  # an RTX 6000 is Turing, and Ada
    rows = [row for row in catalog.gpus if said == str(row.capability)]
    rows = rows or [row for row in catalog.gpus if any(_whole(name) == whole for name in row.names)]
    rows = rows or [row for row in catalog.gpus if any(_words(name) in meant for name in row.names)]
    return tuple({row.capability: row for row in rows}.values())


def alike_gpus(said: str, catalog: Catalog) -> list[str]:
    """Names that may be meant by one that nothing is called: of the same words and more, or of nearly the same ones."""
    names = [name for row in catalog.gpus for name in row.names]
    wanted, text = _words(said), " ".join(_ordered(said))
    same = [name for name in names if wanted and (wanted <= _words(name) or wanted >= _words(name) > frozenset())]
    plain = {" ".join(_ordered(name)): name for name in reversed(names)}
    near = difflib.get_close_matches(text, plain, cutoff=0.5) if text else []
    return list(dict.fromkeys([*same[:_FEW], *(plain[name] for name in near)]))[:_FEW]


def find_gpu(said: str, catalog: Catalog) -> Gpu | None:
    """The one row of a GPU's name or capability; None for an unknown or ambiguous name."""
    rows = find_gpus(said, catalog)
    return rows[0] if len(rows) == 1 else None


def is_capability(said: str) -> bool:
    """`8.6`, and not a name."""
    return bool(_CAPABILITY.fullmatch(said))


def _whole(name: str) -> str:
    return name.lower().removeprefix("nvidia ")


@lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """A GPU's name without its maker, family and form: `NVIDIA A100-SXM4-80GB` → a100."""
    words = frozenset(_ordered(name))
    return words - {"blackwell"} if "pro" in words else words  # all of RTX PRO are


def _ordered(name: str) -> list[str]:
    apart = re.sub(r"(?<=[0-9])(?=(ti|super)\b)|(?<=rtx|gtx)(?=[0-9])", " ", name.lower())  # rtx3090ti
    words = re.split(r"[\s()\[\],-]+", apart)
    return [word for word in words if word and not _SHAPES.fullmatch(word) and word not in _MAKERS]


@lru_cache(maxsize=4096)
def has_kernels(archs: tuple[str, ...], capability: Version) -> bool:
    """Some binary of a wheel runs on a GPU of this compute capability."""
    return any(runs_on(arch, capability) for arch in archs)


def runs_on(arch: str, capability: Version) -> bool:
    """Whether code for an architecture runs on a GPU: the rules of the CUDA Programming Guide, "Compute Capabilities".

    sm_XY, a binary, runs on X.Y and later minor versions; compute_XY, which the driver compiles, on everything from X.Y
    on. With an `a` (architecture-specific) both run on X.Y alone, with an `f` (family-specific) on X.Y and later minor
    versions. The suite in the image has the same rules (docker/payload/acceptance/checks/gpu.py).
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        return False
    kind, major, minor, suffix = match.groups()
    built_for = (int(major), int(minor))
    gpu = (capability.major, capability.minor)
    if suffix == "a":
        return gpu == built_for
    if gpu < built_for:
        return False
    same_family = gpu[0] == built_for[0]
    return same_family or (kind == "compute" and not suffix)


# --- drivers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """The driver branches that know a GPU; None where no fact sets an end."""

    first: Toolkit | None  # the first CUDA that compiles for the GPU: it came with a driver of the first branch
    last: Compatibility | None

    @property
    def oldest(self) -> int:
        return Version(self.first.driver).major if self.first and self.first.driver else 0

    def has(self, branch: int) -> bool:
        return self.oldest <= branch and (self.last is None or branch <= int(self.last.subject))


@lru_cache(maxsize=4)
def branches(catalog: Catalog) -> Mapping[Version, Branches]:
    """Compute capability → the driver branches that know it."""
    return {
        gpu.capability: Branches(
            first=min(_came_with(gpu, catalog), key=lambda row: row.cuda, default=None),
            last=next((row for row in _last_branches(catalog) if gpu.architecture in row.architectures), None),
        )
        for gpu in catalog.gpus
    }


def _came_with(gpu: Gpu, catalog: Catalog) -> list[Toolkit]:
    line = gpu.first_cuda.release[:2] if gpu.first_cuda else ()
    return [row for row in catalog.toolkits if row.driver and row.cuda.release[:2] == line]


def _last_branches(catalog: Catalog) -> list[Compatibility]:
    return [row for row in catalog.compatibility if row.kind == "last driver branch"]


@lru_cache(maxsize=4)
def first_drivers(catalog: Catalog) -> Mapping[int, Version]:
    """Driver branch → its first driver that came with a CUDA toolkit."""
    drivers = sorted((Version(row.driver) for row in catalog.toolkits if row.driver), reverse=True)
    return {driver.major: driver for driver in drivers}


@lru_cache(maxsize=4)
def eras(catalog: Catalog) -> tuple[int, ...]:
    """The driver branches at which drivers begin or cease to know some GPU, oldest first."""
    known = branches(catalog).values()
    return tuple(sorted({0, *(row.oldest for row in known), *(int(row.last.subject) + 1 for row in known if row.last)}))


def is_jetson(gpu: Gpu) -> bool:
    """Only Jetsons have this compute capability."""
    return set(gpu.families) == {Family.JETSON}


def server_wheels(catalog: Catalog) -> Compatibility | None:
    """Since which CUDA a Jetson runs what is built for arm64 servers, if it is one that does."""
    return next((row for row in catalog.compatibility if row.kind == "server wheels"), None)


def runs_server_wheels(gpu: Gpu, catalog: Catalog) -> bool:
    """Not a Jetson, or one of those that came with the CUDA that all of arm64 shares."""
    since = server_wheels(catalog)
    return not is_jetson(gpu) or bool(since and gpu.first_cuda and gpu.first_cuda >= Version(since.subject))


def driver_text(driver: Version) -> str:
    """As NVIDIA writes it: 580.65.06."""
    return ".".join([str(number) if place < 2 else f"{number:02d}" for place, number in enumerate(driver.release)])


def driver_reaches(driver: Version, floor: str) -> bool:
    """The driver is `floor` or newer; of a branch such as 580 some driver is."""
    parts = driver.release
    return parts >= Version(floor).release[: len(parts)]
