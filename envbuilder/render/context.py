"""Lock → Context: every file of a build context as text, the same bytes for the same lock; nothing is written here
but by `write`, which replaces a folder whole or leaves it alone.

A context has one layout, wherever it lies: `images/<stack>/` for what is one stack's, `install/` and `payload/` for
what all stacks share. So several stacks lie side by side in one folder, and one Dockerfile fits everywhere.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from packaging.requirements import Requirement

from envbuilder import files as disk
from envbuilder import lock as locks
from envbuilder import resources, serialize
from envbuilder.errors import UsageError
from envbuilder.model import BaseSource, Context, Flavour, Layer, Lock, Stack
from envbuilder.render import folders
from envbuilder.templates import fill

LABEL_PREFIX = "dev.envbuilder."
CUDA_LABEL = f"{LABEL_PREFIX}cuda"
NO_CUDA = "none"
TRIM = "trim.txt"
_KEEP = "keep.txt"
_COMPILER = "nvidia-cuda-nvcc"
_TITLES = {
    Layer.NVIDIA: "NVIDIA libraries",
    Layer.TORCH: "PyTorch",
    Layer.LIBRARIES: "the libraries beneath",
    Layer.STACK: "Hugging Face stack and your own packages",
}
# Without byte-code every start compiles for six seconds; for every module it would be 300 MB. So: what a training
# imports, which the build finds out by importing it.
_WARM = {
    Layer.LIBRARIES: ("torch", "torchvision", "numpy", "pandas", "pyarrow"),
    Layer.STACK: (
        *("transformers.models.bert.modeling_bert", "datasets", "accelerate"),
        *("torchmetrics", "torch.utils.tensorboard", "matplotlib.pyplot"),
    ),
}
IMAGES = "images"
_SHARED = ("install", "payload")
_KNOWN_BY = (locks.FILE, "wheels.py", "entrypoint")
"""The files by which folders that are there are known to be envbuilder's."""
# Beside the Dockerfile, not at the context's top: docker/ of a repository may have a .dockerignore of its own.
_DOCKERIGNORE = """# Only what the Dockerfile names goes to the builder, and nothing that Python left there.
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
    imports: str  # modules whose byte-code the layer brings
    count: int
    megabytes: int


def render(lock: Lock) -> Context:
    """The build context of a lock: Dockerfile, lock and requirements of the stack; installer and payload."""
    locks.refuse(lock.stack, index_url="")  # a lock is there: where its wheels are is the builder's business
    lock_text, place = serialize.dumps(lock), place_of(lock.stack)
    files = {
        f"{place}/Dockerfile": _dockerfile(lock, lock_text),
        f"{place}/Dockerfile.dockerignore": _DOCKERIGNORE.format(place=place),
        f"{place}/{locks.FILE}": lock_text,
        f"{place}/requirements.txt": locks.requirements_text(lock),
        **{_layer_file(place, layer): locks.requirements_text(lock, layer) for layer in layers_of(lock)},
    }
    if lock.stack.flavour is Flavour.DEVEL:
        files[f"{place}/{TRIM}"] = resources.text("devel", _KEEP) + resources.text("install", TRIM)
    executable = set()
    for folder in _SHARED:
        for name, path in resources.files(folder).items():
            files[f"{folder}/{name}"] = disk.read_text(path)
            if disk.is_executable(path):
                executable.add(f"{folder}/{name}")
    return Context(files=dict(sorted(files.items())), executable=frozenset(executable))


def dockerfile(lock: Lock) -> str:
    """The Dockerfile alone, without the files that every context has."""
    locks.refuse(lock.stack, index_url="")
    return _dockerfile(lock, serialize.dumps(lock))


def layers_of(lock: Lock) -> tuple[Layer, ...]:
    """All, but without CUDA none of NVIDIA's, unless packages of the user's bring one."""
    bare = lock.stack.cuda is None and not any(wheel.layer is Layer.NVIDIA for wheel in lock.wheels)
    return tuple(layer for layer in Layer if not (bare and layer is Layer.NVIDIA))


def place_of(stack: Stack) -> str:
    """The folder in a context that is the stack's own: "images/cu117-…". Raises `UsageError` for an odd name."""
    if not _FOLDER.fullmatch(stack.name):
        raise UsageError(f"the stack's name would be {stack.name!r}: that cannot stand in a Dockerfile")
    return f"{IMAGES}/{stack.name}"


def labels(lock: Lock, lock_text: str) -> dict[str, str]:
    """OCI annotations and `dev.envbuilder.*`: what acceptance compares with the inside of the image."""
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
        **({"org.opencontainers.image.base.digest": lock.base_digest} if lock.base_digest else {}),
    }
    return oci | {LABEL_PREFIX + name: str(value) for name, value in facts.items()}


def _layer_file(place: str, layer: Layer) -> str:
    return f"{place}/layers/{layer}.txt"


def _dockerfile(lock: Lock, lock_text: str) -> str:
    values: dict[str, object] = {
        "stack": lock.stack,
        "place": place_of(lock.stack),
        "base_digest": lock.base_digest,
        "devel": lock.stack.flavour is Flavour.DEVEL,
        "compiler": any(Requirement(line).name == _COMPILER for line in lock.stack.requirements),
        "bootstrapped": lock.stack.base.source is BaseSource.BOOTSTRAP,
        "layers": [_layer_view(lock, layer) for layer in layers_of(lock)],
        "labels": _inert(labels(lock, lock_text)),
    }
    return fill("debian/Dockerfile.j2", values)  # `_inert` refuses what could become an instruction


def _inert(values: Mapping[str, str]) -> Mapping[str, str]:
    """Labels that cannot leave their quotes: no line break, quote, `$` or backslash."""
    for name, value in values.items():
        if not _INERT.fullmatch(value):
            raise UsageError(f"{name} would be {value!r}: that cannot stand in a Dockerfile")
    return values


def _layer_view(lock: Lock, layer: Layer) -> LayerView:
    wheels = [wheel for wheel in lock.wheels if wheel.layer is layer]
    return LayerView(
        title=_TITLES[layer],
        file=_layer_file(place_of(lock.stack), layer),
        imports=" ".join(_WARM.get(layer, ())),
        count=len(wheels),
        megabytes=round(sum(wheel.size for wheel in wheels) / 1e6),
    )


def stale(context: Context, folder: Path) -> Iterator[str]:
    """How `folder` differs from what would be written: `missing`, `stale` and `not executable`, one line a file."""
    for name in context.files:
        path = folder / name
        content = _read(path) if disk.exists(path) else None
        if content is None:
            yield f"missing: {name}"
        elif content != _bytes(context, name):
            yield f"stale: {name}"
        elif name in context.executable and not disk.is_executable(path):
            yield f"not executable: {name}"


def differences(context: Context, folder: Path) -> Iterator[str]:
    """`stale`, and what lies beside our files: `not ours`."""
    yield from stale(context, folder)
    yield from (f"not ours: {name}" for name in _there(context, folder) if name not in context.files)


def differing(context: Context, folder: Path) -> dict[str, list[str]]:
    """The places that are to be written → the files of each."""
    found = _places(line.split(": ", 1)[1] for line in differences(context, folder))
    return {place: [name for name in context.files if _places([name]) == [place]] for place in found}


def strangers(context: Context, folder: Path) -> list[str]:
    """The files that are not ours: what lies beside our own, and all of a folder that is somebody else's."""
    theirs = {place for place in _places(context.files) if not _is_ours(context, folder, place)}
    return [name for name in _there(context, folder) if name not in context.files or theirs & {*_places([name])}]


def write(context: Context, folder: Path) -> None:
    """Put the folders of a context into `folder`, each whole: a reader sees the old one or the new one.

    One that is right already is left alone. Raises `UsageError` rather than replace one that is somebody else's, or
    follow a link out of `folder`.
    """
    disk.refuse_links(folder, *_places(context.files))
    if disk.exists(folder) and not disk.is_folder(folder):
        raise UsageError(f"{folder} is a file, where a folder would be", hint="move it elsewhere")
    try:
        with folders.alone(folder):
            _write(context, folder)
    except OSError as error:
        raise disk.unwritable(folder, error) from error


def _write(context: Context, folder: Path) -> None:
    found = differing(context, folder)
    for place in found:
        if disk.exists(folder / place) and not disk.is_folder(folder / place):
            raise UsageError(f"{folder / place} is a file, where a folder would be", hint="move it elsewhere")
        if not _is_ours(context, folder, place):
            raise UsageError(f"{folder / place} holds files that are not envbuilder's", hint="move them elsewhere")
    for place, names in found.items():
        _replace(folder / place, {name.removeprefix(f"{place}/"): name for name in names}, context)


def _places(names: Iterable[str]) -> list[str]:
    """The folders, each all ours, that files of a context lie in: "images/cu117-…", "install", "payload"."""
    return sorted({"/".join(name.split("/")[: 2 if name.startswith(f"{IMAGES}/") else 1]) for name in names})


def _there(context: Context, folder: Path) -> list[str]:
    """The files in the folders that are ours."""
    return [f"{place}/{name}" for place in _places(context.files) for name in resources.files_in(folder / place)]


def _is_ours(context: Context, folder: Path, place: str) -> bool:
    """Whether a folder may be replaced: nothing is in it, or the file that tells, or one that we would write."""
    there = resources.files_in(folder / place)
    if not there or any(name in there for name in _KNOWN_BY):
        return True
    ours = [name for name in there if f"{place}/{name}" in context.files]
    return any(_read(there[name]) == _bytes(context, f"{place}/{name}") for name in ours)


def _read(path: Path) -> bytes | None:
    """A file's content; None if it has vanished meanwhile. Raises `UsageError` if it cannot be read."""
    try:
        return disk.read_bytes(path)
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _bytes(context: Context, name: str) -> bytes | None:
    return context.files[name].encode() if name in context.files else None


def _replace(target: Path, names: Mapping[str, str], context: Context) -> None:
    """Put files, their path in `target` → in the context, where `target` is."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            new = Path(folder) / "new"
            for path, name in names.items():
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                (new / path).write_text(context.files[name], encoding="utf-8", newline="\n")
                (new / path).chmod(0o755 if name in context.executable else 0o644)
            folders.put(new, target, spare=Path(folder) / "old")
    except OSError as error:
        raise disk.unwritable(target, error) from error
