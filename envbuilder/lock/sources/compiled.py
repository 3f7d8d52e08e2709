"""Whether a source package compiles, and what to do about it: nothing is compiled that nobody has requested."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog.rows import Devel, RecipeKind, SourceRecipe
from envbuilder.errors import LockError
from envbuilder.lock.sources.source_archive import SourceArchive
from envbuilder.model import Stack

_COMPILED_FILES = (".cu", ".cuh")
_COMPILES = ("CUDAExtension", "CppExtension", "BuildExtension")
_WHEEL_HINT = (
    "name a wheel that fits: `--package 'NAME @ https://HOST/FILE-VERSION-cp310-cp310-linux_x86_64.whl'`, "
    "or an index that has one: `--index-url URL`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileSettings:
    """Which packages may be compiled while the image is built, and what is known of them."""

    allowed: frozenset[str] = frozenset()
    recipes: Mapping[str, SourceRecipe] = field(default_factory=dict)
    devel: Devel | None = None
    capability: Version | None = None
    """Of the requested GPU; None: for all that torch has kernels for."""

    def environment_of(self, name: str) -> tuple[tuple[str, str], ...]:
        """The variables that the build of a package needs, sorted."""
        recipe = self.recipes.get(name)
        return tuple(sorted(recipe.environment.items())) if recipe else ()

    def advice_of(self, name: str) -> str:
        """What the user should know of a package that is built of its source."""
        recipe = self.recipes.get(name)
        return recipe.says if recipe else ""

    def is_pure(self, name: str) -> bool:
        """Whether its build is known to compile nothing, whatever its archive contains."""
        recipe = self.recipes.get(name)
        return recipe is not None and recipe.kind is RecipeKind.PURE


def reason_to_compile(archive: SourceArchive) -> str:
    """Why a package surely compiles CUDA or C++ for torch; "" if nothing tells."""
    for member in archive.names:
        if member.endswith(_COMPILED_FILES):
            return f"it contains CUDA code ({member.removeprefix(archive.top)})"
    setup = archive.read("setup.py") or ""
    for word in _COMPILES:
        if word in setup:
            return "its setup.py compiles an extension of torch"
    return ""


def must_compile(
    archive: SourceArchive, name: str, stack: Stack, settings: CompileSettings
) -> bool:
    """Whether a package is compiled while the image is built: if it has to be, and may be.

    Raises `LockError` if it may not, before anything is downloaded for it.
    """
    if settings.is_pure(name):
        return False
    reason = reason_to_compile(archive)
    recipe = settings.recipes.get(name)
    if reason and recipe and recipe.cost:
        raise _too_costly(name, recipe, stack)
    if name in settings.allowed:
        _refuse_without_cuda(name, stack)
        return True
    if not reason:
        return False
    raise LockError(
        f"{name} has no wheel, and its source package compiles: {reason}",
        hint=compile_hint(name),
    )


def _refuse_without_cuda(name: str, stack: Stack) -> None:
    if stack.cuda is None:
        raise LockError(
            f"{name} cannot be compiled: the stack has no CUDA",
            hint="leave out `--flavor cpu`",
        )


def _too_costly(name: str, recipe: SourceRecipe, stack: Stack) -> LockError:
    """The answer about a package that nobody wants to compile in passing."""
    problems = []
    bounds = SpecifierSet(recipe.torch)
    if not bounds.contains(stack.torch):
        problems.append(
            f"as released it compiles against torch {recipe.torch}; this stack has {stack.torch}"
        )
    if recipe.capability:
        old = []
        for arch in stack.arch_list:
            if _is_older(arch, recipe.capability):
                old.append(arch)
        text = f"it has kernels for compute capability {recipe.capability} and newer"
        if old:
            text += f"; the GPUs of {', '.join(old)} have none"
        problems.append(text)
    hint = wheel_hint(name)
    if recipe.instead:
        hint += f"; {recipe.instead}"
    return LockError(
        f"{name} has no wheel on the index, and is not compiled here: {recipe.cost}",
        problems=problems,
        hint=hint,
    )


def _is_older(arch: str, capability: str) -> bool:
    """Whether `sm_75` is older than 8.0."""
    digits = arch.rpartition("_")[2].rstrip("af")
    return Version(f"{digits[:-1]}.{digits[-1]}") < Version(capability)


def wheel_hint(name: str) -> str:
    """How to name a wheel instead."""
    in_file = name.replace("-", "_")
    return _WHEEL_HINT.replace("NAME", name).replace("FILE", in_file)


def compile_hint(name: str) -> str:
    """How to permit compiling, or to do without."""
    permit = f"`--compile {name}` compiles it while the image is built, which takes minutes to hours"
    return f"{permit}; or {wheel_hint(name)}"
