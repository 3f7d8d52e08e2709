"""Does the image contain what its lock says?"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator

from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.text import describe

if TYPE_CHECKING:
    from importlib.metadata import Distribution, FileHash

    from acceptance.checks.inspection import Inspection

REBUILD = "build the image again from its lock"


# --- versions ------------------------------------------------------------------------------------------------------


def compare(
    inspection: Inspection, fact: str, seen: Any, remedy: str = REBUILD
) -> Answer:
    """Compare what was seen with the lock; it becomes a fact of the image, also without a lock."""
    inspection.facts[fact] = seen
    if fact == "os":
        locked = inspection.locked("base", seen)["os"]
    else:
        locked = inspection.locked(fact, to_text(seen))
    if locked in (None, "custom", []):
        raise Skipped("the lock does not say which", to_text(seen))
    if seen is None:
        raise Failure(
            "it cannot be read in this image",
            bound=locked,
            remedy=remedy,
        )
    if not matches(seen, locked):
        raise Failure(
            f"the lock says {to_text(locked)}, the image has {to_text(seen)}",
            value=to_text(seen),
            bound=to_text(locked),
            remedy=remedy,
        )
    return Answer(value=to_text(seen), bound=to_text(locked))


def matches(seen: Any, locked: Any) -> bool:
    """The lock may be more exact (11.7.99) than what can be seen (11.7)."""
    if seen == locked:
        return True
    return isinstance(locked, str) and locked.startswith(f"{seen}.")


def to_text(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


def check_python(inspection: Inspection) -> Answer:
    major, minor = sys.version_info[:2]
    return compare(inspection, "python", f"{major}.{minor}")


def check_os(inspection: Inspection) -> Answer:
    release = {}
    with open("/etc/os-release", encoding="utf-8") as stream:
        for line in stream:
            name, _, value = line.strip().partition("=")
            release[name] = value.strip('"')
    distribution = release.get("ID", "?")
    version = release.get("VERSION_ID", "?")
    return compare(inspection, "os", f"{distribution} {version}")


def check_version(package: str) -> Callable[[Inspection], Answer]:
    """A check that a package's own `__version__` is the locked one."""

    def check(inspection: Inspection) -> Answer:
        if package not in installed() and not is_locked(inspection, package):
            raise Skipped(f"the stack has no {package}")
        module = __import__(package)
        version = module.__version__.split("+")[0]
        return compare(
            inspection,
            package,
            version,
            remedy=f"another {package} was installed over the locked one: {REBUILD}",
        )

    return check


def is_locked(inspection: Inspection, package: str) -> bool:
    return inspection.lock is not None and inspection.locked(package) is not None


# --- CUDA ----------------------------------------------------------------------------------------------------------


def check_cuda(inspection: Inspection) -> Answer:
    import torch

    wheels = cuda_wheels(installed())
    built_for = torch.version.cuda
    if inspection.flavour == "cpu":
        return without_cuda(inspection, built_for, wheels)
    matching = [version for version in wheels if version.startswith(f"{built_for}.")]
    if wheels and not matching:
        raise Failure(
            f"torch is built for CUDA {built_for}, the image has the CUDA runtime {' '.join(wheels)}",
            value=wheels[0],
            bound=built_for,
            remedy=REBUILD,
        )
    if matching:
        return compare(inspection, "cuda", matching[0])
    return compare(inspection, "cuda", built_for)


def without_cuda(
    inspection: Inspection, built_for: str | None, wheels: list[str]
) -> Answer:
    """In an image for CPUs torch is built without CUDA, and no wheel brings it."""
    inspection.facts["cuda"] = built_for
    problems = []
    if built_for:
        problems.append(f"torch is built for CUDA {built_for}")
    for version in wheels:
        problems.append(f"the image has the CUDA runtime {version}")
    if problems:
        raise Failure(
            f"the lock says there is no CUDA, but {'; '.join(problems)}",
            value=built_for or wheels[0],
            bound="none",
            remedy=REBUILD,
        )
    return Answer(value="none", bound="none")


def cuda_wheels(packages: dict[str, str]) -> list[str]:
    """The versions of CUDA by its wheels, the best name first.

    Up to CUDA 12 it is the runtime's, 12.6.77. Since 13 a wheel that pins all others names the release: 13.0.3.0 is
    what NVIDIA calls 13.0.3, with the runtime 13.0.96.
    """
    versions = []
    toolkit = packages.get("cuda-toolkit")
    if toolkit is not None:
        release = toolkit.split(".")[:3]
        versions.append(".".join(release))
    for name, version in packages.items():
        if name.startswith("nvidia-cuda-runtime"):
            versions.append(version)
    return versions


def check_cudnn(inspection: Inspection) -> Answer:
    import torch

    seen = torch.backends.cudnn.version()
    built_with = compiled_cudnn()
    if seen and built_with and not runs_with(built_with, seen):
        raise Failure(
            f"torch is built for cuDNN {cudnn_text(built_with)}, the image has {cudnn_text(seen)}",
            value=cudnn_text(seen),
            bound=cudnn_text(built_with),
            remedy="remove the cuDNN that torch's wheel did not require",
        )
    return compare(inspection, "cudnn", cudnn_text(seen))


def runs_with(built_with: int, seen: int) -> bool:
    """Whether code built with one cuDNN runs with another: the same major version, and not an older one."""
    return cudnn_major(built_with) == cudnn_major(seen) and built_with <= seen


def compiled_cudnn() -> int | None:
    """The cuDNN that torch was compiled with, as a number; None for a torch without it."""
    import torch

    cudnn = getattr(torch._C, "_cudnn", None)
    if cudnn is None:
        return None
    major, minor, patch = map(int, cudnn.getCompileVersion())
    number = minor * 100 + patch
    if major >= 9:
        return major * 10_000 + number
    return major * 1000 + number


def cudnn_scale(number: int) -> int:
    """What the major version is multiplied by: 8500 is 8.5.0, 91002 is 9.10.2 (cudnn_version.h)."""
    return 10_000 if number >= 10_000 else 1000


def cudnn_major(number: int) -> int:
    return number // cudnn_scale(number)


def cudnn_text(number: int | None) -> str | None:
    if number is None:
        return None
    minor, patch = divmod(number % cudnn_scale(number), 100)
    return f"{cudnn_major(number)}.{minor}.{patch}"


def check_nccl(inspection: Inspection) -> Answer:
    import torch

    if inspection.lock is not None and inspection.locked("nccl") is None:
        raise Skipped(nccl_is_absent(inspection))
    if not torch.version.cuda:  # then asking raises
        return compare(inspection, "nccl", None)
    version = torch.cuda.nccl.version()
    if isinstance(version, tuple):
        version = ".".join(map(str, version))
    return compare(inspection, "nccl", version and str(version))


def nccl_is_absent(inspection: Inspection) -> str:
    if inspection.flavour == "cpu":
        return "not applicable: this image is for CPUs"
    return "NCCL is linked into this torch"


def check_arch_list(inspection: Inspection) -> Answer:
    import torch

    return compare(inspection, "arch_list", arch_list(torch))


def arch_list(torch: Any) -> list[str] | None:
    """What this torch has kernels for; unlike torch.cuda.get_arch_list() it answers without a GPU."""
    if not hasattr(torch._C, "_cuda_getArchFlags"):
        return None
    flags: str | None = torch._C._cuda_getArchFlags()
    return flags.split() if flags else None


# --- the torch family ----------------------------------------------------------------------------------------------


def check_family(inspection: Inspection) -> Answer:
    """The compiled parts of torchvision and torchaudio work with this torch, and are built for the same CUDA."""
    packages = installed()
    tests = {"torchvision": vision_problem, "torchaudio": audio_problem}
    problems = []
    for name, test in tests.items():
        problem = family_problem(test) if name in packages else None
        if problem:
            problems.append(f"{name}: {problem}")
    return inspection.require(
        "identity.family",
        len(problems),
        detail="; ".join(problems),
        remedy="torch, torchvision and torchaudio must be of one release: lock them together",
    )


def family_problem(test: Callable[[], str | None]) -> str | None:
    try:
        return test()
    except Exception as error:
        return describe(error)


def vision_problem() -> str | None:
    """What is wrong with torchvision, or None."""
    import torch
    import torchvision

    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],
            [1.0, 1.0, 10.0, 10.0],
            [20.0, 20.0, 30.0, 30.0],
        ]
    )
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept = torchvision.ops.nms(boxes, scores, 0.5).tolist()
    if kept != [0, 2]:
        return f"nms keeps {kept} of three boxes, not [0, 2]"
    number = torch.ops.torchvision._cuda_version()  # 11070; -1 without CUDA
    built_for = None
    if number > 0:
        major, minor = divmod(number // 10, 100)
        built_for = f"{major}.{minor}"
    cuda = torch.version.cuda
    if built_for != cuda:
        return f"built for CUDA {built_for}, torch for {cuda}"
    return None


def audio_problem() -> str | None:
    """What is wrong with torchaudio, or None."""
    import torch
    import torchaudio

    wave = torch.sin(torch.arange(1024.0))
    window = torch.hann_window(256)
    spectrum = torch.stft(wave, 256, 128, 256, window, return_complex=True)
    expected = spectrum.abs().pow(2)
    spectrogram = torchaudio.transforms.Spectrogram(256, hop_length=128)
    if not torch.allclose(spectrogram(wave), expected, rtol=1e-4, atol=1e-4):
        return "its spectrogram differs from torch's"
    return None


# --- packages ------------------------------------------------------------------------------------------------------


def distributions() -> Iterable[Distribution]:
    """Every distribution in this environment."""
    site_packages = sysconfig.get_paths()["purelib"]
    return importlib.metadata.distributions(path=[site_packages])


def normalize(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def all_versions() -> dict[str, list[str]]:
    """Normalized name → every version that is installed; two of them lie over each other."""
    found: dict[str, list[str]] = {}
    for distribution in distributions():
        name = normalize(distribution.metadata["Name"])
        versions = found.setdefault(name, [])
        versions.append(distribution.version)
    return found


def installed() -> dict[str, str]:
    """Normalized name → version."""
    return {name: versions[-1] for name, versions in all_versions().items()}


def is_same_version(one: str, other: str) -> bool:
    """Whether two spellings are one version: 2024.02.02 is 2024.2.2; 2.0.1+cpu is not 2.0.1+cu117."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def check_packages(inspection: Inspection) -> Answer:
    found = all_versions()
    if inspection.lock is None:
        raise Skipped("this image has no lock to compare with", len(found))
    locked = {wheel["name"]: wheel["version"] for wheel in inspection.lock["wheels"]}
    for source in inspection.lock.get("sources", ()):
        if source.get("compiled"):
            locked[source["name"]] = source["version"]
    problems = list(package_problems(found, locked))
    return inspection.require(
        "identity.packages",
        len(problems),
        detail="; ".join(problems),
        remedy="add packages with `envbuilder build --package …`, so that they are resolved together",
    )


def package_problems(
    found: dict[str, list[str]], locked: dict[str, str]
) -> Iterator[str]:
    names = {*found, *locked}
    for name in sorted(names):
        problem = version_problem(
            found.get(name, []),
            locked.get(name),
        )
        if problem:
            yield f"{name} {problem}"


def version_problem(versions: list[str], locked: str | None) -> str:
    """What is wrong with the installed versions of a package; empty if nothing is."""
    if not versions:
        return "is missing"
    if locked is None:
        return "is not in the lock"
    if len(versions) == 1 and is_same_version(versions[0], locked):
        return ""
    installed_versions = sorted(versions)
    text = " and ".join(installed_versions)
    return f"is {text}, locked is {locked}"


def check_requirements(inspection: Inspection) -> Answer:
    """Every distribution's own requirements are met, but for those that the lock leaves out on purpose (pip check).

    So is its Requires-Python, which installers of locked wheels do not look at.
    """
    packages = installed()
    left_out = set()
    if inspection.lock is not None:
        left_out = set(inspection.locked("excluded"))
    problems: list[str] = []
    for distribution in distributions():
        problems += unmet_python(distribution)
        problems += unmet_requirements(distribution, packages, left_out)
    return inspection.require_if_locked(
        "identity.requirements",
        len(problems),
        detail="; ".join(problems[:5]),
        remedy="lock the packages together: `envbuilder build --package …`",
    )


def unmet_python(distribution: Distribution) -> Iterator[str]:
    """A line if this Python is outside of what a distribution allows."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if "Requires-Python" not in distribution.metadata:
        return
    bounds = distribution.metadata["Requires-Python"]
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        allowed = SpecifierSet(bounds).contains(python, prereleases=True)
    except InvalidSpecifier:  # uv and pip do not understand it either
        return
    if not allowed:
        name = distribution.metadata["Name"]
        yield f"{name} needs Python {bounds}, the image has {python}"


def unmet_requirements(
    distribution: Distribution,
    packages: dict[str, str],
    left_out: set[str],
) -> Iterator[str]:
    from packaging.requirements import Requirement

    dependent = distribution.metadata["Name"]
    for line in distribution.requires or ():
        requirement = Requirement(line)
        name = normalize(requirement.name)
        marker = requirement.marker
        if name in left_out:
            continue
        if marker and not marker.evaluate({"extra": ""}):
            continue
        if name not in packages:
            yield f"{dependent} needs {requirement.name}, which is missing"
        elif not requirement.specifier.contains(packages[name], prereleases=True):
            wanted = line.split(";")[0].strip()
            version = packages[name]
            yield f"{dependent} needs {wanted}, the image has {version}"


# --- files ---------------------------------------------------------------------------------------------------------

# Their files are compared by content; NVIDIA's, which are gigabytes, by size alone.
HASHED = ("torch", "torchvision", "torchaudio", "triton", "transformers", "numpy")


def check_files(inspection: Inspection) -> Answer:
    """Every file of the torch family is the one that its RECORD names; NVIDIA's are all there, at their size."""
    problems: list[str] = []
    for distribution in distributions():
        name = normalize(distribution.metadata["Name"])
        if name in HASHED:
            problems += changed_files(distribution, by_content=True)
        elif name.startswith("nvidia-"):
            problems += changed_files(distribution, by_content=False)
    return inspection.require_if_locked(
        "identity.files",
        len(problems),
        detail="; ".join(problems[:5]),
        remedy=f"a file was changed or lost after the build: {REBUILD}",
    )


def changed_files(distribution: Distribution, *, by_content: bool) -> Iterator[str]:
    """A line for each file that is not as the distribution's RECORD says."""
    for file in distribution.files or ():
        path = str(file.locate())
        if not os.path.exists(path):
            yield f"{file} is missing"
        elif file.size not in (None, os.path.getsize(path)):
            yield f"{file} has a different size"
        elif by_content and not has_hash(path, file.hash):
            yield f"{file} has been changed"


def has_hash(path: str, expected: FileHash | None) -> bool:
    """Whether a file's content is what RECORD says, if it says anything."""
    return expected is None or record_hash(path, expected.mode) == expected.value


def record_hash(path: str, algorithm: str) -> str:
    """A file's hash as RECORD writes it: URL-safe base64 without padding (PEP 376)."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while True:
            block = stream.read(1 << 20)
            if not block:
                break
            digest.update(block)
    text = base64.urlsafe_b64encode(digest.digest())
    return text.rstrip(b"=").decode()
