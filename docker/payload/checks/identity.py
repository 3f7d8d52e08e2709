"""Is in here what the lock and the labels say?"""

import base64
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig

from checks.inspection import Failure, NotRun


def compare(inspection, fact, seen, remedy="build the image again from its lock"):
    """`seen` is a fact, also without a lock; the lock's may be more exact (11.7.99) than what is seen (11.7)."""
    inspection.facts[fact] = seen
    wanted = inspection.stack("base")["os"] if fact == "os" else inspection.stack(fact)
    if wanted in (None, "custom"):
        raise NotRun("the lock promises none")
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

    found = [version for name, version in installed().items() if name.startswith("nvidia-cuda-runtime")]
    fitting = [version for version in found if version.startswith("%s." % torch.version.cuda)]
    if found and not fitting:
        detail = "torch is built for CUDA %s, the CUDA runtime in here is %s" % (torch.version.cuda, " ".join(found))
        raise Failure(value=found[0], bound=torch.version.cuda, detail=detail, remedy="build the image again")
    return compare(inspection, "cuda", fitting[0] if fitting else torch.version.cuda)


def check_cudnn(inspection):
    import torch

    return compare(inspection, "cudnn", cudnn_text(torch.backends.cudnn.version()))


def cudnn_text(number):
    """8500 → 8.5.0, 91002 → 9.10.2 (cudnn_version.h)."""
    if number is None:
        return None
    scale = 10000 if number >= 10000 else 1000
    return "%d.%d.%d" % (number // scale, number % scale // 100, number % 100)


def check_nccl(inspection):
    import torch

    if inspection.lock is not None and inspection.stack("nccl") is None:
        raise NotRun("NCCL is linked into this torch")
    seen = torch.cuda.nccl.version()
    return compare(inspection, "nccl", ".".join(map(str, seen)) if isinstance(seen, tuple) else str(seen))


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
    if inspection.lock is None:
        raise NotRun("there is no lock in here to compare with")
    wanted, seen = {wheel["name"]: wheel["version"] for wheel in inspection.lock["wheels"]}, all_versions()
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
    return inspection.judge("identity.requirements", len(wrong), "; ".join(wrong[:5]), remedy)


FAMILY = ("torch", "torchvision", "torchaudio", "triton", "transformers", "numpy")


def check_files(inspection):
    """Every file of the torch family is the one that its RECORD names; NVIDIA's are all there, at their size."""
    wrong = []
    for item in importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]):
        name = normal(item.metadata["Name"])
        if name in FAMILY or name.startswith("nvidia-"):
            wrong += list(spoiled_files(item, name in FAMILY))
    remedy = "a file was changed or lost after the build: build the image again"
    return inspection.judge("identity.files", len(wrong), "; ".join(wrong[:5]), remedy)


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
