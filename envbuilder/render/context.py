"""Lock → Context: every file of a build context as text, the same bytes for the same lock. Nothing is written here.

A context has one layout, wherever it is: `images/<stack>/` for the files of one stack, `install/` and `payload/` for
the files that all stacks share. So several stacks fit side by side in one folder, and one Dockerfile fits everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

from packaging.requirements import Requirement

from envbuilder import resources, serialize
from envbuilder.errors import UsageError
from envbuilder.files import is_executable, read_text
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.sources.source_build import (
    PLAN,
    PROGRAM,
    plan_of,
    plan_text,
    tools_text,
)
from envbuilder.lock.target_platform import machine_of
from envbuilder.model import (
    PYPI,
    BaseSource,
    Context,
    Flavour,
    Layer,
    Lock,
    PythonSource,
    Source,
    Stack,
    Wheel,
    total_size,
)
from envbuilder.render import compiled_files, editor_metadata
from envbuilder.templates import fill

LABEL_PREFIX = "dev.envbuilder."
CUDA_LABEL = f"{LABEL_PREFIX}cuda"
COMPILED_LABEL = f"{LABEL_PREFIX}compiled"
"""The packages that were compiled in an image, each with its wheel's sha256."""
NO_CUDA = "none"
TRIM = "trim.txt"
SYSTEM = "system"
"""The folder of a stack's context with the programs that prepare its system."""
_BASE_PROGRAM = "base.sh"
_PACKAGES_PROGRAM = "packages.sh"
_MIRROR_PROGRAM = "mirror.sh"
_KEEP = "keep.txt"
_COMPILER = "nvidia-cuda-nvcc"
_TARGETS = {"linux/amd64": "x86_64", "linux/arm64": "sbsa"}
"""What NVIDIA calls a platform in the folders of a toolkit."""
_TITLES = {
    Layer.NVIDIA: "NVIDIA libraries",
    Layer.TORCH: "PyTorch",
    Layer.LIBRARIES: "the libraries beneath",
    Layer.STACK: "Hugging Face stack and your own packages",
}
# Without byte-code every start compiles for six seconds; byte-code for every module would take 300 MB. So the build
# compiles what a training imports, by importing it.
_WARM = {
    Layer.LIBRARIES: ("torch", "torchvision", "numpy", "pandas", "pyarrow"),
    Layer.STACK: (
        *("transformers.models.bert.modeling_bert", "datasets", "accelerate"),
        *("torchmetrics", "torch.utils.tensorboard", "matplotlib.pyplot"),
    ),
}
IMAGES = "images"
NO_ARCHIVES: Mapping[str, bytes] = MappingProxyType({})
_SHARED = ("install", "payload")
# Next to the Dockerfile, not at the top of the context: docker/ of a repository may have its own .dockerignore.
_DOCKERIGNORE = """# Send only what the Dockerfile copies, without Python's caches.
*
!{place}
!install
!payload
**/__pycache__
"""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_INERT = re.compile(r"[^\x00-\x1f\"$\\\x7f]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """What the Dockerfile template shows of one wheel layer."""

    title: str
    file: str
    has_sources: bool  # some of its wheels were built from sources
    imports: str  # modules whose byte-code the layer brings
    count: int
    download: str
    own_index: bool  # of the torch family: its address can be a secret


def render_context(lock: Lock, archives: Mapping[str, bytes] = NO_ARCHIVES) -> Context:
    """The build context of a lock: Dockerfile, lock and requirements of the stack; installer and payload.

    `archives`: those of the lock's sources, by file name.
    """
    files = _stack_files(lock)
    executable = set()
    for folder in _SHARED:
        for name, path in resources.files(folder).items():
            files[f"{folder}/{name}"] = read_text(path)
            if is_executable(path):
                executable.add(f"{folder}/{name}")
    return Context(
        files=dict(sorted(files.items())),
        executable=frozenset(executable),
        archives=_packed_sources(lock, archives),
    )


def _packed_sources(lock: Lock, archives: Mapping[str, bytes]) -> dict[str, bytes]:
    """The archives of the lock's sources, in their place."""
    packed = {}
    for source in lock.sources:
        if not source.in_context:
            continue
        place = sources_place(lock.stack)
        if source.compiled:
            place = compiled_files.place_of_source(place_of(lock.stack), source)
        if source.archive not in archives:
            raise UsageError(
                f"the archive {source.archive} of {source.name} is missing: it has to be in the build context"
            )
        packed[f"{place}/{source.archive}"] = archives[source.archive]
    return packed


def _stack_files(lock: Lock) -> dict[str, str]:
    """The files of images/<stack>/."""
    place = place_of(lock.stack)
    lock_text = serialize.dumps(lock)
    files = {
        f"{place}/Dockerfile": _dockerfile(lock, lock_text),
        f"{place}/Dockerfile.dockerignore": _DOCKERIGNORE.format(place=place),
        f"{place}/{LOCK_FILE}": lock_text,
        f"{place}/requirements.txt": requirements_text(lock),
    }
    files |= _source_files(lock)
    files |= compiled_files.files_of(lock, place)
    if _compile_packages(lock):
        files[f"{place}/{SYSTEM}/{_MIRROR_PROGRAM}"] = resources.text(
            SYSTEM, _MIRROR_PROGRAM
        )
    for layer in layers_of(lock):
        files[_layer_file(place, layer)] = requirements_text(lock, layer)
    if lock.stack.flavour is Flavour.DEVEL:
        files[f"{place}/{TRIM}"] = resources.text("devel", _KEEP) + resources.text(
            "install", TRIM
        )
    return files | _system_programs(lock.stack, place)


def _system_programs(stack: Stack, place: str) -> dict[str, str]:
    """The programs that prepare the system; not in a folder that stacks share, which would change their caches."""
    programs = []
    if stack.base.own:
        programs.append(_BASE_PROGRAM)
    if apt_of(stack):
        programs.append(_PACKAGES_PROGRAM)
    if apt_of(stack) or stack.base.source is BaseSource.REGISTRY:
        programs.append(_MIRROR_PROGRAM)
    files = {}
    for name in programs:
        files[f"{place}/{SYSTEM}/{name}"] = resources.text(SYSTEM, name)
    return files


def _source_files(lock: Lock) -> dict[str, str]:
    """What builds the lock's sources: a program, its plan, and the tools of each build; nothing without sources."""
    sources = [source for source in lock.sources if _is_rebuilt(source)]
    if not sources:
        return {}
    place = sources_place(lock.stack)
    wheels = {wheel.name: wheel for wheel in lock.wheels}
    plans = [plan_of(source, wheels[source.name]) for source in sources]
    files = {
        f"{place}/{PROGRAM}": resources.text("sources", PROGRAM),
        f"{place}/{PLAN}": plan_text(plans),
    }
    for source in sources:
        if source.is_built:
            files[f"{place}/{source.name}.txt"] = tools_text(source.tools)
    return files


def names_of_lock(lock: Lock) -> set[str]:
    """The files that a lock has, and that one of the same stack's name may do without: of sources, of the system."""
    names = set(_system_programs(lock.stack, place_of(lock.stack)))
    if _compile_packages(lock):
        names.add(f"{place_of(lock.stack)}/{SYSTEM}/{_MIRROR_PROGRAM}")
    place = sources_place(lock.stack)
    if lock.sources:
        names |= {f"{place}/{PROGRAM}", f"{place}/{PLAN}"}
    for source in lock.sources:
        names |= {f"{place}/{source.archive}", f"{place}/{source.name}.txt"}
    return names | compiled_files.names_of(lock, place_of(lock.stack))


def has_sources(lock: Lock) -> bool:
    """Whether wheels are built, or copied, from archives in the context; not compiled."""
    return any(_is_rebuilt(source) for source in lock.sources)


def _is_rebuilt(source: Source) -> bool:
    return source.in_context and not source.compiled


def sources_place(stack: Stack) -> str:
    """The folder in a context that has the archives of a stack's sources."""
    return f"{place_of(stack)}/sources"


def dockerfile(lock: Lock) -> str:
    """The Dockerfile alone, without the files that every context has."""
    return _dockerfile(lock, serialize.dumps(lock))


def layers_of(lock: Lock) -> tuple[Layer, ...]:
    """All layers; NVIDIA's only if there are wheels for it.

    Torch without CUDA needs none, and some torch from PyTorch's own index contains NVIDIA's libraries. Before a stack
    is locked, nobody knows.
    """
    layers = list(Layer)
    used = {wheel.layer for wheel in lock.wheels}
    if Layer.NVIDIA in used:
        return tuple(layers)
    if used or lock.stack.cuda is None:
        layers.remove(Layer.NVIDIA)
    return tuple(layers)


def place_of(stack: Stack) -> str:
    """The folder in a context that is the stack's own: "images/cu117-…". Raises `UsageError` for an odd name."""
    if not _FOLDER.fullmatch(stack.name):
        raise UsageError(
            f"the stack's name would be {stack.name!r}: that cannot be used in a Dockerfile"
        )
    return f"{IMAGES}/{stack.name}"


def labels_of(lock: Lock, lock_text: str) -> dict[str, str]:
    """OCI annotations and `dev.envbuilder.*` labels, which acceptance compares with what is inside the image."""
    stack = lock.stack
    facts = {
        "schema": lock.schema,
        "name": stack.name,
        "python": stack.python,
        "torch": stack.torch,
        "torchvision": stack.torchvision,
        "torchaudio": stack.torchaudio or "",
        "cuda": stack.cuda or NO_CUDA,
        "cudnn": stack.cudnn or "",
        "nccl": stack.nccl or "",
        "arch-list": " ".join(stack.arch_list),
        "driver-floor": stack.driver_floor,
        "os": stack.base.os,
        "as-of": stack.as_of,
        "catalog": lock.catalog,
        "lock": "sha256:" + sha256(lock_text.encode()).hexdigest(),
    }
    cuda = f"for CUDA {stack.cuda_line}" if stack.cuda else "without CUDA"
    oci = {
        "org.opencontainers.image.title": stack.name,
        "org.opencontainers.image.description": f"PyTorch {stack.torch} {cuda}, proven to train",
        "org.opencontainers.image.base.name": stack.base.reference,
    }
    if stack.companions:
        pins = [companion.requirement for companion in stack.companions]
        facts["companions"] = " ".join(pins)
    if stack.apt:
        facts["apt"] = " ".join(stack.apt)
    if lock.base_digest:
        oci["org.opencontainers.image.base.digest"] = lock.base_digest
    for name, value in facts.items():
        oci[LABEL_PREFIX + name] = str(value)
    return oci


def apt_of(stack: Stack) -> list[str]:
    """The distribution's packages that are installed behind the large layers: the user's, and a g++ for nvcc."""
    packages = list(stack.apt)
    if stack.host_compiler and stack.host_compiler not in packages:
        packages.append(stack.host_compiler)
    return packages


def _compile_packages(lock: Lock) -> list[str]:
    """The distribution's packages that the stage which compiles needs, and its base lacks."""
    if lock.toolchain is None:
        return []
    packages = []
    base = lock.stack.base
    if base.source is BaseSource.REGISTRY and not base.own:
        packages += ["g++"]
    if lock.toolchain.host_compiler:
        packages.append(lock.toolchain.host_compiler)
    return packages


def toolkit_of(lock: Lock) -> str | None:
    """The image that nvcc is taken from; None if wheels or the base bring it, or nobody needs it."""
    if lock.toolchain and lock.toolchain.toolkit:
        return lock.toolchain.toolkit
    return lock.stack.toolkit


def _layer_file(place: str, layer: Layer) -> str:
    return f"{place}/layers/{layer}.txt"


def _dockerfile(lock: Lock, lock_text: str) -> str:
    values: dict[str, object] = {
        "stack": lock.stack,
        "place": place_of(lock.stack),
        "base_digest": lock.base_digest,
        "own_index": lock.stack.index != PYPI,
        "devel": lock.stack.flavour is Flavour.DEVEL,
        "compiler": any(
            Requirement(line).name == _COMPILER for line in lock.stack.requirements
        ),
        "bootstrapped": lock.stack.base.source is BaseSource.BOOTSTRAP,
        **_base_values(lock.stack),
        "apt": apt_of(lock.stack),
        "sources": has_sources(lock),
        "compiled": [source.name for source in lock.compiled],
        "toolchain": lock.toolchain,
        "toolkit": toolkit_of(lock),
        "toolkit_target": f"{_TARGETS[lock.stack.platform]}-linux",
        "compile_packages": _compile_packages(lock),
        "compiled_label": COMPILED_LABEL,
        "layers": [_layer_view(lock, layer) for layer in layers_of(lock)],
        "labels": _inert(labels_of(lock, lock_text)),
        "editor_label": editor_metadata.LABEL,
        "editor_metadata": editor_metadata.editor_metadata(lock.stack),
    }
    return fill(
        "debian/Dockerfile.j2", values
    )  # `_inert` refuses what could become an instruction


def _base_values(stack: Stack) -> dict[str, object]:
    """What the Dockerfile does with the base before anything is installed on it."""
    base = stack.base
    machine = machine_of(stack)
    build = f"cpython-{base.python_build}-linux-{machine}-gnu"
    return {
        "own": base.own,
        "managed": base.python_source is PythonSource.MANAGED,
        "python_request": build,
        "machine": machine,
        "apt_cache": base.release or base.os.replace(" ", "-"),
    }


def _inert(values: Mapping[str, str]) -> Mapping[str, str]:
    """Labels that cannot leave their quotes: no line break, quote, `$` or backslash."""
    for name, value in values.items():
        if _INERT.fullmatch(value):
            continue
        message = f"{name} would be {value!r}: that cannot be used in a Dockerfile"
        raise UsageError(message)
    return values


def _layer_view(lock: Lock, layer: Layer) -> LayerView:
    wheels = [wheel for wheel in lock.wheels if wheel.layer is layer]
    place = place_of(lock.stack)
    is_top = layer is Layer.STACK
    return LayerView(
        title=_TITLES[layer],
        file=_layer_file(place, layer),
        has_sources=is_top and has_sources(lock),
        imports=" ".join(_WARM.get(layer, ())),
        count=len(wheels),
        download=_download(wheels),
        own_index=layer is Layer.TORCH and lock.stack.index != PYPI,
    )


def _download(wheels: Sequence[Wheel]) -> str:
    """`619 MB to download`, or that the index does not tell."""
    size = total_size([wheel.size for wheel in wheels])
    if wheels and not size:
        return "size not known"
    return f"{round(size / 1e6)} MB to download"
