"""The rows of the catalog that a request means, looked up once: everything after this compares rows, not texts."""

from dataclasses import dataclass, replace

from packaging.version import Version

from envbuilder.catalog.gpu_names import find_gpu, is_capability, needs_arm64
from envbuilder.catalog.gpus import (
    DriverBranches,
    driver_branches,
    runs_server_wheels,
)
from envbuilder.catalog.lookup import (
    find_system,
    matching_cuda_versions,
    matching_releases,
)
from envbuilder.catalog.rows import Catalog, Gpu, System, TransformersRelease
from envbuilder.grammar import ARM64
from envbuilder.model import Request
from envbuilder.resolve.base_check import base_name_of
from envbuilder.resolve.base_name import BaseName


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRows:
    """A request, and the rows of the catalog that its values mean."""

    request: Request
    catalog: Catalog
    gpu: Gpu | None  # None: none is requested, or its name is unknown or ambiguous
    driver_branches: (
        DriverBranches | None
    )  # those that support the GPU; None: there is no `gpu`
    base: BaseName | None  # None: envbuilder chooses the base
    system: (
        System | None
    )  # None: none is requested, or the catalog has none of this name
    arm64: bool  # the GPU comes with an arm64 processor, as a Jetson or a GH200 does
    # Empty: none is requested, or nothing in the catalog answers it. `request` tells the two apart.
    cuda: frozenset[Version]  # of torch builds: those that answer `request.cuda`
    transformers: tuple[
        TransformersRelease, ...
    ]  # those that `request.transformers` can mean

    @property
    def gpu_name(self) -> str:
        """The GPU as a message names it."""
        name = self.request.gpu or ""
        return f"compute capability {name}" if is_capability(name) else name

    @property
    def has_custom_base(self) -> bool:
        """Whether the request names an image to build on."""
        return self.base is not None

    @property
    def system_of_base(self) -> System | None:
        """The system of a custom base: the requested one, or else what the name of the image says."""
        if self.base is None or self.system is not None:
            return self.system
        return find_system(self.base.system, self.catalog)


def follow_gpu(request: Request, catalog: Catalog) -> Request:
    """The request for the platform of the processor that its GPU comes with; for one that leaves the platform open."""
    rows = look_up(request, catalog)
    gpu = rows.gpu
    if gpu is None:
        return request
    if not rows.arm64:
        return request
    if not runs_server_wheels(gpu, catalog):
        return request  # it runs nothing on any platform
    return replace(request, platform=ARM64)


def look_up(request: Request, catalog: Catalog) -> RequestRows:
    """The rows that a request's names and versions mean."""
    gpu = None
    branches = None
    arm64 = False
    if request.gpu is not None:
        gpu = find_gpu(request.gpu, catalog)
    if gpu is not None:
        branches = driver_branches(catalog)[gpu.capability]
        arm64 = needs_arm64(request.gpu or "", gpu, catalog)
    cuda: frozenset[Version] = frozenset()
    if request.cuda is not None:
        cuda = matching_cuda_versions(request.cuda, catalog)
    transformers: list[TransformersRelease] = []
    if request.transformers is not None:
        transformers = matching_releases(request.transformers, catalog)
    return RequestRows(
        request=request,
        catalog=catalog,
        gpu=gpu,
        driver_branches=branches,
        base=base_name_of(request),
        system=find_system(request.os, catalog),
        arm64=arm64,
        cuda=cuda,
        transformers=tuple(transformers),
    )
