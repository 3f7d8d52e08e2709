"""Does what the stack promises work: compiling, quantizing, functional transforms, several processes?"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings

from acceptance.checks.inspection import Failure, NotRun


def check_compile(inspection):
    """torch.compile does what the stack declares: it matches eager, or it raises."""
    import torch

    promised = promise(inspection, "torch.compile")
    inputs = torch.linspace(-2, 2, 64)
    expected = _curve(inputs)
    try:
        seen = torch.compile(_curve)(inputs)
    except Exception as error:
        said = "%s: %s" % (type(error).__name__, str(error).strip().split("\n")[0][:200])
        if promised is None:
            raise NotRun("observed: %s" % said, "raises") from error
        if not promised["available"]:
            return {"value": "raises", "bound": "raises", "detail": promised["reason"], "findings": [said]}
        remedy = "a C++ compiler and Python's headers must be in the image; see the traceback in `accept`'s output"
        detail = str(error).strip()[-300:]
        raise Failure(value="raises", bound="matches eager", detail=detail, remedy=remedy) from error
    if promised and not promised["available"]:
        detail = "it works, and the stack says that it does not"
        raise Failure(value="works", bound="raises", detail=detail, remedy="mend the catalog")
    if promised is None and not compiled_frames():
        raise NotRun("observed: it ran, and nothing was compiled", "eager")
    if not compiled_frames():
        remedy = "unset TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE and TORCHDYNAMO_SUPPRESS_ERRORS"
        raise Failure(value="eager", bound="compiled", detail="it ran, and nothing was compiled", remedy=remedy)
    largest = (seen - expected).abs().max().item()
    return inspection.judge(
        "features.compile", largest, "compiled and eager results differ", "turn it off and report it"
    )


def promise(inspection, name):
    """What the stack says of a feature: {"available", "reason"}; None for an image that is not ours."""
    if inspection.lock is None:
        return None
    found = [feature for feature in inspection.stack("features") if feature["name"] == name]
    if not found:
        raise NotRun("the stack says nothing of it")
    return found[0]


EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "extension", "", -1, methods};
PyMODINIT_FUNC PyInit_extension(void) { return PyModule_Create(&module); }
"""


def check_extension(inspection):
    """A C extension compiles against Python's headers and loads: Triton needs this for every kernel on a GPU."""
    promised = promise(inspection, "torch.compile")
    if promised and not promised["available"]:
        raise NotRun("nothing in this stack needs it: %s" % promised["reason"])
    remedy = "a C compiler and Python's headers must be in the image (gcc, python3-dev)"
    try:
        value = build_extension()
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        detail = next((line.strip() for line in lines if "error" in line), lines[0] if lines else str(error))[:300]
        if promised is None:
            raise NotRun("observed: %s" % detail, "does not compile") from error
        raise Failure(value="does not compile", bound="loads", detail=detail, remedy=remedy) from error
    if value != 42:
        raise Failure(value=value, bound=42, detail="the extension answers wrongly", remedy=remedy)
    return {"value": "loads", "bound": "loads"}


def build_extension():
    """Compile EXTENSION with the compiler that Triton would take; returns what it answers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "gcc"
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "extension.c"), os.path.join(folder, "extension.so")
        with open(source, "w", encoding="ascii") as stream:
            stream.write(EXTENSION)
        headers = sysconfig.get_paths()["include"]
        words = [compiler, "-shared", "-fPIC", "-I", headers, source, "-o", target]
        subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        spec = importlib.util.spec_from_file_location("extension", target)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.answer()


def compiled_frames():
    """How many functions torch.compile has compiled: switched off, it returns them as they are and says nothing."""
    from torch._dynamo.utils import counters

    return counters["frames"]["ok"]


def _curve(x):
    return (x.sin() * x.cos() + x.exp()).relu().sum() + x


def check_quantization(inspection):
    """Dynamic quantization makes a model smaller and keeps its answers."""
    import io

    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8)).eval()
    quantization = getattr(torch, "ao", torch).quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    inputs = torch.randn(64, 256)
    kept = (model(inputs).argmax(-1) == small(inputs).argmax(-1)).float().mean().item()
    sizes = []
    for one in (model, small):
        stream = io.BytesIO()
        torch.save(one.state_dict(), stream)
        sizes.append(stream.tell())
    if kept < 0.9:
        raise Failure(value=kept, bound={"min": 0.9}, detail="quantized answers differ", remedy="do not quantize here")
    ratio = round(sizes[1] / sizes[0], 3)
    return inspection.judge(
        "features.quantization", ratio, "the quantized model is not smaller", "do not quantize here"
    )


def check_transforms(inspection):
    """functorch's vmap, grad and jacrev agree with what they stand for."""
    import torch

    try:
        from torch.func import grad, jacrev, vmap
    except ImportError:
        from functorch import grad, jacrev, vmap

    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    worst = max(
        (vmap(lambda row: row.sin().sum())(x) - x.sin().sum(-1)).abs().max().item(),
        (grad(lambda point: (point**3).sum())(x) - 3 * x**2).abs().max().item(),
        (jacrev(torch.exp)(x[0]) - torch.diag(x[0].exp())).abs().max().item(),
    )
    return inspection.judge("features.transforms", worst, "vmap, grad or jacrev is off", "do not use them here")


def check_gradient_checkpointing(inspection):
    """Checkpointing keeps fewer activations and gives the same gradients; counted by what autograd saves."""
    import torch
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    layers = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()) for _ in range(8))
    inputs = torch.randn(32, 64, requires_grad=True)

    def measure(through):
        saved = []

        def pack(tensor):
            saved.append(tensor.numel())
            return tensor

        layers.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = inputs
            for layer in layers:
                hidden = through(layer, hidden)
            loss = hidden.pow(2).sum()
        kept = sum(saved)
        loss.backward()
        return kept, torch.cat([parameter.grad.reshape(-1).clone() for parameter in layers.parameters()])

    plain, expected = measure(lambda layer, hidden: layer(hidden))
    small, seen = measure(lambda layer, hidden: checkpoint(layer, hidden, use_reentrant=True))
    if not torch.equal(seen, expected):
        raise Failure(value="differ", bound="equal", detail="its gradients are others", remedy="do not use it here")
    ratio = round(small / plain, 3)
    return inspection.judge("features.checkpointing", ratio, "it keeps as much as without", "do not use it here")


_WORKER = """
import os, sys, torch, torch.distributed as dist
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
mine = torch.arange(1000, dtype=torch.float64) * (rank + 1)
dist.all_reduce(mine)
assert torch.equal(mine, torch.arange(1000, dtype=torch.float64) * 3), "all_reduce is not exact"
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
data = torch.randn(8, 16, dtype=torch.float64)
model(data).mean().backward()
expected = [parameter.grad.clone() for parameter in model.parameters()]
model.zero_grad()
parallel = torch.nn.parallel.DistributedDataParallel(model)
parallel(data[rank * 4 : rank * 4 + 4]).mean().backward()
worst = max((parameter.grad - grad).abs().max().item() for parameter, grad in zip(model.parameters(), expected))
print(worst)
dist.destroy_process_group()
"""


def check_distributed(inspection):
    """Two real processes over gloo: all-reduce exact on every element, DDP's gradients those of one process."""
    import torch  # noqa: F401 - where there is none, the processes need not try

    with tempfile.TemporaryDirectory() as folder:
        meeting = os.path.join(folder, "meeting")
        both = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(rank), meeting],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                universal_newlines=True,
                env=dict(os.environ, OMP_NUM_THREADS="1"),
            )
            for rank in (0, 1)
        ]
        try:
            answers = [process.communicate() for process in both]
        finally:
            for process in both:
                process.kill()
                process.wait()
    for process, (_, said) in zip(both, answers):
        if process.returncode != 0:
            last = (said.strip().splitlines() or ["no word"])[-1][:300]
            remedy = (
                "two processes must reach each other by this host's name: see /etc/hosts, or set GLOO_SOCKET_IFNAME=lo"
            )
            raise Failure(value="died", bound="agree", detail="a process died: " + last, remedy=remedy)
    worst = max(float(said.split()[-1]) for said, _ in answers)  # gloo of torch 2.10 greets on stdout before it
    return inspection.judge("features.distributed", worst, "DDP's gradients are not those of one process", "report it")


class Rows:
    """A dataset of 1 MB rows: 64 MB of shared memory do not hold what two workers have on the way."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        import torch

        return torch.full((512, 512), float(index))


def check_data_loader(inspection):
    """Two workers hand 64 MB over in shared memory, every row once."""
    import torch
    from torch.utils.data import DataLoader

    free = os.statvfs("/dev/shm")
    have = free.f_frsize * free.f_blocks
    fields = inspection.judge(
        "features.shared_memory", have, "/dev/shm holds %d MB" % (have >> 20), "start it with `--shm-size 1g`", unit="B"
    )
    pinned = torch.cuda.is_available()
    seen = sum(batch[:, 0, 0].sum().item() for batch in DataLoader(Rows(), 8, num_workers=2, pin_memory=pinned))
    if seen != sum(range(64)):
        raise Failure(value=seen, bound=sum(range(64)), detail="rows were lost on the way", remedy="use num_workers=0")
    return fields
