"""Is in here what the lock and the labels say?"""

import base64
import hashlib
import importlib.metadata
import os
import sys
import sysconfig

from checks.inspection import Failure, NotRun


def compare(inspection, fact, seen, wanted, remedy="build the image again from its lock"):
    """`seen` is a fact, `wanted` is what the lock says, which may be more exact (11.7.99) than what is seen (11.7)."""
    inspection.facts[fact] = seen
    if wanted is None:
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
    return compare(inspection, "python", "%d.%d" % sys.version_info[:2], inspection.stack("python"))


def check_os(inspection):
    with open("/etc/os-release", encoding="utf-8") as stream:
        lines = dict(line.strip().split("=", 1) for line in stream if "=" in line)
    seen = "%s %s" % (lines.get("ID", "?").strip('"'), lines.get("VERSION_ID", "?").strip('"'))
    wanted = inspection.stack("base")["os"]
    return compare(inspection, "os", seen, None if wanted == "custom" else wanted)


def check_version(package):
    """A check that a package's own `__version__` is the locked one."""

    def check(inspection):
        wanted = inspection.stack(package)
        if wanted is None:
            raise NotRun("the stack has no %s" % package)
        module = __import__(package)
        seen = module.__version__.split("+")[0]
        remedy = "another %s was installed over the locked one: build the image again" % package
        return compare(inspection, package, seen, wanted, remedy)

    return check


def check_cuda(inspection):
    import torch

    runtime = [version for name, version in installed().items() if name.startswith("nvidia-cuda-runtime")]
    if runtime and not runtime[0].startswith("%s." % torch.version.cuda):
        detail = "torch is built for CUDA %s, the CUDA runtime in here is %s" % (torch.version.cuda, runtime[0])
        raise Failure(value=runtime[0], bound=torch.version.cuda, detail=detail, remedy="build the image again")
    return compare(inspection, "cuda", runtime[0] if runtime else torch.version.cuda, inspection.stack("cuda"))


def check_cudnn(inspection):
    import torch

    return compare(inspection, "cudnn", cudnn_text(torch.backends.cudnn.version()), inspection.stack("cudnn"))


def cudnn_text(number):
    """8500 → 8.5.0, 91002 → 9.10.2 (cudnn_version.h)."""
    if number is None:
        return None
    scale = 10000 if number >= 10000 else 1000
    return "%d.%d.%d" % (number // scale, number % scale // 100, number % 100)


def check_nccl(inspection):
    import torch

    wanted = inspection.stack("nccl")
    if wanted is None:
        raise NotRun("NCCL is linked into this torch")
    seen = torch.cuda.nccl.version()
    return compare(inspection, "nccl", ".".join(map(str, seen)) if isinstance(seen, tuple) else str(seen), wanted)


def check_arch_list(inspection):
    import torch

    flags = torch._C._cuda_getArchFlags() if hasattr(torch._C, "_cuda_getArchFlags") else None
    return compare(inspection, "arch_list", flags.split() if flags else None, inspection.stack("arch_list"))


def installed():
    """Normalised name → version of every distribution in this environment."""
    found = importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]])
    return {normal(item.metadata["Name"]): item.version for item in found}


def normal(name):
    """A distribution's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def check_packages(inspection):
    if inspection.lock is None:
        raise NotRun("there is no lock in here to compare with")
    wanted, seen = {wheel["name"]: wheel["version"] for wheel in inspection.lock["wheels"]}, installed()
    wrong = ["%s is missing" % name for name in sorted(set(wanted) - set(seen))]
    wrong += ["%s is not in the lock" % name for name in sorted(set(seen) - set(wanted))]
    for name in sorted(set(seen) & set(wanted)):
        if seen[name].split("+")[0] != wanted[name].split("+")[0]:
            wrong.append("%s is %s, locked is %s" % (name, seen[name], wanted[name]))
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
