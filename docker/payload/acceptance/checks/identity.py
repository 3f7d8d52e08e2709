"""Is in here what the lock and the labels say?"""

import base64
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig

from acceptance.checks.inspection import Failure, NotRun


def compare(inspection, fact, seen, remedy="build the image again from its lock"):
    """`seen` is a fact, also without a lock; the lock's may be more exact (11.7.99) than what is seen (11.7)."""
    inspection.facts[fact] = seen
    wanted = inspection.stack("base", _text(seen))["os"] if fact == "os" else inspection.stack(fact, _text(seen))
    if wanted in (None, "custom", []):
        raise NotRun("the lock promises none", _text(seen))
    if seen is None:
        raise Failure(value=None, bound=wanted, detail="it cannot be read in here", remedy=remedy)
    if not (seen == wanted or (isinstance(wanted, str) and wanted.startswith("%s." % seen))):
        detail = "the lock says %s; in here is %s" % (_text(wanted), _text(seen))
        raise Failure(value=_text(seen), bound=_text(wanted), detail=detail, remedy=remedy)
    return {"value": _text(seen), "bound": _text(wanted)}


def _text(value):
    return " ".join(value) if isinstance(value, list) else value


def check_python(inspection):
    return compare(inspection, "python", "%d.%d" % sys.version_info[:2])


def check_os(inspection):
    with open("/etc/os-release", encoding="utf-8") as stream:
        lines = dict(line.strip().split("=", 1) for line in stream if "=" in line)
    seen = "%s %s" % (lines.get("ID", "?").strip('"'), lines.get("VERSION_ID", "?").strip('"'))
    return compare(inspection, "os", seen)


def check_version(package):
    """A check that a package's own `__version__` is the locked one."""

    def check(inspection):
        if package not in installed() and (inspection.lock is None or inspection.stack(package) is None):
            raise NotRun("the stack has no %s" % package)
        seen = __import__(package).__version__.split("+")[0]
        return compare(
            inspection, package, seen, "another %s lies over the locked one: build the image again" % package
        )

    return check


def check_cuda(inspection):
    import torch

    found = cuda_wheels(installed())
    if inspection.flavour == "cpu":
        return without_cuda(inspection, torch.version.cuda, found)
    fitting = [version for version in found if version.startswith("%s." % torch.version.cuda)]
    if found and not fitting:
        detail = "torch is built for CUDA %s, the CUDA runtime in here is %s" % (torch.version.cuda, " ".join(found))
        raise Failure(value=found[0], bound=torch.version.cuda, detail=detail, remedy="build the image again")
    return compare(inspection, "cuda", fitting[0] if fitting else torch.version.cuda)


def without_cuda(inspection, built, wheels):
    """In an image for CPUs torch is built without CUDA, and no wheel brings it."""
    inspection.facts["cuda"] = built
    wrong = ["torch is built for CUDA %s" % built] if built else []
    wrong += ["the CUDA runtime %s is in here" % version for version in wheels]
    if wrong:
        detail = "the lock says that there is no CUDA; " + "; ".join(wrong)
        raise Failure(value=built or wheels[0], bound="none", detail=detail, remedy="build the image again")
    return {"value": "none", "bound": "none"}


def cuda_wheels(packages):
    """The versions of CUDA by its wheels, the best name first.

    Up to CUDA 12 it is the runtime's, 12.6.77. Since 13 a wheel that pins all others names the release: 13.0.3.0 is
    what NVIDIA calls 13.0.3, with the runtime 13.0.96.
    """
    release = [".".join(packages[name].split(".")[:3]) for name in ("cuda-toolkit",) if name in packages]
    return release + [version for name, version in packages.items() if name.startswith("nvidia-cuda-runtime")]


def check_cudnn(inspection):
    import torch

    seen, built = torch.backends.cudnn.version(), built_for_cudnn()
    if seen and built and (major(built) != major(seen) or built > seen):
        detail = "torch is built for cuDNN %s; in here is %s" % (cudnn_text(built), cudnn_text(seen))
        remedy = "take out the cuDNN that torch's wheel did not ask for"
        raise Failure(value=cudnn_text(seen), bound=cudnn_text(built), detail=detail, remedy=remedy)
    return compare(inspection, "cudnn", cudnn_text(seen))


def built_for_cudnn():
    """The cuDNN that torch was compiled with, as a number; None for a torch without it."""
    import torch

    cudnn = getattr(torch._C, "_cudnn", None)
    if cudnn is None:
        return None
    first, second, third = cudnn.getCompileVersion()
    return first * (10000 if first >= 9 else 1000) + second * 100 + third


def major(number):
    """8500 → 8, 91002 → 9."""
    return number // (10000 if number >= 10000 else 1000)


def cudnn_text(number):
    """8500 → 8.5.0, 91002 → 9.10.2 (cudnn_version.h)."""
    if number is None:
        return None
    scale = 10000 if number >= 10000 else 1000
    return "%d.%d.%d" % (major(number), number % scale // 100, number % 100)


def check_family(inspection):
    """torchvision's and torchaudio's compiled parts work with this torch, and are built for the same CUDA."""
    have, wrong = installed(), []
    for name, problem in (("torchvision", vision_problem), ("torchaudio", audio_problem)):
        if name in have:
            try:
                found = problem()
            except Exception as error:
                found = "%s: %s" % (type(error).__name__, str(error).strip().split("\n")[0][:200])
            wrong += ["%s: %s" % (name, found)] if found else []
    remedy = "torch, torchvision and torchaudio must be of one release: lock them together"
    return inspection.judge("identity.family", len(wrong), "; ".join(wrong), remedy)


def vision_problem():
    """What is wrong with torchvision, or None."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        return "nms keeps %s of three boxes, not [0, 2]" % kept
    number = torch.ops.torchvision._cuda_version()  # 11070; -1 without CUDA
    mine = "%d.%d" % (number // 1000, number % 1000 // 10) if number > 0 else None
    return None if mine == torch.version.cuda else "built for CUDA %s, torch for %s" % (mine, torch.version.cuda)


def audio_problem():
    """What is wrong with torchaudio, or None."""
    import torch
    import torchaudio

    wave, window = torch.sin(torch.arange(1024.0)), torch.hann_window(256)
    power = torch.stft(wave, 256, 128, 256, window, return_complex=True).abs().pow(2)
    seen = torchaudio.transforms.Spectrogram(256, hop_length=128)(wave)
    return None if torch.allclose(seen, power, rtol=1e-4, atol=1e-4) else "its spectrogram is not torch's"


def check_nccl(inspection):
    import torch

    if inspection.lock is not None and inspection.stack("nccl") is None:
        raise NotRun("an image for CPUs has none" if inspection.flavour == "cpu" else "NCCL is linked into this torch")
    seen = torch.cuda.nccl.version() if torch.version.cuda else None  # without CUDA, asking raises
    text = ".".join(map(str, seen)) if isinstance(seen, tuple) else seen and str(seen)
    return compare(inspection, "nccl", text)


def check_arch_list(inspection):
    import torch

    return compare(inspection, "arch_list", arch_list(torch))


def arch_list(torch):
    """What this torch has kernels for; unlike torch.cuda.get_arch_list() it answers without a GPU."""
    flags = torch._C._cuda_getArchFlags() if hasattr(torch._C, "_cuda_getArchFlags") else None
    return flags.split() if flags else None


def installed():
    """Normalised name → version of every distribution in this environment."""
    return {name: versions[-1] for name, versions in all_versions().items()}


def all_versions():
    """Normalised name → every version that is installed; two of them lie over each other."""
    found = {}
    for item in importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]):
        found.setdefault(normal(item.metadata["Name"]), []).append(item.version)
    return found


def same(one, other):
    """Whether two spellings are one version: 2024.02.02 is 2024.2.2; 2.0.1+cpu is not 2.0.1+cu117."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def normal(name):
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_packages(inspection):
    seen = all_versions()
    if inspection.lock is None:
        raise NotRun("there is no lock in here to compare with", len(seen))
    wanted = {wheel["name"]: wheel["version"] for wheel in inspection.lock["wheels"]}
    wrong = ["%s is missing" % name for name in sorted(set(wanted) - set(seen))]
    wrong += ["%s is not in the lock" % name for name in sorted(set(seen) - set(wanted))]
    for name in sorted(set(seen) & set(wanted)):
        if len(seen[name]) != 1 or not same(seen[name][0], wanted[name]):
            wrong.append("%s is %s, locked is %s" % (name, " and ".join(sorted(seen[name])), wanted[name]))
    remedy = "add packages by `envbuilder build --package …`, so that they are resolved together"
    return inspection.judge("identity.packages", len(wrong), detail="; ".join(wrong), remedy=remedy)


def check_requirements(inspection):
    """Every distribution's own requirements are met, but for those that the lock leaves out on purpose (pip check)."""
    from packaging.requirements import Requirement

    have = installed()
    left_out = set(inspection.lock["stack"]["excluded"]) if inspection.lock else set()
    wrong = []
    for item in importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]):
        for line in item.requires or ():
            wanted = Requirement(line)
            name = normal(wanted.name)
            if name in left_out or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            if name not in have:
                wrong.append("%s needs %s, which is missing" % (item.metadata["Name"], wanted.name))
            elif not wanted.specifier.contains(have[name], prereleases=True):
                wrong.append(
                    "%s needs %s; in here is %s" % (item.metadata["Name"], line.split(";")[0].strip(), have[name])
                )
    remedy = "lock the packages together: `envbuilder build --package …`"
    return inspection.hold("identity.requirements", len(wrong), "; ".join(wrong[:5]), remedy)


FAMILY = ("torch", "torchvision", "torchaudio", "triton", "transformers", "numpy")


def check_files(inspection):
    """Every file of the torch family is the one that its RECORD names; NVIDIA's are all there, at their size."""
    wrong = []
    for item in importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]):
        name = normal(item.metadata["Name"])
        if name in FAMILY or name.startswith("nvidia-"):
            wrong += list(spoiled_files(item, name in FAMILY))
    remedy = "a file was changed or lost after the build: build the image again"
    return inspection.hold("identity.files", len(wrong), "; ".join(wrong[:5]), remedy)


def spoiled_files(distribution, hashed):
    """What is wrong with a distribution's files; with `hashed` their content is compared, else their size."""
    for file in distribution.files or ():
        path = str(file.locate())
        if not os.path.exists(path):
            yield "%s is gone" % file
        elif file.size is not None and os.path.getsize(path) != file.size:
            yield "%s has another size" % file
        elif hashed and file.hash is not None and hash_of(path, file.hash.mode) != file.hash.value:
            yield "%s has been changed" % file


def hash_of(path, mode):
    """As RECORD writes it: URL-safe base64 without padding."""
    sha = hashlib.new(mode)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return base64.urlsafe_b64encode(sha.digest()).rstrip(b"=").decode()
