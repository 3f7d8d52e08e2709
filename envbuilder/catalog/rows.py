"""The rows of the catalog, frozen. A fact carries its status and its source; policy carries people's choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from packaging.version import Version

PYPI = "pypi"
"""The index that is asked unless another is named."""


class Evidence(StrEnum):
    """How well a fact is known, strongest first."""

    VERIFIED = "verified"  # read or executed
    DOCUMENTED = "documented"  # somebody's page says so
    INFERRED = "inferred"  # reasoned


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """One torch release for one CUDA, as its wheels are."""

    torch: Version
    released: date
    index: str  # name of the index that carries the wheels
    cuda: Version
    cudnn: Version
    nccl: Version | None  # None: linked into torch
    triton: Version | None
    torchvision: Version
    torchaudio: Version | None
    pythons: tuple[Version, ...]  # X.Y with a wheel for linux/amd64
    platforms: tuple[str, ...]
    arch_list: tuple[str, ...]
    glibc: Version  # oldest one whose symbols suffice; the wheel's tag may promise more
    numpy2: bool
    compile: bool
    compile_until: Version | None  # torch.compile raises on this Python and later
    driver_floor: str
    status: Evidence
    source: str
    compile_source: str
    numpy2_source: str
    family: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)
    """Platform → Pythons with a wheel of torch, torchvision and torchaudio alike; `pythons` has torch's own."""
    arch_list_arm64: tuple[str, ...] = ()  # of the CUDA wheel for linux/arm64; () where `platforms` has none
    ptx: tuple[str, ...] = ()  # ("compute_120",): a newer GPU can compile these at load


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRuntime:
    """A release of the CUDA toolkit, and the number of its runtime, which is what torch's wheels are pinned to."""

    release: Version  # X.Y.Z
    runtime: Version | None  # 11.7.99 is the runtime of 11.7.1; None: not known
    status: Evidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersCeiling:
    """The newest transformers that was run on a torch line and worked."""

    torch: Version
    python: Version
    newest: Version
    released: date
    next_released: date | None  # the release after it, the first that may not work
    status: Evidence
    source: str
    broken: tuple[Version, ...] = ()  # older ones that were run and failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A release of an operating system that bases are made of."""

    os: str
    release: str
    glibc: Version
    python: Version
    status: Evidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A compute capability and the GPUs that have it."""

    capability: Version
    architecture: str
    names: tuple[str, ...]
    status: Evidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """What every stack holds beside the torch family."""

    requirements: tuple[str, ...]
    moving: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBases:
    """Official images with Python built in."""

    reference: str
    release: str
    pythons: tuple[Version, ...]
    source: str
    system_packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapBases:
    """Images made here from a distribution's packages."""

    reference: str
    system_packages: tuple[str, ...]
    more_packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfLife:
    """The last day of security updates."""

    date: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWheels:
    """Where torch without CUDA comes from."""

    index: str
    status: Evidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """policy.toml."""

    preference: tuple[str, ...]
    cpu: CpuWheels | None = None
    packages: Packages
    registry: RegistryBases
    bootstrap: BootstrapBases
    end_of_life: Mapping[str, EndOfLife]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # hashed by identity: candidates are kept per catalog
class Catalog:
    """Everything that is known and chosen, as of `date`."""

    date: date
    torch: tuple[TorchBuild, ...]
    transformers: tuple[TransformersCeiling, ...]
    distributions: tuple[Distribution, ...]
    gpus: tuple[Gpu, ...]
    policy: Policy
    runtimes: tuple[CudaRuntime, ...] = ()
