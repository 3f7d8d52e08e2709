"""The rows of the catalog, frozen: what a `Catalog` holds. A fact carries its status, its source and the day somebody
looked (`checked`, the file's date unless the row has its own); policy carries people's choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from packaging.version import Version

from envbuilder.grammar import (
    CodeName,
    Count,
    Days,
    DebianPackage,
    GpuArch,
    GpuName,
    ImageReference,
    ImageTemplate,
    IndexName,
    Numbers,
    NumbersOrNone,
    PageUrlOrNone,
    Platform,
    Project,
    Prose,
    Requirement,
    Specifier,
    SystemName,
    Variable,
    VariableValue,
    Word,
)


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
    index: IndexName  # that carries the wheels: "pypi", or one of PyTorch's own: "pytorch-cu118"
    cuda: Version  # of the runtime: 11.7.99; X.Y where no source gives the rest
    cudnn: Version
    nccl: Version | None  # None: linked into torch, or in `unknown`
    triton: Version | None
    torchvision: Version
    torchaudio: Version | None
    pythons: tuple[Version, ...]  # X.Y with a wheel for linux/amd64
    platforms: tuple[Platform, ...]
    arch_list: tuple[GpuArch, ...]
    glibc: Version  # oldest one whose symbols suffice; the wheel's tag may promise more
    numpy2: bool
    compile: bool
    compile_until: Version | None  # torch.compile raises on this Python and later
    driver_floor: Numbers
    status: Evidence
    source: Prose
    compile_source: Prose
    numpy2_source: Prose
    checked: date
    # The torch family, not `Family` of GPUs: the name is that of the key in torch.json.
    family: Mapping[Platform, tuple[Version, ...]] = field(default_factory=dict)
    """Platform → Pythons with a wheel of torch, torchvision and torchaudio alike; `pythons` has torch's own."""
    arch_list_arm64: tuple[
        GpuArch, ...
    ] = ()  # of the CUDA wheel for linux/arm64; () where `platforms` has none
    ptx: tuple[
        GpuArch, ...
    ] = ()  # ("compute_120",): a newer GPU can compile these at load
    requires_python: Specifier = (
        ""  # as the wheel declares it, which is not which wheels there are
    )
    glibc_tag: Version | None = None  # what the wheel's tag promises
    setuptools: Specifier = (
        ""  # the bound under which torch.compile and extensions work, PEP 440
    )
    setuptools_source: Prose = ""
    unknown: tuple[
        Word, ...
    ] = ()  # fields that no source gives: None or () there is no statement
    field_status: Mapping[Word, Evidence] = field(
        default_factory=dict
    )  # where a field is known less well than the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRuntime:
    """A release of the CUDA toolkit, and the number of its runtime, which is what torch's wheels are pinned to."""

    release: Version  # X.Y.Z
    runtime: Version | None  # 11.7.99 is the runtime of 11.7.1; None: not known
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersCompat:
    """The newest transformers that was run on a torch line and worked."""

    torch: Version
    python: Version
    newest: Version
    released: date
    next_released: date | None  # the release after it, the first that may not work
    status: Evidence
    source: Prose
    checked: date
    broken: tuple[Version, ...] = ()  # older ones that were run and failed


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersRelease:
    """A minor release of transformers, and where its newest patch can be installed from wheels alone."""

    transformers: Version
    released: date
    tokenizers: Specifier  # what it asks for: tokenizers is compiled, and so decides on the Pythons
    pythons: Mapping[Platform, tuple[Version, ...]]  # by platform
    status: Evidence
    source: Prose
    checked: date
    began: date | None = None  # the release of its first patch; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A release of an operating system, whether or not bases are made of it; None is not known."""

    os: SystemName  # "ubuntu 24.04"
    release: CodeName  # code name, "" if it has none
    glibc: Version | None
    python: Version
    released: date | None
    end_of_life: date | None  # of the free updates that everybody gets
    long_term: (
        date | None
    )  # of those that somebody gives longer: Debian's LTS, Ubuntu's ESM
    status: Evidence
    source: Prose
    checked: date
    more_pythons: Prose = ""

    @property
    def last_day(self) -> date | None:
        """The last day of free security updates, long-term support included."""
        return self.long_term or self.end_of_life


class Family(StrEnum):
    """Who a GPU is sold to, which decides what its driver allows."""

    DATA_CENTRE = "data centre"
    WORKSTATION = "workstation"
    GEFORCE = "geforce"
    JETSON = "jetson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A compute capability and the GPUs that have it."""

    capability: Version
    architecture: Prose
    names: tuple[GpuName, ...]
    status: Evidence
    source: Prose
    checked: date
    families: Mapping[Family, tuple[GpuName, ...]] = field(
        default_factory=dict
    )  # the same names by family
    first_cuda: Version | None = None  # the oldest toolkit that compiles for it
    last_cuda: Version | None = None  # the newest one, None if all do


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNames:
    """Names of GPUs of one compute capability that NVIDIA's page does not list."""

    capability: Version
    about: Word  # where the names come from, and so who uses them: "driver", "people"
    names: tuple[GpuName, ...]
    status: Evidence
    source: Prose
    checked: date
    arm64: bool = False  # they come with an arm64 processor, which decides the platform


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFeature:
    """Something that only GPUs from some compute capability on can do."""

    feature: (
        Word  # "bf16"; where a stack has a feature of this name, both have to allow it
    )
    capability: Version  # the first that can
    says: Prose  # why older ones cannot
    status: Evidence
    source: Prose
    checked: date
    torch: Version | None = None  # the first that has it; None: all do
    torch_for: Mapping[Numbers, Version] = field(
        default_factory=dict
    )  # by compute capability, where it is a later one


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    """A release of the CUDA toolkit and the drivers that run it."""

    cuda: Version  # 13.2.2
    name: Prose  # "13.2 Update 2"
    driver: Numbers | None  # the Linux driver it came with
    driver_windows: Numbers | None
    driver_floor: Numbers  # the oldest Linux driver by minor-version compatibility
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """What NVIDIA promises between a driver and a CUDA that is newer than it."""

    kind: Prose  # "minor-version", "forward", "driver branch", "last driver branch", "server wheels"
    subject: Prose  # what it is about: a CUDA, a driver branch
    says: Prose
    status: Evidence
    source: Prose
    checked: date
    driver_floor: Numbers | None = None
    families: tuple[Family, ...] = ()  # the GPUs it holds for; () is all
    architectures: tuple[Prose, ...] = ()  # of the GPUs whose last branch this is
    end_of_life: date | None = (
        None  # of a driver branch; the last day of the month that is documented
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A known vulnerability that changes what one should do."""

    id: Word
    package: Word  # as its ecosystem calls it: "torch", "nvidia-container-toolkit"
    fixed: Version
    says: Prose
    advice: Prose
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastVersion:
    """The oldest version of a program with which images can be built and run."""

    program: Word  # "docker", "buildx", "compose"
    version: Version
    says: Prose  # what an older one does
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """What every stack holds in addition to the torch family."""

    requirements: tuple[Requirement, ...]
    moving: tuple[Project, ...]
    excluded: tuple[Project, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBases:
    """Official images with Python built in."""

    reference: ImageTemplate
    release: CodeName
    pythons: tuple[Version, ...]
    source: Prose
    system_packages: tuple[DebianPackage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapBases:
    """Images made here from a distribution's packages."""

    reference: ImageTemplate
    systems: tuple[SystemName, ...]
    system_packages: tuple[DebianPackage, ...]
    more_packages: Mapping[SystemName, tuple[DebianPackage, ...]] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPythons:
    """Pythons that uv installs where neither the base nor its distribution has them."""

    builds: Mapping[Numbers, Numbers]  # "3.10" → "3.10.22"
    source: Prose


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A row of rulings.toml. Sources contradict each other: what the catalog holds, and why."""

    about: Prose
    sources: tuple[Prose, ...]
    held: Prose
    why: Prose
    row: Prose = ""  # "torch.json 2.14.1 pypi": the row that shows it, by its key
    field: Prose = ""
    value: Any = None  # what stands there, as in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWheels:
    """Where torch without CUDA comes from."""

    index: IndexName
    status: Evidence
    source: Prose


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndex:
    """An index of wheels: what people call it, and its address."""

    title: Prose
    url: PageUrlOrNone = ""  # "": PyPI, which uv knows; of others, the user has to say


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """The wheels that bring nvcc for one line of CUDA, its headers and its libraries."""

    requirements: tuple[Requirement, ...]  # PEP 508
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCompiler:
    """Why no package brings nvcc for a major of CUDA."""

    says: Prose
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolkitImage:
    """The image that brings nvcc for one line of CUDA, where no wheel does."""

    reference: ImageReference
    newest_gxx: Count  # the newest major of g++ that this nvcc takes
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Devel:
    """What flavour devel adds to a runtime stack."""

    packages: tuple[Requirement, ...]
    compilers: Mapping[Numbers, Compiler]  # by line, "13.2"
    without: Mapping[Numbers, NoCompiler] = field(
        default_factory=dict
    )  # by major, "12"
    images: Mapping[Numbers, ToolkitImage] = field(default_factory=dict)  # by line
    host_compilers: Mapping[SystemName, tuple[Count, ...]] = field(default_factory=dict)
    """The majors of g++ that a system has, the one that is called `g++` last."""


class RecipeKind(StrEnum):
    """What the build of a source package does."""

    PURE = "pure"  # Python alone, whatever else its archive contains
    CUDA = "cuda"  # it compiles with nvcc


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecipe:
    """What has to be known of a source package to build it, and its archive does not tell."""

    kind: RecipeKind
    environment: Mapping[Variable, VariableValue] = field(default_factory=dict)
    says: Prose = ""  # what the user should know of a package that is built so
    cost: Prose = (
        ""  # what compiling takes: more than a build of an image can be expected to
    )
    torch: Specifier = ""  # that it compiles against
    capability: NumbersOrNone = ""  # the oldest that it has kernels for
    instead: Prose = ""
    status: Evidence
    source: Prose
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """How old a day has to be before the index of that day is taken to stay as it is."""

    settle_days: Days


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """policy.toml."""

    preference: tuple[Word, ...]
    as_of: AsOf
    cpu: CpuWheels | None = None
    devel: Devel | None = None
    packages: Packages
    registry: RegistryBases
    bootstrap: BootstrapBases
    managed: ManagedPythons | None = None
    sources: Mapping[Project, SourceRecipe] = field(default_factory=dict)
    indexes: Mapping[IndexName, PackageIndex] = field(default_factory=dict)


@dataclass(
    frozen=True, slots=True, kw_only=True, eq=False
)  # hashed by identity: candidates are kept per catalog
class Catalog:
    """Everything that is known and chosen, as of `date`."""

    date: date
    torch: tuple[TorchBuild, ...]
    transformers: tuple[TransformersCompat, ...]
    transformers_releases: tuple[TransformersRelease, ...]
    systems: tuple[System, ...]
    gpus: tuple[Gpu, ...]
    policy: Policy
    toolkits: tuple[Toolkit, ...] = ()
    compatibility: tuple[Compatibility, ...] = ()
    advisories: tuple[Advisory, ...] = ()
    runtimes: tuple[CudaRuntime, ...] = ()
    gpu_names: tuple[GpuNames, ...] = ()
    gpu_features: tuple[GpuFeature, ...] = ()
    least_versions: tuple[LeastVersion, ...] = ()
    own: str = ""  # the `--catalog DIR` merged into this catalog, as typed
