"""Packages that are bound to torch, CUDA or the GPU: what each range of their releases needs. Read on demand, by
`catalog.load_companions`; written by `tools/refresh_companions.py` out of the wheels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from packaging.version import Version

from envbuilder.catalog.rows import Evidence
from envbuilder.grammar import (
    DebianPackage,
    GpuArch,
    Numbers,
    Platform,
    Project,
    Prose,
    Requirement,
    Specifier,
    Word,
)


class CompanionKind(StrEnum):
    """What an index has of a package, and so how it comes into an image."""

    WHEEL = "wheel"
    META = "meta"  # wheels that hold nothing: an extra of theirs has the package
    PURE_SOURCE = "pure-source"  # a source archive that needs no compiler
    CUDA_SOURCE = "cuda-source"  # a source archive that nvcc compiles against one torch
    ELSEWHERE = "elsewhere"  # the index has another project of this name, or none
    DEAD = "dead"  # no release for a torch of today will come


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Releases of a package, from `first` to `last`, of which the same is true.

    A row of kind `elsewhere` or `dead` may have no release at all: it is there to say so.
    """

    name: Project
    kind: CompanionKind
    first: Version | None = None
    last: Version | None = None
    released: date | None = None  # the day of `first`
    next_released: date | None = (
        None  # the day of the release after `last`; None: there is none
    )
    family: Project | None = None  # "cupy" for cupy-cuda12x: one name for each CUDA
    torch: Specifier = ""  # the torches that it runs on, PEP 440; "": any, or none
    torch_minor_abi: bool = (
        False  # an extension in it uses the C++ of torch, which changes with each minor
    )
    cuda: tuple[int, ...] = ()  # majors that its extensions link to; () is any or none
    cuda_lines: tuple[
        Numbers, ...
    ] = ()  # X.Y of the variants in it of which torch's decides; () where there are none
    sm: tuple[GpuArch, ...] = ()  # the GPU binaries in it, as far as they were read
    python: Specifier = ""  # by Requires-Python and the tags of its wheels
    platforms: tuple[Platform, ...] = ()
    glibc: Version | None = None  # what the tags promise on linux/amd64
    transformers: Specifier = (
        ""  # upper bounds and pins alone: a stack takes the newest
    )
    needs: tuple[Requirement, ...] = ()  # packages to install in addition
    needs_for: Mapping[Numbers, tuple[Requirement, ...]] = field(
        default_factory=dict
    )  # CUDA major → what to install instead of the bare name: "jax[cuda12]"
    needs_apt: tuple[
        DebianPackage, ...
    ] = ()  # Debian's packages to install in addition
    imports_without_gpu: bool | None = None  # None: nobody tried
    says: Prose = ""  # one sentence for who asks for it
    status: Evidence
    source: Prose
    checked: date
    field_status: Mapping[Word, Evidence] = field(
        default_factory=dict
    )  # where a field is known less well than the rest


def covers(row: Companion, version: Version) -> bool:
    """Whether a release is in the range of a row; pre-releases of `first` are not."""
    if row.first is None or row.last is None:
        return False
    return row.first <= version <= row.last
