"""The rows that no stack is decided by: what was seen of tags, wheels, runs and toolkits. They are read on demand, by
`catalog.load_images` and `catalog.read`; `catalog verify` holds the rows of a `Catalog` against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from packaging.version import Version

from envbuilder.catalog.rows import Evidence
from envbuilder.grammar import (
    DebianPackage,
    GpuArch,
    ImageSystem,
    ImageTagPattern,
    Platform,
    Project,
    Prose,
    Soname,
    Specifier,
    SystemName,
    Word,
)


class ImageState(StrEnum):
    """What is known of the tags of nvidia/cuda for one CUDA on one system."""

    SUPPORTED = "supported"  # on NVIDIA's list of supported tags, and not on the other
    END_OF_LIFE = "end of life"  # on the list of unsupported tags
    DISPUTED = "disputed"  # on both
    RECENT = "recent"  # newer than the lists, seen in use
    DROPPED = "dropped"  # on neither list any more: deleted, or never listed again


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaImage:
    """The tags `nvidia/cuda:{cuda}-{flavour}-{os}` of one CUDA on one system."""

    cuda: Version
    os: ImageSystem  # as the tag has it: "ubuntu22.04"; "*" where only the CUDA is known
    flavours: tuple[Word, ...]
    state: ImageState
    listed: date | None  # last seen on one of NVIDIA's lists
    pulled: tuple[ImageTagPattern, ...]  # the tags seen on the registry after that
    cudnn: Version | None  # in the image
    nccl: Version | None
    status: Evidence
    source: Prose
    checked: date

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag, as `docker pull nvidia/cuda:TAG` takes it."""
        return tuple(f"{self.cuda}-{flavour}-{self.os}" for flavour in self.flavours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """One release of a package on PyPI: for which Pythons and platforms it has wheels. Yanked files do not count."""

    package: Project
    version: Version
    released: date
    requires_python: Specifier
    pythons: Mapping[
        Platform, tuple[Version, ...]
    ]  # platform → X.Y, free-threaded builds left out
    glibc: Mapping[Platform, Version]  # platform → what the tag promises
    requires: Mapping[
        Project, Specifier
    ]  # torch's pins: package → PEP 440, without those for another system
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One transformers that was run on one torch: import, BERT, GPT-2, Llama, Trainer."""

    torch: Version
    python: Version
    transformers: Version
    ok: bool
    failed: tuple[Word, ...]
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchChange:
    """What a CUDA toolkit began to compile for, and what it stopped to."""

    cuda: Version
    added: tuple[GpuArch, ...]
    dropped: tuple[GpuArch, ...]
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Something that is known and fits into no table."""

    topic: Prose
    says: Prose
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class GonePackage:
    """A package that people still ask for and newer releases of a distribution no longer have."""

    package: DebianPackage
    instead: DebianPackage
    gone: tuple[SystemName, ...]
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLibrary:
    """A library that wheels may expect of the system (PEP 600), and the package that has it."""

    soname: Soname
    package: DebianPackage
    brings: tuple[DebianPackage, ...] = ()  # others of this table that it depends on
    status: Evidence
    source: Prose
    checked: date
