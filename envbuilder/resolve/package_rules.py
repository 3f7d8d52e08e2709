"""What a package asks of a candidate: a stack has one torch, one numpy, one Python, and a range bounds which it is.

`torch>=2.1` leaves the candidates with such a torch; `numpy>=2` those whose torch works with it; `requires-python`
those on such a Python. The candidate index asks each rule once for each package.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.rules import Objection, Reason

_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_PATCHES = range(64)  # patch releases of one Python: enough for any that there was


def marker_environment(platform: str, python: Version) -> dict[str, str]:
    """The environment markers (PEP 508) of an image."""
    full = f"{python.major}.{python.minor}.0"
    return {
        "python_version": f"{python.major}.{python.minor}",
        "python_full_version": full,
        "implementation_version": full,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": _MACHINES[platform],
        "platform_system": "Linux",
        "platform_release": "",
        "platform_version": "",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }


@lru_cache(maxsize=4096)
def marker_holds(marker: str, platform: str, python: Version) -> bool:
    """Whether a marker holds in an image for this platform with this Python; what cannot be evaluated does not."""
    environment = marker_environment(platform, python)
    try:
        return Marker(marker).evaluate(environment)
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        return False


@lru_cache(maxsize=4096)
def _allows(bounds: str, version: str) -> bool:
    return SpecifierSet(bounds).contains(version, prereleases=True)


@lru_cache(maxsize=4096)
def _overlap(bounds: str, others: str) -> bool:
    """Whether some version is within both."""
    both = SpecifierSet(bounds) & SpecifierSet(others)
    return not both.is_unsatisfiable()


@lru_cache(maxsize=512)
def python_fits(bounds: str, python: Version) -> bool:
    """Whether some patch release of a Python X.Y is within the bounds of `requires-python`."""
    specifier = SpecifierSet(bounds)
    for patch in _PATCHES:
        if specifier.contains(f"{python.major}.{python.minor}.{patch}"):
            return True
    return False


def project_of(text: str) -> str:
    """The normalized name of a package: `flash-attn` of `Flash_Attn[x]>=2`."""
    requirement = parsed(text)
    return canonicalize_name(requirement.name)


def package_objection(
    text: str, requirement: Requirement, candidate: Candidate
) -> Objection:
    """Why a package, written as `text`, cannot be installed with a candidate; None if nothing is known against it."""
    name = canonicalize_name(requirement.name)
    rule = _RULES.get(name)
    if rule is None:
        return None
    marker = requirement.marker
    if marker and not marker_holds(str(marker), candidate.platform, candidate.python):
        return None
    bounds = str(requirement.specifier)
    says = rule(bounds, candidate)
    if says is None:
        return None
    return Reason(f"{text} is requested; {says}", (candidate.build.source,))


def has_rule(name: str) -> bool:
    """Whether a package bounds the candidates."""
    return canonicalize_name(name) in _RULES


def requires_python_objection(request: Request, candidate: Candidate) -> Objection:
    """Why the project does not run on a candidate's Python."""
    bounds = request.requires_python
    if not bounds or python_fits(bounds, candidate.python):
        return None
    return Reason(
        f"the project requires Python {bounds}; this is Python {candidate.python}"
    )


def package_objections(request: Request, candidate: Candidate) -> list[Reason]:
    """Every reason that the project's packages and its Python give against a candidate."""
    reasons = []
    of_python = requires_python_objection(request, candidate)
    if of_python:
        reasons.append(of_python)
    for text in (*request.packages, *request.bounds):
        requirement = parsed(text)
        objection = package_objection(text, requirement, candidate)
        if objection:
            reasons.append(objection)
    return reasons


@lru_cache(maxsize=4096)
def parsed(text: str) -> Requirement:
    """A package of a request; its text has passed the grammar."""
    return Requirement(text)


# --- one rule for each package that the stack has already; `bounds` may be "" ----------------------------------------


def _torch(bounds: str, candidate: Candidate) -> str | None:
    version = candidate.build.torch
    if _allows(bounds, str(version)):
        return None
    return f"this is torch {version}"


def _torchvision(bounds: str, candidate: Candidate) -> str | None:
    build = candidate.build
    version = str(build.torchvision)
    if _allows(bounds, version):
        return None
    return f"torch {build.torch} comes with torchvision {version}"


def _torchaudio(bounds: str, candidate: Candidate) -> str | None:
    build = candidate.build
    if build.torchaudio is None:
        return f"there is no torchaudio for torch {build.torch}"
    version = str(build.torchaudio)
    if _allows(bounds, version):
        return None
    return f"torch {build.torch} comes with torchaudio {version}"


def _triton(bounds: str, candidate: Candidate) -> str | None:
    build = candidate.build
    version = build.triton
    if candidate.cpu or version is None:
        return None
    if _allows(bounds, str(version)):
        return None
    return f"torch {build.torch} needs triton {version}"


def _numpy(bounds: str, candidate: Candidate) -> str | None:
    if candidate.build.numpy2 or _overlap(bounds, "<2"):
        return None
    return f"torch {candidate.build.torch} needs numpy<2"


def _setuptools(bounds: str, candidate: Candidate) -> str | None:
    needed = candidate.build.setuptools
    if not needed or _overlap(bounds, needed):
        return None
    return f"torch {candidate.build.torch} needs setuptools{needed}"


def _transformers(bounds: str, candidate: Candidate) -> str | None:
    run = candidate.transformers_run
    if run is None or _overlap(bounds, f"<={run.newest}"):
        return None
    return f"the newest transformers known to work on torch {run.torch} is {run.newest}"


_RULES: Mapping[str, Callable[[str, Candidate], str | None]] = {
    "torch": _torch,
    "torchvision": _torchvision,
    "torchaudio": _torchaudio,
    "triton": _triton,
    "numpy": _numpy,
    "setuptools": _setuptools,
    "transformers": _transformers,
}
