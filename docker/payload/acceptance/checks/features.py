"""Does what the stack promises work: compiling, quantizing, functional transforms, several processes?"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sysconfig
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.processes import run_ranks
from acceptance.text import describe, first_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection


def promise(inspection: Inspection, name: str) -> dict[str, Any] | None:
    """What the lock says of a feature: {"available", "reason"}; None without a lock."""
    if inspection.lock is None:
        return None
    for feature in inspection.locked("features"):
        if feature["name"] == name:
            promised: dict[str, Any] = feature
            return promised
    raise Skipped(f"the lock says nothing about {name}")


# --- torch.compile -------------------------------------------------------------------------------------------------


def check_compile(inspection: Inspection) -> Answer:
    """torch.compile does what the stack declares: it matches eager, or it raises."""
    import torch

    promised = promise(inspection, "torch.compile")
    inputs = torch.linspace(-2, 2, 64)
    expected = curve(inputs)
    try:
        seen = torch.compile(curve)(inputs)
    except Exception as error:
        return judge_compile_error(error, promised)
    if promised and not promised["available"]:
        raise Failure(
            "it works, although the stack says that it does not",
            value="works",
            bound="raises",
            remedy="fix the catalog",
        )
    if not compiled_frames():
        if promised is None:
            raise Skipped("observed: it ran, but nothing was compiled", "eager")
        raise Failure(
            "it ran, but nothing was compiled",
            value="eager",
            bound="compiled",
            remedy="unset TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE and TORCHDYNAMO_SUPPRESS_ERRORS",
        )
    return inspection.require(
        "features.compile",
        (seen - expected).abs().max().item(),
        detail="compiled and eager results differ",
        remedy="turn it off and report it",
    )


def judge_compile_error(error: Exception, promised: dict[str, Any] | None) -> Answer:
    """An error is right where the stack promises one."""
    summary = describe(error)
    if promised is None:
        raise Skipped(f"observed: {summary}", "raises") from error
    if promised["available"]:
        raise Failure(
            str(error).strip()[-300:],
            value="raises",
            bound="matches eager",
            remedy="the image needs a C++ compiler and Python's headers; see the traceback in `accept`'s output",
        ) from error
    return Answer(
        value="raises",
        bound="raises",
        detail=promised["reason"],
        findings=[summary],
    )


def curve(x: Any) -> Any:
    return (x.sin() * x.cos() + x.exp()).relu().sum() + x


def compiled_frames() -> int:
    """How many functions torch.compile has compiled: switched off, it returns them as they are and says nothing."""
    from torch._dynamo.utils import counters

    frames: int = counters["frames"]["ok"]
    return frames


# --- a C extension -------------------------------------------------------------------------------------------------

EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "extension", "", -1, methods};
PyMODINIT_FUNC PyInit_extension(void) { return PyModule_Create(&module); }
"""
EXTENSION_ANSWER = 42
C_COMPILER_REMEDY = (
    "the image needs a C compiler and Python's headers (gcc, python3-dev)"
)


def check_extension(inspection: Inspection) -> Answer:
    """A C extension compiles against Python's headers and loads: Triton needs this for every kernel on a GPU."""
    promised = promise(inspection, "torch.compile")
    if promised and not promised["available"]:
        raise Skipped(f"nothing in this stack needs it: {promised['reason']}")
    try:
        value = build_extension()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = compiler_error(error)
        if promised is None:
            raise Skipped(f"observed: {reason}", "does not compile") from error
        raise Failure(
            reason,
            value="does not compile",
            bound="loads",
            remedy=C_COMPILER_REMEDY,
        ) from error
    if value != EXTENSION_ANSWER:
        raise Failure(
            "the extension gives a wrong answer",
            value=value,
            bound=EXTENSION_ANSWER,
            remedy=C_COMPILER_REMEDY,
        )
    return Answer(value="loads", bound="loads")


def build_extension() -> Any:
    """Compile EXTENSION with the compiler that Triton would take; returns what it answers."""
    compiler = (
        os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "gcc"
    )
    headers = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "extension.c")
        library = Path(folder, "extension.so")
        source.write_text(EXTENSION, encoding="ascii")
        subprocess.run(
            [
                compiler,
                "-shared",
                "-fPIC",
                "-I",
                headers,
                str(source),
                "-o",
                str(library),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        return load_extension(library).answer()


def load_extension(library: Path) -> Any:
    spec = importlib.util.spec_from_file_location("extension", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler_error(error: OSError | subprocess.CalledProcessError) -> str:
    """The line that says why a compiler failed, or could not even start."""
    output = ""
    if isinstance(error, subprocess.CalledProcessError):
        output = error.stderr
    if not output:
        return first_line(str(error))
    for line in output.splitlines():
        if "error" in line:
            return first_line(line)
    return first_line(output)


# --- quantization, functional transforms, gradient checkpointing ---------------------------------------------------

LEAST_AGREEMENT = 0.9  # share of inputs that a quantized model classifies as before


def check_quantization(inspection: Inspection) -> Answer:
    """Dynamic quantization makes a model smaller and keeps its predictions."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 8),
    ).eval()
    quantized = quantize(model)
    inputs = torch.randn(64, 256)
    same = model(inputs).argmax(-1) == quantized(inputs).argmax(-1)
    agreement = same.float().mean().item()
    if agreement < LEAST_AGREEMENT:
        raise Failure(
            "quantized predictions differ",
            value=agreement,
            bound={"min": LEAST_AGREEMENT},
            remedy="do not quantize with this stack",
        )
    return inspection.require(
        "features.quantization",
        round(saved_size(quantized) / saved_size(model), 3),
        detail="the quantized model is not smaller",
        remedy="do not quantize with this stack",
    )


def quantize(model: Any) -> Any:
    import torch

    quantization = getattr(torch, "ao", torch).quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.quantize_dynamic(
            model,
            {torch.nn.Linear},
            dtype=torch.qint8,
        )


def saved_size(model: Any) -> int:
    import torch

    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.tell()


def check_transforms(inspection: Inspection) -> Answer:
    """functorch's vmap, grad and jacrev agree with the formulas."""
    import torch

    try:
        from torch.func import grad, jacrev, vmap
    except ImportError:
        from functorch import grad, jacrev, vmap

    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    row_sums = vmap(lambda row: row.sin().sum())(x)
    gradient = grad(lambda point: (point**3).sum())(x)
    jacobian = jacrev(torch.exp)(x[0])
    differences = [
        row_sums - x.sin().sum(-1),
        gradient - 3 * x**2,
        jacobian - torch.diag(x[0].exp()),
    ]
    worst = max(difference.abs().max().item() for difference in differences)
    return inspection.require(
        "features.transforms",
        worst,
        detail="vmap, grad or jacrev is off",
        remedy="do not use them with this stack",
    )


def check_gradient_checkpointing(inspection: Inspection) -> Answer:
    """Checkpointing keeps fewer activations and gives the same gradients; counted by what autograd saves."""
    import torch
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    layers = torch.nn.ModuleList()
    for _ in range(8):
        layers.append(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()))
    inputs = torch.randn(32, 64, requires_grad=True)

    kept, expected = forward_and_backward(
        layers, inputs, lambda layer, hidden: layer(hidden)
    )
    fewer_kept, gradients = forward_and_backward(
        layers,
        inputs,
        lambda layer, hidden: checkpoint(layer, hidden, use_reentrant=True),
    )
    if not torch.equal(gradients, expected):
        raise Failure(
            "gradients differ",
            value="differ",
            bound="equal",
            remedy="do not use gradient checkpointing with this stack",
        )
    return inspection.require(
        "features.checkpointing",
        round(fewer_kept / kept, 3),
        detail="it keeps as much memory as without",
        remedy="do not use gradient checkpointing with this stack",
    )


def forward_and_backward(
    layers: Any,
    inputs: Any,
    call: Callable[[Any, Any], Any],
) -> tuple[int, Any]:
    """How many numbers autograd saves for the backward pass, and the gradients of all parameters."""
    import torch

    kept: list[int] = []

    def pack(tensor: Any) -> Any:
        kept.append(tensor.numel())
        return tensor

    layers.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = inputs
        for layer in layers:
            hidden = call(layer, hidden)
        loss = hidden.pow(2).sum()
    kept_by_forward = sum(kept)
    loss.backward()
    gradients = []
    for parameter in layers.parameters():
        gradients.append(parameter.grad.reshape(-1).clone())
    return kept_by_forward, torch.cat(gradients)


# --- several processes ---------------------------------------------------------------------------------------------

RANK = """
import sys, torch, torch.distributed as dist
rank, meeting, world = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=world)
numbers = torch.arange(1000, dtype=torch.float64) * (rank + 1)
dist.all_reduce(numbers)
assert torch.equal(numbers, torch.arange(1000, dtype=torch.float64) * 3), "all_reduce is not exact"
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


def check_distributed(inspection: Inspection) -> Answer:
    """Two real processes over gloo: all-reduce exact on every element, DDP's gradients those of one process."""
    import torch  # noqa: F401 - where there is none, the processes need not try

    ranks = run_ranks(RANK, 2)
    for rank in ranks:
        if rank.exit_code != 0:
            raise Failure(
                f"a process died: {rank.last_line()}",
                value="died",
                bound="agree",
                remedy=(
                    "processes must reach each other by this host's name: "
                    "check /etc/hosts, or set GLOO_SOCKET_IFNAME=lo"
                ),
            )
    # The last word: gloo of torch 2.10 greets on stdout before it.
    differences = [float(rank.stdout.split()[-1]) for rank in ranks]
    return inspection.require(
        "features.distributed",
        max(differences),
        detail="DDP's gradients differ from those of one process",
        remedy="report it",
    )


class Rows:
    """A dataset of 1 MB rows: 64 MB of shared memory do not hold what two workers have on the way."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        import torch

        return torch.full((512, 512), float(index))


def check_data_loader(inspection: Inspection) -> Answer:
    """Two workers hand 64 MB over in shared memory, every row once."""
    import torch
    from torch.utils.data import DataLoader

    disk = os.statvfs("/dev/shm")
    size = disk.f_frsize * disk.f_blocks
    answer = inspection.require(
        "features.shared_memory",
        size,
        detail=f"/dev/shm holds {size >> 20} MB",
        remedy="start it with `--shm-size 1g`",
        unit="B",
    )
    rows = Rows()
    loader = DataLoader(rows, 8, num_workers=2, pin_memory=torch.cuda.is_available())
    total = sum(batch[:, 0, 0].sum().item() for batch in loader)
    expected = sum(range(len(rows)))
    if total != expected:
        raise Failure(
            "rows were lost between processes",
            value=total,
            bound=expected,
            remedy="use num_workers=0",
        )
    return answer
