"""The checks, cheapest first: each is a small function of what can be observed in here.

A check returns its fields (value, bound, findings …) when it passes, raises `Failure` with them when it does not, and
`NotRun` when there is nothing to check. Numbers that decide stand in bounds.json.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
from collections import namedtuple

Check = namedtuple("Check", "id title run")


class Failure(Exception):
    """A check's number is outside its bound; `fields` say which, what it means and what to do."""

    def __init__(self, **fields):
        super().__init__(fields.get("detail", ""))
        self.fields = fields


class NotRun(Exception):
    """There is nothing to check here, and why."""


def silence(done, total, text=""):
    """Progress for nobody."""


class Inspection:
    """What the checks share: the lock, the bounds, and what has been observed so far."""

    def __init__(self, lock_file, bounds, require_gpu=False):
        self.bounds = bounds
        self.require_gpu = require_gpu
        self.facts = {}
        self.training = {}
        self.training_error = None
        self.on_progress = silence
        self.lock = None
        if os.path.exists(lock_file):
            with open(lock_file, "rb") as stream:
                text = stream.read()
            self.lock = json.loads(text)
            self.facts["lock"] = "sha256:" + hashlib.sha256(text).hexdigest()

    def stack(self, name):
        """A value of the locked stack."""
        if self.lock is None:
            raise NotRun("there is no lock in here to compare with")
        return self.lock["stack"][name]

    def judge(self, check_id, value, detail="", remedy="", **fields):
        """The fields of a passed check; raises `Failure` if `value` is outside its bound."""
        bound = self.bounds[check_id]
        fields.update(value=value, bound=bound)
        if not bound.get("min", value) <= value <= bound.get("max", value):
            raise Failure(detail=detail, remedy=remedy, **fields)
        return fields


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


# --- identity ------------------------------------------------------------------------------------------------------


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


# --- imports -------------------------------------------------------------------------------------------------------

_IMPORTER = """
import importlib, json, sys, warnings
failed, said = {}, {}
for distribution, names in json.load(sys.stdin):
    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                importlib.import_module(name)
            except BaseException as error:
                failed[name] = "%s: %s" % (type(error).__name__, str(error).strip()[:300])
        for one in caught:
            line = "%s: %s" % (one.category.__name__, str(one.message).strip().split("\\n")[0][:200])
            said.setdefault(line, name)
    print(json.dumps({"done": distribution}), flush=True)
print(json.dumps({"failed": failed, "said": said}), flush=True)
"""


def top_level(distribution):
    """The packages and modules that a distribution puts at the top, by its RECORD."""
    names = set()
    for path in distribution.files or ():
        first = path.parts[0]
        if len(path.parts) == 1 and first.endswith(".py"):
            names.add(first[:-3])
        elif len(path.parts) == 2 and path.parts[1] == "__init__.py":
            names.add(first)
    return sorted(name for name in names if name.isidentifier() and not name.startswith("_"))


def check_imports(inspection):
    found = list(importlib.metadata.distributions(path=[sysconfig.get_paths()["purelib"]]))
    names = sorted((normal(item.metadata["Name"]), top_level(item)) for item in found)
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", _IMPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    try:
        process.stdin.write(json.dumps(names))
        process.stdin.close()
        answer, done = None, 0
        for line in process.stdout:
            event = read_event(line)
            if "done" in event:
                done += 1
                inspection.on_progress(done, len(names), event["done"])
            elif "failed" in event:
                answer = event
        if answer is None:
            code, last = process.wait(), process.stderr.read().strip().splitlines()[-1:]
            detail = "Python died (exit code %d) after %d packages: %s" % (code, done, " ".join(last))
            raise Failure(value=len(names) - done, detail=detail, remedy="import them one by one to find which")
    finally:
        process.kill()
        process.wait()
    return inspection.judge(
        "imports.failed",
        len(answer["failed"]),
        detail="; ".join("%s: %s" % pair for pair in sorted(answer["failed"].items())),
        remedy="two packages do not fit together: lock them again, as of the stack's date",
        findings=["%s (%s)" % (said, name) for said, name in sorted(answer["said"].items())],
    )


def read_event(line):
    """One of the importer's lines; what the packages themselves print is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


# --- features ------------------------------------------------------------------------------------------------------


def check_compile(inspection):
    """torch.compile does what the stack declares: it matches eager, or it raises."""
    import torch

    promised = [feature for feature in inspection.stack("features") if feature["name"] == "torch.compile"]
    if not promised:
        raise NotRun("the stack says nothing of it")
    inputs = torch.linspace(-2, 2, 64)
    expected = _curve(inputs)
    try:
        seen = torch.compile(_curve)(inputs)
    except Exception as error:
        if not promised[0]["available"]:
            return {"value": "raises", "bound": "raises", "findings": [promised[0]["reason"]]}
        remedy = "a C++ compiler and Python's headers must be in the image; see the traceback in `accept`'s output"
        detail = str(error).strip()[-300:]
        raise Failure(value="raises", bound="matches eager", detail=detail, remedy=remedy) from error
    if not promised[0]["available"]:
        detail = "it works, and the stack says that it does not"
        raise Failure(value="works", bound="raises", detail=detail, remedy="mend the catalog")
    largest = (seen - expected).abs().max().item()
    return inspection.judge(
        "features.compile", largest, "compiled and eager results differ", "turn it off and report it"
    )


def _curve(x):
    return (x.sin() * x.cos() + x.exp()).relu().sum() + x


# --- training ------------------------------------------------------------------------------------------------------

_TRAINING_REMEDY = "run `train` in the image and compare its epochs with docs/decisions/0006-the-fine-tune.md"


def trained(inspection):
    """The bundled fine-tune, run once for the four checks that look at it."""
    if not inspection.training and inspection.training_error is None:
        import train

        settings = train.parse_settings([])

        def on_step(step, steps, loss):
            if step % 10 == 0 or step == steps:
                inspection.on_progress(step, steps, "loss %.3f" % loss)

        try:
            inspection.training = train.fine_tune(settings, on_step=on_step)[0]
        except Exception as error:
            inspection.training_error = "%s: %s" % (type(error).__name__, error)
            raise
    if inspection.training_error is not None:
        raise Failure(detail="the fine-tune broke: %s" % inspection.training_error, remedy=_TRAINING_REMEDY)
    return inspection.training


def check_accuracy(inspection):
    return inspection.judge("training.accuracy", trained(inspection)["accuracy"], "it did not learn", _TRAINING_REMEDY)


def check_negated(inspection):
    detail = "it counts words and does not attend to the negation"
    return inspection.judge("training.negated", trained(inspection)["negated"], detail, _TRAINING_REMEDY)


def check_loss(inspection):
    return inspection.judge("training.loss", trained(inspection)["loss"], "the loss stays high", _TRAINING_REMEDY)


def check_seconds(inspection):
    remedy = "is the machine busy, or are its cores limited? `docker stats` shows it"
    return inspection.judge("training.seconds", trained(inspection)["seconds"], "it trains too slowly", remedy)


# --- GPU -----------------------------------------------------------------------------------------------------------


def check_gpu(inspection):
    """A kernel really runs and agrees with the CPU."""
    import torch

    if not torch.cuda.is_available():
        if inspection.require_gpu:
            remedy = "start it with `--gpus all`; `envbuilder doctor` says what is missing"
            raise Failure(value="none", bound="a GPU", detail="no GPU is visible in here", remedy=remedy)
        raise NotRun("no GPU is visible in here")
    numbers = torch.arange(4096.0).reshape(64, 64) / 4096
    seen = (numbers.cuda() @ numbers.cuda()).cpu()
    largest = (seen - numbers @ numbers).abs().max().item()
    inspection.facts["gpu"] = torch.cuda.get_device_name()
    inspection.facts["capability"] = "%d.%d" % torch.cuda.get_device_capability()
    return inspection.judge("gpu.kernel", largest, "the GPU's result is not the CPU's", "try another driver")


CHECKS = (
    Check("identity.python", "Python is the locked one", check_python),
    Check("identity.os", "the operating system is the locked one", check_os),
    Check("identity.packages", "installed packages are the locked ones, none more, none fewer", check_packages),
    Check("identity.torch", "torch is the locked one", check_version("torch")),
    Check("identity.torchvision", "torchvision is the locked one", check_version("torchvision")),
    Check("identity.torchaudio", "torchaudio is the locked one", check_version("torchaudio")),
    Check("identity.cuda", "CUDA is the locked one", check_cuda),
    Check("identity.cudnn", "cuDNN is the locked one", check_cudnn),
    Check("identity.nccl", "NCCL is the locked one", check_nccl),
    Check("identity.arch_list", "torch has kernels for the GPUs it should", check_arch_list),
    Check("imports.failed", "every package imports", check_imports),
    Check("features.compile", "torch.compile does what the stack says", check_compile),
    Check("training.accuracy", "BERT learns the held-out reviews", check_accuracy),
    Check("training.negated", "BERT learns the negated reviews", check_negated),
    Check("training.loss", "the training loss falls", check_loss),
    Check("training.seconds", "training takes no longer than it should", check_seconds),
    Check("gpu.kernel", "a GPU kernel agrees with the CPU", check_gpu),
)
