"""Lock → Context: every file of a build context as text, the same bytes for the same lock; nothing is written here
but by `write`, which replaces a folder whole or leaves it alone."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.requirements import Requirement

from envbuilder import lock as locks
from envbuilder import resources, wire
from envbuilder.errors import EnvbuilderError, UsageError
from envbuilder.model import BaseSource, Context, Flavour, Layer, Lock

LABEL_PREFIX = "dev.envbuilder."
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
_DOCKERIGNORE = "# Only what the Dockerfile names goes to the builder.\n*\n{}"
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
    """The build context of a lock: Dockerfile, .dockerignore, lock, requirements, installer and payload."""
    locks.refuse(lock.stack, index_url="")  # a lock is there: where its wheels are is the builder's business
    lock_text = wire.dumps(lock)
    files = {
        "Dockerfile": _dockerfile(lock, lock_text),
        locks.FILE: lock_text,
        "requirements.txt": locks.requirements_text(lock),
        **{_layer_file(layer): locks.requirements_text(lock, layer) for layer in Layer},
    }
    if lock.stack.flavour is Flavour.DEVEL:
        files[TRIM] = resources.files("devel")[_KEEP].read_text() + resources.files("install")[TRIM].read_text()
    executable = set()
    for folder in ("install", "payload"):
        for name, path in resources.files(folder).items():
            files[f"{folder}/{name}"] = path.read_text()
            if path.stat().st_mode & 0o100:
                executable.add(f"{folder}/{name}")
    tops = sorted({name.split("/")[0] for name in files} - {"Dockerfile"})
    files[".dockerignore"] = _DOCKERIGNORE.format("".join(f"!{top}\n" for top in tops))
    return Context(files=dict(sorted(files.items())), executable=frozenset(executable))


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
        "cuda": stack.cuda,
        "cudnn": stack.cudnn,
        "nccl": stack.nccl or "",
        "arch-list": " ".join(stack.arch_list),
        "driver-floor": stack.driver_floor,
        "os": stack.base.os,
        "as-of": stack.as_of,
        "catalog": lock.catalog,
        "lock": "sha256:" + sha256(lock_text.encode()).hexdigest(),
    }
    oci = {
        "org.opencontainers.image.title": stack.name,
        "org.opencontainers.image.description": f"PyTorch {stack.torch} for CUDA {stack.cuda_line}, proven to train",
        "org.opencontainers.image.base.name": stack.base.reference,
        **({"org.opencontainers.image.base.digest": lock.base_digest} if lock.base_digest else {}),
    }
    return oci | {LABEL_PREFIX + name: str(value) for name, value in facts.items()}


def _layer_file(layer: Layer) -> str:
    return f"layers/{layer}.txt"


def _dockerfile(lock: Lock, lock_text: str) -> str:
    values: dict[str, object] = {
        "stack": lock.stack,
        "base_digest": lock.base_digest,
        "devel": lock.stack.flavour is Flavour.DEVEL,
        "compiler": any(Requirement(line).name == _COMPILER for line in lock.stack.requirements),
        "bootstrapped": lock.stack.base.source is BaseSource.BOOTSTRAP,
        "layers": [_layer_view(lock, layer) for layer in Layer],
        "labels": _inert(labels(lock, lock_text)),
    }
    return fill("debian/Dockerfile.j2", values)  # `_inert` refuses what could become an instruction


def fill(template: str, values: Mapping[str, object]) -> str:
    """A template of templates/ with its values; nothing is escaped."""
    environment = Environment(
        loader=FileSystemLoader(resources.folder("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - none of these is HTML
    )
    return environment.get_template(template).render(values)


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
        file=_layer_file(layer),
        imports=" ".join(_WARM.get(layer, ())),
        count=len(wheels),
        megabytes=round(sum(wheel.size for wheel in wheels) / 1e6),
    )


def differences(context: Context, folder: Path) -> Iterator[str]:
    """How `folder` differs from what would be written: `missing`, `stale` and `not ours`, one line a file."""
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} if folder.is_dir() else set()
    for name, text in context.files.items():
        if name not in there:
            yield f"missing: {name}"
        elif (folder / name).read_bytes() != text.encode():
            yield f"stale: {name}"
    yield from (f"not ours: {name}" for name in sorted(there - context.files.keys()))


def write(context: Context, folder: Path) -> None:
    """Put a context where `folder` is, whole: a reader sees the old one or the new one, never half of one.

    Raises `UsageError` rather than replace a folder that holds something other than a context.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a build context is a folder", hint="choose another with `--output DIR`")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / locks.FILE).is_file():
        raise UsageError(f"{folder} holds files that are not envbuilder's", hint="choose another with `--output DIR`")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            _fill(context, Path(name) / "new")
            if folder.exists():
                folder.rename(Path(name) / "old")
            (Path(name) / "new").rename(folder)
    except OSError as error:
        raise EnvbuilderError(
            f"cannot write {folder}: {error.strerror}", hint="is there space, and may you write there?"
        ) from error


def _fill(context: Context, folder: Path) -> None:
    for name, text in context.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in context.executable else 0o644)
