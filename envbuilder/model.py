"""The nouns of the house, frozen: Request → Stack → Lock → Context → Receipt. No behaviour but small derived facts.

They are parsed once, at the edge (`catalog`, `lock`, `cli`), by msgspec; versions are `packaging` versions,
never strings, so that 12.10 > 12.8.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from hashlib import sha256
from typing import Any

from packaging.version import Version

from envbuilder.grammar import (
    ArchiveFile,
    BuildBackend,
    CodeName,
    CommitOrNone,
    Day,
    DebianPackage,
    Digest,
    GpuArch,
    ImageReference,
    IndexName,
    JsonObject,
    Numbers,
    NumbersOrNone,
    PackageSpec,
    PageUrlOrNone,
    Platform,
    Project,
    Prose,
    Requirement,
    Sha256,
    Size,
    SourceOrigin,
    SubfolderOrNone,
    SystemName,
    Variable,
    VariableValue,
    WheelFile,
    Word,
)

PYPI = "pypi"
"""The index that is asked unless another is named."""

SCHEMA = 1
"""Version of every JSON document this tool writes."""

OMIT_IF_DEFAULT: Mapping[str, bool] = {"omit_if_default": True}
"""Fields added after schema 1: omitted when default, so existing locks stay byte-identical."""

ANY = "any"
"""What an option takes for "I do not mind", against a default in `envbuilder.toml`."""

_LONGEST_LABEL = 48  # characters: a tag has 128 at most
REPOSITORY = "envbuilder"  # of the images that have no tag of their own
BASE_AUTO = "auto"
BASE_BOOTSTRAP = "bootstrap"
CUSTOM_OS = "custom"
"""What the system of a custom base is called if nothing tells it."""


class BaseSource(StrEnum):
    """Where a base image comes from."""

    REGISTRY = "registry"  # an image that a registry or the engine's own store has
    BOOTSTRAP = "bootstrap"  # made here from the distribution's packages


class PythonSource(StrEnum):
    """Where an image has its Python from."""

    IMAGE = "image"  # the base image has it
    SYSTEM = "system"  # the packages of the base's distribution
    MANAGED = "managed"  # a build that uv downloads


class Flavour(StrEnum):
    """What an image is for."""

    RUNTIME = "runtime"  # trains on a GPU, and on a CPU where there is none
    DEVEL = "devel"  # runtime, and nvcc with CUDA's headers
    CPU = "cpu"  # torch without CUDA


class Layer(StrEnum):
    """The wheel layers of an image, by rate of change, slowest first."""

    NVIDIA = "nvidia"
    TORCH = "torch"
    LIBRARIES = "libraries"
    STACK = "stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user requests. `None` leaves the choice to policy; versions may be prefixes (11.7 means 11.7.*)."""

    cuda: Version | None = None
    cudnn: Version | None = None
    python: Version | None = None
    torch: Version | None = None
    torchvision: Version | None = None
    transformers: Version | None = None
    gpu: str | None = None  # a GPU's name, or its compute capability as "8.6"
    driver: Version | None = None  # "535" is a branch: some driver of it
    base: str = BASE_AUTO  # "auto", "bootstrap" or an image reference
    os: str | None = None  # "debian 12" or its code name
    flavour: Flavour = Flavour.RUNTIME
    packages: tuple[str, ...] = ()  # extra PEP 508 requirements
    # Packages bound to torch, CUDA or the GPU, whose versions are chosen with the stack: PEP 508 without a marker.
    companions: tuple[str, ...] = ()
    # Of the project's own files (`--requirements`): bounds of packages that something else may need, the Pythons that
    # it runs on, and where each of `packages` is from, by its text: "requirements.txt:12".
    constraints: tuple[str, ...] = ()
    requires_python: str = ""
    bounds: tuple[str, ...] = ()  # of the stack's own packages; not installed by it
    places: tuple[tuple[str, str], ...] = ()
    apt: tuple[DebianPackage, ...] = ()  # the distribution's packages
    platform: Platform = "linux/amd64"
    as_of: date | None = (
        None  # resolve everything as the package index stood at the end of this day, in UTC
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The image a Dockerfile starts from."""

    reference: ImageReference
    source: BaseSource
    os: SystemName  # "debian 11"
    release: CodeName  # the distribution's code name, what mmdebstrap takes: "bullseye"
    glibc: Version
    end_of_life: date | None = None
    system_packages: tuple[
        DebianPackage, ...
    ] = ()  # what its Python needs from the distribution; () where Python is built in
    python_source: PythonSource = field(
        default=PythonSource.IMAGE, metadata=OMIT_IF_DEFAULT
    )
    python_build: NumbersOrNone = field(
        default="", metadata=OMIT_IF_DEFAULT
    )  # "3.10.22": the full version of a managed Python

    @property
    def own(self) -> bool:
        """An image that the user named, not one that policy knows."""
        return not self.release


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something a stack can or cannot do; acceptance expects exactly this."""

    name: Word  # "torch.compile"
    available: bool
    reason: Prose = ""  # why not
    source: Prose = ""

    @property
    def text(self) -> str:
        """`works`, or why not."""
        return "works" if self.available else f"not available: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackCompanion:
    """A package bound to torch, CUDA or the GPU that was requested, and what is installed for it."""

    request: PackageSpec  # "vllm", "flash-attn>=2.8": as requested
    requirement: Requirement  # "vllm==0.33.0": among the stack's extras
    needs: tuple[Requirement, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # what it needs in addition, among the extras too
    needs_apt: tuple[DebianPackage, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # the same of the distribution's packages, among the stack's

    @property
    def label(self) -> str:
        """`vllm0.33.0` in the name of a stack; without a version where the index decides it."""
        name, exact, version = self.requirement.partition("==")
        name = re.split(r"[^A-Za-z0-9._-]", name)[0]
        if not exact:
            return name
        gap = "-" if name[-1].isdigit() else ""
        number = re.sub(r"[^A-Za-z0-9.]", "", version)
        return f"{name}{gap}{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDay:
    """A package that is resolved as of another day than the others of its stack."""

    name: Project
    as_of: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Every version of one environment, and why. Complete, or it does not exist."""

    python: Version  # X.Y
    torch: Version
    torchvision: Version
    torchaudio: Version | None
    cuda: (
        Version | None
    )  # of the CUDA runtime that torch is built against: 11.7.99; None: torch without CUDA
    cudnn: Version | None
    nccl: Version | None  # None: linked into torch, or in `unknown`
    triton: Version | None
    index: IndexName  # name of the wheel index, not its address
    arch_list: tuple[GpuArch, ...]  # ("sm_37", …): the GPU binaries in the wheel
    # "450.80.02", as NVIDIA writes it: the oldest NVIDIA driver that runs it, by minor-version compatibility
    driver_floor: NumbersOrNone
    base: Base
    as_of: (
        date  # packages are resolved as the index stood at the end of this day, in UTC
    )
    platform: Platform
    requirements: tuple[
        Requirement, ...
    ]  # what uv resolves, PEP 508: torch family pinned, the rest bounded
    extras: tuple[
        PackageSpec, ...
    ] = ()  # the user's own packages, resolved together with them
    constraints: tuple[Requirement, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # bounds of packages that something else may need, from the project's own files
    moving: tuple[
        Project, ...
    ] = ()  # packages that people change most; they get the topmost layer
    excluded: tuple[
        Project, ...
    ] = ()  # declared by a wheel, not needed at run time, left out
    features: tuple[Feature, ...] = ()
    notes: tuple[Prose, ...] = ()
    evidence: Word = "verified"  # weakest status of the facts it rests on
    flavour: Flavour = field(default=Flavour.RUNTIME, metadata=OMIT_IF_DEFAULT)
    unknown: tuple[Word, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # versions that no source gives: "nccl"
    gpu_features: tuple[Feature, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # what the requested GPU can do, whatever the versions; () where none is requested
    # The public address of `index`, not a mirror of somebody's; "" for PyPI, and where the catalog has none.
    index_url: PageUrlOrNone = field(default="", metadata=OMIT_IF_DEFAULT)
    apt: tuple[DebianPackage, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # the distribution's packages that the user wants, sorted
    # Of flavour devel, where no wheel brings nvcc: an image that has it, and a g++ that this nvcc takes.
    toolkit: ImageReference | None = field(default=None, metadata=OMIT_IF_DEFAULT)
    host_compiler: DebianPackage | None = field(default=None, metadata=OMIT_IF_DEFAULT)
    companions: tuple[StackCompanion, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # by name
    package_days: tuple[PackageDay, ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # packages of the time of an older transformers, where `as_of` is later

    @property
    def own_extras(self) -> tuple[str, ...]:
        """The user's packages other than companions and what these need."""
        of_companions: set[str] = set()
        for companion in self.companions:
            of_companions.update((companion.requirement, *companion.needs))
        return tuple(line for line in self.extras if line not in of_companions)

    @property
    def own_apt(self) -> tuple[str, ...]:
        """The distribution's packages that are not there for a companion."""
        of_companions: set[str] = set()
        for companion in self.companions:
            of_companions.update(companion.needs_apt)
        return tuple(name for name in self.apt if name not in of_companions)

    @property
    def companion_requests(self) -> tuple[str, ...]:
        """The companions as they were requested."""
        return tuple(companion.request for companion in self.companions)

    @property
    def features_on_gpu(self) -> tuple[Feature, ...]:
        """The features of the versions and of the requested GPU: one of both is available if both allow it."""
        features = {}
        for feature in self.features:
            features[feature.name] = feature
        for feature in self.gpu_features:
            of_versions = features.get(feature.name)
            if of_versions and not of_versions.available:
                continue
            features[feature.name] = feature
        return tuple(features.values())

    @property
    def nccl_text(self) -> str:
        """Its version, or why there is none."""
        return (
            "not known" if "nccl" in self.unknown else str(self.nccl or "inside torch")
        )

    @property
    def cuda_line(self) -> str:
        """`11.7`, as people and `torch.version.cuda` write it; "" without CUDA."""
        return f"{self.cuda.major}.{self.cuda.minor}" if self.cuda else ""

    @property
    def torch_text(self) -> str:
        """`torch 2.0.1 for CUDA 11.7`."""
        return (
            f"torch {self.torch} for CUDA {self.cuda_line}"
            if self.cuda
            else f"torch {self.torch} without CUDA"
        )

    @property
    def cuda_tag(self) -> str:
        """`cu117` or `cpu`, as PyTorch's wheels write it."""
        return f"cu{self.cuda.major}{self.cuda.minor}" if self.cuda else "cpu"

    @property
    def name(self) -> str:
        """Name of preset, context folder and image tag: `cu117-torch2.0.1-py3.9-debian11`, on arm64 with `-arm64`."""
        return self.name_on(self.base_name)

    @property
    def base_name(self) -> str:
        """The part of `name` that depends on the base image: `py3.9-debian11`; a custom one is marked."""
        system = self.base.os.replace(" ", "")
        if self.base.own and system != CUSTOM_OS:
            system += f"-{CUSTOM_OS}"
        return f"py{self.python}-{system}"

    def name_on(self, base_name: str) -> str:
        """`name` with another base: that of the same torch for the same CUDA on it."""
        devel = "-devel" if self.flavour is Flavour.DEVEL else ""
        machine = (
            ""
            if self.platform == Request().platform
            else f"-{self.platform.split('/')[1]}"
        )
        companions = self._companions_label
        return (
            f"{self.cuda_tag}-torch{self.torch}-{base_name}{devel}{machine}{companions}"
        )

    @property
    def _companions_label(self) -> str:
        """`-vllm0.33.0`: another set of companions is another image; of many, their number and a hash."""
        labels = [companion.label for companion in self.companions]
        text = "".join(f"-{label}" for label in labels)
        if len(text) <= _LONGEST_LABEL:
            return text
        digest = sha256(" ".join(labels).encode()).hexdigest()
        return f"-with{len(labels)}-{digest[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One locked file. No URL: it holds for any index or mirror."""

    name: Project  # normalised (PEP 503)
    version: Version
    file: WheelFile
    size: Size  # bytes; 0: not known, for PyTorch's index gives no sizes
    sha256: Sha256
    layer: Layer
    # The index that it was locked from: the torch family's may be the stack's own, everything else is PyPI's.
    index: IndexName = field(default=PYPI, metadata=OMIT_IF_DEFAULT)


def total_size(sizes: Iterable[int]) -> int:
    """The sum of sizes of which 0 means "not known"; then the sum is not known either, which is 0."""
    known = list(sizes)
    return sum(known) if all(known) else 0


class SourceKind(StrEnum):
    """Where a package comes from that is not a wheel of an index."""

    SDIST = "sdist"  # a source package of the index
    GIT = "git"  # one commit of a repository
    LOCAL = "local"  # a folder, or a file, of this machine
    URL = "url"  # a file at an address


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTool:
    """A package that a build needs, pinned."""

    name: Project
    version: Version
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A package whose wheel is not on an index; its row among the wheels has the same name.

    The archive is in the build context, the wheel is built from it while the image is built, and must come out as it
    was locked. A wheel at an address is only downloaded.
    """

    name: Project
    version: Version
    kind: SourceKind
    origin: SourceOrigin  # repository, path (relative to the project), address, or file name on the index
    archive: ArchiveFile  # in images/<stack>/sources/
    sha256: Sha256  # of the archive
    commit: CommitOrNone = ""
    subdirectory: SubfolderOrNone = ""
    backend: BuildBackend = ""  # "": nothing is built, the archive is the wheel
    backend_path: tuple[SubfolderOrNone, ...] = ()
    tools: tuple[BuildTool, ...] = ()
    environment: tuple[tuple[Variable, VariableValue], ...] = field(
        default=(), metadata=OMIT_IF_DEFAULT
    )  # variables that its build needs, next to those of every build
    # Compiled with torch and nvcc while the image is built: its wheel is not among those of the lock, nobody knows it.
    compiled: bool = field(default=False, metadata=OMIT_IF_DEFAULT)

    @property
    def is_built(self) -> bool:
        """Whether the wheel is built from the archive."""
        return bool(self.backend)

    @property
    def in_context(self) -> bool:
        """Whether the archive is in the build context: all are, but the wheels at an address."""
        return self.is_built or self.kind is not SourceKind.URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """What compiles the packages that a lock has as sources alone; torch and CUDA are those of its own layers."""

    capabilities: tuple[Numbers, ...]  # of the GPUs: "9.0"
    tools: tuple[BuildTool, ...]  # nvcc among them, where wheels bring it
    toolkit: ImageReference | None = None  # an image with nvcc in /usr/local/cuda
    host_compiler: DebianPackage | None = None  # a g++ that this nvcc takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A stack with every wheel pinned. `as_of`, base digest and catalog date make it repeatable."""

    schema: int
    catalog: Day  # date of the facts
    stack: Stack
    base_digest: (
        Digest | None
    )  # sha256:… of the base image; None while it has not been seen
    wheels: tuple[Wheel, ...]
    sources: tuple[Source, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)
    toolchain: Toolchain | None = field(default=None, metadata=OMIT_IF_DEFAULT)

    @property
    def compiled(self) -> tuple[Source, ...]:
        """The sources whose wheels are compiled while the image is built."""
        return tuple(source for source in self.sources if source.compiled)

    @property
    def download_size(self) -> int:
        """Bytes of all wheels; 0 if the size of one is not known."""
        return total_size([wheel.size for wheel in self.wheels])


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A build context: relative path → text. Files in `executable` get the run bit; `archives` are not text."""

    files: Mapping[str, str]
    executable: frozenset[str] = frozenset()
    archives: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All paths."""
        return [*self.files, *self.archives]

    def content(self, name: str) -> bytes:
        """The bytes of a file."""
        if name in self.archives:
            return self.archives[name]
        return self.files[name].encode()


class Verdict(StrEnum):
    """What a receipt says of an image."""

    PASSED = "passed"  # every check has evidence, and it speaks for the image
    FAILED = "failed"  # a check has evidence against it
    INCOMPLETE = (
        "incomplete"  # neither: a check could not be carried out, or never answered
    )


class Status(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"  # it could not be carried out: no evidence
    NOT_RUN = "not_run"  # there is nothing to check here, as no GPU; `value` may hold what was observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of an image: its number, its bound, and on failure what is wrong and what to do."""

    id: str
    title: str
    status: Status
    value: Any = None
    bound: Any = None
    detail: str = ""
    remedy: str = ""
    unit: str = ""  # of value and bound: "B", "s"
    seconds: float = 0.0
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The evidence that one image trains: image id × suite × host → every check."""

    schema: int
    image: str  # image id, sha256:…
    suite: JsonObject  # {"version", "hash"}
    host: JsonObject
    verdict: Verdict
    checks: tuple[Check, ...]
    facts: JsonObject = field(default_factory=dict)  # everything observed inside
    training: JsonObject = field(default_factory=dict)
    # Absent from receipts of suites before version 4.
    lm: JsonObject = field(default_factory=dict, metadata=OMIT_IF_DEFAULT)
    stack: str = ""  # name of the stack, "" for an image that is not ours
    reference: str = ""  # what the image was called by
    started: str = ""  # ISO 8601, UTC
    seconds: float = 0.0
