"""The rules of companions: whether releases of one fit a side of a candidate, and what is said if they do not.

A rule looks at one side of a candidate, its key, as the rules of options do. What depends on another option of the
request too, such as the GPU, comes in a `CompanionContext`: the candidate index has one mask for each companion and
context, so that a conflict names both.
"""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.catalog.companions import Companion, CompanionKind
from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.catalog.gpus import has_kernels, kernels_text
from envbuilder.catalog.lookup import find_system
from envbuilder.catalog.rows import Catalog
from envbuilder.grammar import ARM64
from envbuilder.model import Request
from envbuilder.resolve.base_check import base_name_of
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_table import overlap
from envbuilder.resolve.rules import CandidateKey, python_key
from envbuilder.versions import listed, minor_line

_PATCHES = (0, 99)  # of a Python: the first, and later ones than there ever were
_FULL = 3  # numbers of a release of transformers: fewer are a line


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionContext:
    """What the other options of a request say about companions."""

    capability: Version | None = None  # of the requested GPU
    day: date | None = None
    transformers: Version | None = None
    glibc: Version | None = None  # of the system of a custom base


def context_of(
    request: Request, catalog: Catalog, names: Collection[str] | None = None
) -> CompanionContext:
    """The context of a request, as if it set only the options of these names."""

    def is_in(name: str) -> bool:
        return names is None or name in names

    gpu = None
    if request.gpu and is_in("gpu"):
        gpu = find_gpu(request.gpu, catalog)
    context = CompanionContext()
    if gpu is not None:
        context = replace(context, capability=gpu.capability)
    if is_in("as_of"):
        context = replace(context, day=request.as_of)
    if is_in("transformers"):
        context = replace(context, transformers=request.transformers)
    if is_in("base") and is_in("os"):
        glibc = _glibc_of(request, catalog)
        context = replace(context, glibc=glibc)
    return context


def _glibc_of(request: Request, catalog: Catalog) -> Version | None:
    """What the system of a custom base has, as far as the request tells which it is."""
    if not request.base:
        return None
    base = base_name_of(request)
    if base is None:
        return None
    system = find_system(request.os or base.system, catalog)
    return system.glibc if system else None


# --- a release against the rest of the request ---------------------------------------------------------------------


def subject_of(row: Companion) -> str:
    """`vllm 0.33.0`, or `vllm 0.20.0 to 0.26.0`."""
    if row.first == row.last:
        return f"{row.name} {row.last}"
    return f"{row.name} {row.first} to {row.last}"


def context_problem(row: Companion, context: CompanionContext) -> str:
    """Why a row is nothing for a request, whatever the candidate; "" if it may be."""
    day = context.day
    released = row.released
    if day and released and released > day:
        return f"{row.name} {row.first} was released on {released}, after {day}"
    capability = context.capability
    if capability and row.sm and not has_kernels(row.sm, capability):
        kernels = kernels_text(row.sm, capability)
        needed = f"sm_{capability.major}{capability.minor}"
        return f"{subject_of(row)} has {kernels}; this GPU needs {needed}"
    transformers = context.transformers
    if transformers and not overlap(row.transformers, bounds_of(transformers)):
        return f"{subject_of(row)} needs transformers {readable(row.transformers)}"
    return ""


def bounds_of(version: Version) -> str:
    """The bounds that a version of `--transformers` means: 4.30 is each patch of it."""
    if len(version.release) < _FULL:
        return f"=={version}.*"
    return f"=={version}"


def readable(bounds: str) -> str:
    """`2.14.0` for `==2.14.0`, `2.10` for `==2.10.*`; others as they are."""
    clauses = list(SpecifierSet(bounds))
    if len(clauses) == 1:
        clause = clauses[0]
        if clause.operator == "==":
            return clause.version.removesuffix(".*")
    # Lower bounds first, as people write them.
    texts = [str(clause) for clause in clauses]
    texts.sort(key=lambda text: (text.startswith("<"), text))
    return ",".join(texts)


def failing(bounds: str, line: str) -> str:
    """The clauses of some bounds that leave nothing of a line, readable: what a person has to know."""
    clauses = []
    for clause in SpecifierSet(bounds):
        text = str(clause)
        if overlap(text, line):
            continue
        clauses.append(text)
    if not clauses:
        return readable(bounds)
    together = ",".join(clauses)
    return readable(together)


# --- a release against a candidate ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facet:
    """One rule: the side of a candidate that it looks at, whether a release fits it, and what is said if not."""

    key: CandidateKey
    fits: Callable[[Companion, Candidate, CompanionContext], bool]
    says: Callable[[Companion, Candidate], str]


def _torch_key(candidate: Candidate) -> Hashable:
    return candidate.build.torch.release


def _cuda_key(candidate: Candidate) -> Hashable:
    return candidate.cpu, candidate.cuda_line


def _platform_key(candidate: Candidate) -> Hashable:
    return candidate.platform


def _base_key(candidate: Candidate) -> Hashable:
    return candidate.custom, candidate.base.glibc.release, candidate.platform


def _run_key(candidate: Candidate) -> Hashable:
    run = candidate.transformers_run
    return run.newest.release if run else None


@lru_cache(maxsize=1024)
def _bounds(text: str) -> SpecifierSet:
    return SpecifierSet(text)


def _fits_torch(row: Companion, candidate: Candidate, _: CompanionContext) -> bool:
    if not row.torch:
        return True
    torch = candidate.build.torch
    bounds = _bounds(row.torch)
    if not bounds.contains(torch, prereleases=True):
        return False
    lines = _lines_built_for(row)
    line = minor_line(torch)
    return not lines or line in lines


def _lines_built_for(row: Companion) -> tuple[str, ...]:
    """The minors of torch whose C++ an extension can use: >=2.1.0 is that of 2.1, the one that it was built for."""
    if not row.torch_minor_abi or row.kind is not CompanionKind.WHEEL:
        return ()
    if "<" in row.torch:
        return ()  # somebody has found out up to which torch it works
    lines = []
    for clause in _bounds(row.torch):
        if clause.operator in ("==", ">=", "~="):
            version = Version(clause.version.removesuffix(".*"))
            lines.append(minor_line(version))
    return tuple(sorted(lines))


def _says_of_torch(row: Companion, candidate: Candidate) -> str:
    torch = candidate.build.torch
    subject = subject_of(row)
    here = f"this is torch {torch}"
    if _bounds(row.torch).contains(torch, prereleases=True):
        lines = listed(_lines_built_for(row))
        return f"{subject} is built for torch {lines}; {here}"
    bounds = failing(row.torch, f"=={torch}")
    return f"{subject} needs torch {bounds}; {here}"


def _fits_cuda(row: Companion, candidate: Candidate, _: CompanionContext) -> bool:
    if candidate.cpu:
        return not row.cuda and row.kind is not CompanionKind.CUDA_SOURCE
    if row.cuda and candidate.build.cuda.major not in row.cuda:
        return False
    return not row.cuda_lines or candidate.cuda_line in row.cuda_lines


def _says_of_cuda(row: Companion, candidate: Candidate) -> str:
    subject = subject_of(row)
    if candidate.cpu:
        return f"{subject} needs CUDA; flavour cpu has none"
    here = candidate.cuda_line
    majors = row.cuda
    major = candidate.build.cuda.major
    if majors and major not in majors:
        built = listed(majors)
        return f"{subject} is built for CUDA {built}; this is CUDA {here}"
    lines = listed(row.cuda_lines)
    return f"{subject} has libraries for CUDA {lines}; this is CUDA {here}"


def _fits_python(row: Companion, candidate: Candidate, _: CompanionContext) -> bool:
    """Whether some patch release of the Python is within the bounds: the first, the last, or, in few, one between."""
    if not row.python:
        return True
    bounds = _bounds(row.python)
    python = candidate.python
    for patch in _PATCHES:
        full = f"{python}.{patch}"
        if bounds.contains(full):
            return True
    if "==" not in row.python:
        return False
    line = f"=={python}.*"
    return overlap(row.python, line)


def _says_of_python(row: Companion, candidate: Candidate) -> str:
    python = candidate.python
    bounds = failing(row.python, f"=={python}.*")
    return f"{subject_of(row)} needs Python {bounds}; this is Python {python}"


def _fits_platform(row: Companion, candidate: Candidate, _: CompanionContext) -> bool:
    return not row.platforms or candidate.platform in row.platforms


def _says_of_platform(row: Companion, _: Candidate) -> str:
    return f"{subject_of(row)} has wheels for {listed(row.platforms)} only"


def _fits_glibc(
    row: Companion, candidate: Candidate, context: CompanionContext
) -> bool:
    if row.glibc is None or candidate.platform == ARM64:
        return True  # nothing is known of its tags there
    if candidate.custom and context.glibc:
        return context.glibc >= row.glibc
    return candidate.base.glibc >= row.glibc


def _says_of_glibc(row: Companion, candidate: Candidate) -> str:
    return f"{subject_of(row)} needs glibc {row.glibc}, newer than that of its base"


def _fits_run(row: Companion, candidate: Candidate, _: CompanionContext) -> bool:
    run = candidate.transformers_run
    return run is None or overlap(row.transformers, f"<={run.newest}")


def _says_of_run(row: Companion, candidate: Candidate) -> str:
    subject = subject_of(row)
    bounds = readable(row.transformers)
    needs = f"{subject} needs transformers {bounds}"
    run = candidate.transformers_run
    if run is None:
        return needs
    torch = run.torch
    newest = run.newest
    return f"{needs}; the newest known to work on torch {torch} is {newest}"


FACETS: tuple[Facet, ...] = (
    Facet(_torch_key, _fits_torch, _says_of_torch),
    Facet(_cuda_key, _fits_cuda, _says_of_cuda),
    Facet(python_key, _fits_python, _says_of_python),
    Facet(_platform_key, _fits_platform, _says_of_platform),
    Facet(_base_key, _fits_glibc, _says_of_glibc),
    Facet(_run_key, _fits_run, _says_of_run),
)
