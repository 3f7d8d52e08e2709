"""The checks, against environments and a torch made up here; the real ones run in tests/container."""

import math
import signal
import subprocess
import sys
import sysconfig
from importlib.metadata import PathDistribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from acceptance import checks, elf, processes
from acceptance.checks import (
    contract,
    features,
    gpu,
    identity,
    imports,
    linkage,
    nvcc,
    training,
)
from acceptance.deadline import Deadline, TimedOut
from acceptance.limits import parse_limits
from acceptance.runner import run_check

from .conftest import BOUNDS

LIMITS = parse_limits(BOUNDS)


def inspect(
    lock: dict[str, Any] | None = None, *, require_gpu: bool = False
) -> checks.Inspection:
    return checks.Inspection(LIMITS, lock, require_gpu)


def locked(**wheels: str) -> dict[str, Any]:
    return {
        "stack": {},
        "wheels": [
            {"name": name, "version": version} for name, version in wheels.items()
        ],
    }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty site-packages that the checks look at."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def install(site: Path, name: str, version: str, **files: str) -> PathDistribution:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)
    return PathDistribution(folder)


# --- Requires-Python ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "problems"),
    [
        ("Requires-Python: >=3.8", []),
        ("Requires-Python: banana", []),
        ("", []),
        (
            "Requires-Python: <3,>=2.7",
            [f"old needs Python <3,>=2.7, the image has {sys.version.split()[0]}"],
        ),
    ],
)
def test_an_upper_bound_of_python_is_a_requirement(
    site: Path, bounds: str, problems: list[str]
) -> None:
    folder = site / "old-1.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: old\nVersion: 1\n{bounds}\n"
    (folder / "METADATA").write_text(text)
    found = list(identity.unmet_python(PathDistribution(folder)))
    assert found == problems


# --- identity ------------------------------------------------------------------------------------------------------


def test_locked_packages_are_installed(site: Path) -> None:
    install(site, "Zope.interface", "1.0")
    assert (
        identity.check_packages(inspect(locked(**{"zope-interface": "1.0"}))).value == 0
    )


def test_two_versions_over_each_other_are_not_the_locked_one(site: Path) -> None:
    install(site, "numpy", "1.26.4")
    install(site, "numpy", "2.0.0")
    with pytest.raises(checks.Failure) as failure:
        identity.check_packages(inspect(locked(numpy="1.26.4")))
    assert failure.value.answer.detail == "numpy is 1.26.4 and 2.0.0, locked is 1.26.4"


def test_more_fewer_and_other_packages_are_all_named(site: Path) -> None:
    install(site, "extra", "1")
    install(site, "torch", "2.0.1+cpu")
    with pytest.raises(checks.Failure) as failure:
        identity.check_packages(inspect(locked(torch="2.0.1", absent="1")))
    assert failure.value.answer.value == 3
    for problem in (
        "absent is missing",
        "extra is not in the lock",
        "torch is 2.0.1+cpu, locked is 2.0.1",
    ):
        assert problem in failure.value.answer.detail


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2024.02.02", "2024.2.2", True),
        ("1.0", "1.0.0", True),
        ("2.0.1+cpu", "2.0.1", False),
        ("odd!", "odd!", True),
    ],
)
def test_two_spellings_of_a_version(one: str, other: str, same: bool) -> None:
    assert identity.is_same_version(one, other) is same


def test_facts_are_read_without_a_lock_too() -> None:
    inspection = inspect()
    with pytest.raises(checks.Skipped):
        identity.check_python(inspection)
    assert (
        inspection.facts["python"]
        == f"{sys.version_info.major}.{sys.version_info.minor}"
    )


def test_cuda_runtime_is_the_one_that_torch_uses(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "torch", MagicMock(version=SimpleNamespace(cuda="11.7"))
    )
    install(site, "nvidia-cuda-runtime-cu12", "12.1.105")
    lock = {"stack": {"cuda": "11.7.99"}}
    with pytest.raises(
        checks.Failure,
        match=r"built for CUDA 11\.7, the image has the CUDA runtime 12\.1\.105",
    ):
        identity.check_cuda(inspect(lock))
    install(site, "nvidia-cuda-runtime-cu11", "11.7.99")
    assert identity.check_cuda(inspect(lock)) == checks.Answer("11.7.99", "11.7.99")


def test_cuda_13_stacks_name_the_release_not_the_runtime(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "torch", MagicMock(version=SimpleNamespace(cuda="13.0"))
    )
    install(site, "cuda-toolkit", "13.0.3.0")
    install(site, "nvidia-cuda-runtime", "13.0.96")
    assert identity.check_cuda(inspect({"stack": {"cuda": "13.0.3"}})) == checks.Answer(
        "13.0.3", "13.0.3"
    )
    with pytest.raises(
        checks.Failure, match=r"the lock says 13\.0\.2, the image has 13\.0\.3"
    ):
        identity.check_cuda(inspect({"stack": {"cuda": "13.0.2"}}))


CPU = {
    "stack": {
        "flavour": "cpu",
        "cuda": None,
        "cudnn": None,
        "nccl": None,
        "arch_list": [],
        "driver_floor": "",
    }
}


def test_an_image_for_cpus_has_no_cuda(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = MagicMock(version=SimpleNamespace(cuda=None), _C=SimpleNamespace())
    torch.backends.cudnn.version.return_value = None
    monkeypatch.setitem(sys.modules, "torch", torch)
    inspection = inspect(CPU)
    assert identity.check_cuda(inspection) == checks.Answer("none", "none")
    for check in (
        identity.check_cudnn,
        identity.check_nccl,
        identity.check_arch_list,
        linkage.check_variables,
    ):
        with pytest.raises(checks.Skipped):
            check(inspection)
    assert {
        name: inspection.facts[name] for name in ("cuda", "cudnn", "arch_list")
    } == dict.fromkeys(("cuda", "cudnn", "arch_list"))


def test_torch_of_the_wrong_kind_is_detected(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = MagicMock(version=SimpleNamespace(cuda=None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    torch.cuda.nccl.version.side_effect = AttributeError(
        "module 'torch._C' has no attribute '_nccl_version'"
    )
    for check, promised in (
        (identity.check_cuda, {"cuda": "13.0.3"}),
        (identity.check_nccl, {"nccl": "2.30.7"}),
    ):
        with pytest.raises(checks.Failure, match="it cannot be read in this image"):
            check(inspect({"stack": promised}))
    install(site, "nvidia-cuda-runtime", "13.0.96")
    with pytest.raises(
        checks.Failure, match=r"no CUDA, but the image has the CUDA runtime 13\.0\.96"
    ):
        identity.check_cuda(inspect(CPU))
    torch.version.cuda = "13.0"
    with pytest.raises(
        checks.Failure,
        match=r"torch is built for CUDA 13\.0; the image has the CUDA runtime 13",
    ):
        identity.check_cuda(inspect(CPU))


# --- linkage -------------------------------------------------------------------------------------------------------

CUPTI = "triton/backends/nvidia/lib/cupti"


@pytest.mark.parametrize(
    ("places", "twice"),
    [
        ([f"{CUPTI}/libcupti.so.12"], 0),
        ([f"{CUPTI}/libcupti.so.12", f"{CUPTI}/libcupti.so"], 2),  # a copy of the copy
        (["torch/lib/libcupti.so.12"], 1),
        ([f"{CUPTI}/libcupti.so.12", "torch/lib/libcupti.so.12"], 1),
    ],
)
def test_triton_may_have_one_private_cupti(
    site: Path, monkeypatch: pytest.MonkeyPatch, places: list[str], twice: int
) -> None:
    monkeypatch.setattr(linkage, "PLACES", (str(site),))
    monkeypatch.setattr(
        linkage,
        "read_elf",
        lambda path: elf.Library(whole=True, soname="libcupti.so.12"),
    )
    for number, place in enumerate(["nvidia/cuda_cupti/lib/libcupti.so.12", *places]):
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(str(number))
    if twice:
        with pytest.raises(checks.Failure, match=r"libcupti\.so\.12 is in"):
            linkage.check_single(inspect(locked()))
    else:
        (finding,) = linkage.check_single(inspect(locked())).findings
        assert finding.startswith(f"{CUPTI}/libcupti.so.12: Proton")


@pytest.mark.parametrize(
    ("library", "lacks", "excused"),
    [
        (
            "nvidia/cufile/lib/libcufile_rdma.so.1",
            ["libmlx5.so.1", "librdmacm.so.1"],
            True,
        ),
        ("nvidia/cu13/lib/libcufile_rdma.so.1", ["libmlx5.so.1"], True),
        (
            "nvidia/cu13/lib/libcufile_rdma.so.1",
            ["libmlx5.so.1", "libcufile.so.0"],
            False,
        ),
        ("nvidia/cu13/lib/libcufile_rdma.so.1", [], False),  # it is broken in itself
        ("nvidia/cufile/lib/libcufile.so.0", ["libmlx5.so.1"], False),
        ("nvidia/nvshmem/lib/nvshmem_transport_ibrc.so.3", ["libmlx5.so.1"], True),
        ("nvidia/nvshmem/lib/nvshmem_transport_ibrc.so.3", ["libmpi.so.40"], False),
        ("nvidia/nvshmem/lib/libnvshmem_host.so.3", ["libmlx5.so.1"], False),
    ],
)
def test_plugin_may_lack_only_the_library_it_connects(
    site: Path, library: str, lacks: list[str], excused: bool
) -> None:
    failed = {str(site / library): {"error": "cannot open", "missing": lacks}}
    findings = linkage.take_out_excused(failed, LIMITS.exceptions["linkage.loads"])
    assert (failed == {}) is excused
    assert [line.split(":")[0] for line in findings] == [
        f"{library} lacks {' and '.join(lacks)}"
    ] * excused


def test_needed_libraries_are_read_from_the_file() -> None:
    library = elf.read_elf(resource_library())
    assert library is not None
    assert library.whole
    assert "libc.so.6" in library.needed


def resource_library() -> str:
    """A shared library that every Python on Linux has loaded or brings: its own, or a module's."""
    with Path("/proc/self/maps").open() as stream:
        paths = {
            line.split(None, 5)[5].strip()
            for line in stream
            if len(line.split(None, 5)) == 6
        }
    return next(
        path for path in sorted(paths) if path.endswith(".so") and "lib-dynload" in path
    )


# --- processes -----------------------------------------------------------------------------------------------------


def test_processes_end_with_a_check_that_times_out() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with pytest.raises(TimedOut), processes.killed_at_end(process):
        raise TimedOut
    assert process.returncode == -signal.SIGKILL
    assert process.stdout is not None
    assert process.stdout.closed


def test_each_rank_has_its_own_output_and_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = "import sys; print('rank', *sys.argv[1::2]); sys.stderr.write('a\\nlast'); sys.exit(int(sys.argv[1]))"
    ranks = processes.run_ranks(script, 2)
    assert [rank.exit_code for rank in ranks] == [0, 1]
    assert [rank.stdout for rank in ranks] == ["rank 0 2\n", "rank 1 2\n"]
    assert ranks[1].last_line() == "last"
    assert "rank 1 2" in capsys.readouterr().err  # for NCCL_DEBUG=INFO


def test_silent_rank_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    (rank,) = processes.run_ranks("raise SystemExit(3)", 1)
    assert (rank.exit_code, rank.last_line()) == (3, "it printed nothing")


# --- the lock ------------------------------------------------------------------------------------------------------


def test_lock_facts_match_those_of_the_host(tmp_path: Path) -> None:
    inspection = inspect()
    inspection.read_lock(tmp_path / "envbuilder.lock")
    assert inspection.lock is None
    (tmp_path / "envbuilder.lock").write_text(
        '{"stack": {"flavour": "cpu"}, "wheels": [{"size": 3}, {"size": 4}]}'
    )
    inspection.read_lock(tmp_path / "envbuilder.lock")
    assert (inspection.flavour, inspection.facts["wheel_bytes"]) == ("cpu", 7)
    assert inspection.facts["lock"].startswith("sha256:")


# --- the reference -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([1.0, 0.5], 2),
        ([1.0, 0.6], 2),
        ([0.9, 0.5], 1),
        ([1.0, float("nan")], 2),
        ([float("nan"), 0.5], 1),
    ],
)
def test_the_first_step_that_leaves_the_reference(
    losses: list[float], step: int
) -> None:
    assert training.first_difference(losses, [1.0, 0.5]) == step


@pytest.mark.parametrize("losses", [[float("nan"), 1.0], [1.0, float("nan")]])
def test_nan_loss_is_never_within_a_bound(losses: list[float]) -> None:
    difference = training.largest_difference(losses, [1.0, 1.0])
    assert math.isnan(difference)
    with pytest.raises(checks.Failure):
        inspect().require("training.reference", difference)
    assert training.largest_difference([1.0], [1.0, 1.0]) == math.inf


# --- imports -------------------------------------------------------------------------------------------------------


def test_imported_modules_of_a_distribution(site: Path) -> None:
    files = {
        "a.py": "",
        "b/__init__.py": "",
        "b/c.py": "",
        "_d.py": "",
        "libe.so": "",
        "f.abi3.so": "",
        "data/g.txt": "",
    }
    assert imports.top_level(install(site, "plain", "1", **files)) == ["a", "b", "f"]
    below = {
        "google/protobuf/__init__.py": "",
        "google/_upb/__init__.py": "",
        "google/protobuf/x/__init__.py": "",
    }
    assert imports.top_level(install(site, "namespaced", "1", **below)) == [
        "google.protobuf"
    ]


def test_package_with_much_output_does_not_block(site: Path) -> None:
    install(
        site,
        "loud",
        "1",
        **{
            "loud.py": "import sys; sys.stderr.write('x' * 1_000_000); print('{}'); print(1)"
        },
    )
    assert imports.check_imports(inspect(locked())).value == 0


def test_failed_imports_are_named_and_warnings_are_findings(site: Path) -> None:
    install(site, "bad", "1", **{"bad.py": "import nothing_like_it"})
    install(
        site,
        "old",
        "1",
        **{"old.py": "import warnings; warnings.warn('soon gone', DeprecationWarning)"},
    )
    with pytest.raises(checks.Failure) as failure:
        imports.check_imports(inspect(locked()))
    assert failure.value.answer.value == 1
    assert failure.value.answer.detail.startswith(
        "bad: ModuleNotFoundError: No module named 'nothing_like_it'"
    )
    assert failure.value.answer.findings == ["DeprecationWarning: soon gone (old)"]


def test_package_that_kills_python_is_reported_with_its_output(site: Path) -> None:
    install(
        site,
        "deadly",
        "1",
        **{"deadly.py": "import os; os.write(2, b'boom\\n'); os._exit(9)"},
    )
    with pytest.raises(
        checks.Failure, match=r"Python died \(exit code 9\) after 0 packages: boom"
    ):
        imports.check_imports(inspect())


# --- features ------------------------------------------------------------------------------------------------------


def promise(available: bool) -> dict[str, Any]:
    return {
        "stack": {
            "features": [
                {
                    "name": "torch.compile",
                    "available": available,
                    "reason": "Python is too new",
                }
            ]
        }
    }


def torch_whose_compile_does(
    monkeypatch: pytest.MonkeyPatch, call: Any, frames: int = 1
) -> None:
    torch, utils = MagicMock(), MagicMock(counters={"frames": {"ok": frames}})
    torch.compile.return_value = call
    utils_modules = {
        "torch": torch,
        "torch._dynamo": MagicMock(utils=utils),
        "torch._dynamo.utils": utils,
    }
    for name, module in utils_modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def over() -> Any:
    """A deadline that is over: its alarm ends the check, and until it is rung there is plenty of time."""
    deadline = Deadline(60, 1)
    deadline.started -= 61
    return deadline


def ring_the_alarm(*words: object, **options: object) -> None:
    """A hang that takes no time."""
    signal.raise_signal(signal.SIGALRM)


def test_hanging_compile_times_out_for_every_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch_whose_compile_does(monkeypatch, ring_the_alarm)
    check = checks.Check("features.compile", "", features.check_compile)
    for available in (True, False):
        answer = run_check(check, inspect(promise(available)), over())
        assert (answer["status"], answer["detail"]) == (
            "failed",
            "took longer than 60 s",
        )


def test_unsupported_compile_raises_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch_whose_compile_does(
        monkeypatch,
        MagicMock(side_effect=RuntimeError("Python 3.11+ not yet supported")),
    )
    answer = features.check_compile(inspect(promise(False)))
    assert answer.detail == "Python is too new"
    assert answer.findings == ["RuntimeError: Python 3.11+ not yet supported"]


def test_disabled_compile_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_whose_compile_does(monkeypatch, MagicMock(), frames=0)
    with pytest.raises(checks.Failure, match="nothing was compiled"):
        features.check_compile(inspect(promise(True)))


# --- training ------------------------------------------------------------------------------------------------------


def test_a_training_that_a_deadline_ended_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = MagicMock(fine_tune=MagicMock(side_effect=ring_the_alarm))
    monkeypatch.setattr(training, "load_job", lambda: job)
    monkeypatch.setitem(sys.modules, "torch", MagicMock())
    inspection = inspect()
    accuracy = checks.Check("training.accuracy", "", training.check_accuracy)
    negated = checks.Check("training.negated", "", training.check_negated)
    first = run_check(accuracy, inspection, over())
    second = run_check(negated, inspection, Deadline(60, 1))
    assert first["detail"] == "took longer than 60 s"
    assert second["detail"] == "the training job broke: it did not end in time"
    assert job.fine_tune.call_count == 1


@pytest.mark.parametrize(
    "files",
    [
        {"train.py": "NAME = 'the job'"},
        {"train/__init__.py": "", "train/job.py": "NAME = 'the job'"},
    ],
    ids=["a module, in an older image", "a package"],
)
def test_training_job_of_the_image_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "train"]:
        monkeypatch.delitem(sys.modules, name)
    assert training.load_job().NAME == "the job"
    for name in ("train", "train.job"):  # what was found here is not another test's
        sys.modules.pop(name, None)


def test_training_job_without_torch_is_an_error_not_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the check that runs it nor those that look at its figures."""
    monkeypatch.setattr(
        training,
        "load_job",
        MagicMock(side_effect=ModuleNotFoundError("No torch", name="torch")),
    )
    inspection = inspect()
    for check in (training.check_accuracy, training.check_loss):
        result = run_check(
            checks.Check("training.accuracy", "", check), inspection, Deadline(60, 1)
        )
        assert (result["status"], result["detail"]) == (
            "error",
            "torch is not installed in this image",
        )


# --- GPU -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A torch that sees an H100 and has code for older GPUs."""
    torch = MagicMock()
    torch.cuda.is_available.return_value = True
    torch.cuda.device_count.return_value = 1
    torch.cuda.get_device_name.return_value = "NVIDIA H100"
    torch.cuda.get_device_capability.return_value = (9, 0)
    torch._C._cuda_getArchFlags.return_value = "sm_70 sm_86"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(gpu.glob, "glob", lambda _: [])
    return torch


def test_gpu_without_kernels_fails_with_a_remedy(torch: Any) -> None:
    inspection = inspect()
    with pytest.raises(checks.Failure) as failure:
        gpu.check_capability(inspection)
    assert (
        failure.value.answer.detail
        == "NVIDIA H100 has compute capability 9.0, torch has kernels for sm_70 sm_86"
    )
    assert (
        failure.value.answer.remedy
        == "build for this GPU: `envbuilder build --gpu 9.0`"
    )


def test_a_kernel_that_does_not_run_is_explained(torch: Any) -> None:
    torch.arange.return_value.reshape.return_value.__truediv__.return_value.cuda.side_effect = RuntimeError(
        "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might"
    )
    with pytest.raises(checks.Failure, match="torch has no kernels for this GPU"):
        gpu.check_kernel(inspect())


@pytest.mark.parametrize(
    ("arches", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),  # within a major version, upwards
        ("sm_86", (8, 0), False),
        ("sm_86", (9, 0), False),
        ("compute_70", (9, 0), True),  # PTX
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),  # on that capability alone
        ("compute_90a", (10, 0), False),
        ("sm_100f", (10, 3), True),  # within its family
        ("compute_100f", (10, 3), True),
        ("compute_100f", (12, 0), False),
        ("sm_103f", (10, 0), False),
        ("gfx90a", (9, 0), False),
        ("sm_120", (12, 0), True),
        ("sm_100", (12, 0), False),
    ],
)
def test_checks_run_where_they_apply(
    arches: str, capability: tuple[int, int], runs: bool
) -> None:
    assert gpu.runs_on([arches], capability) is runs


def test_no_gpu_is_not_run_or_failed(torch: Any) -> None:
    torch.cuda.is_available.return_value = False
    torch.cuda.init.side_effect = RuntimeError("Found no NVIDIA driver on your system.")
    for check in (
        gpu.check_visible,
        gpu.check_capability,
        gpu.check_kernel,
        gpu.check_precision,
        gpu.check_memory,
    ):
        with pytest.raises(checks.Skipped):
            check(inspect())
    with pytest.raises(checks.Failure, match="the container has no NVIDIA driver"):
        gpu.check_visible(inspect(require_gpu=True))


def test_cpu_image_runs_no_gpu_checks(
    torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.glob, "glob", lambda _: ["/dev/nvidia0"])
    torch.cuda.is_available.return_value = False
    torch.cuda.init.side_effect = AssertionError("Torch not compiled with CUDA enabled")
    for check in (
        *(gpu.check_visible, gpu.check_capability, gpu.check_kernel),
        *(gpu.check_precision, gpu.check_memory, gpu.check_nccl),
    ):
        with pytest.raises(
            checks.Skipped, match="not applicable: this image is for CPUs"
        ):
            check(inspect(CPU))
    monkeypatch.setattr(gpu.glob, "glob", lambda _: [])
    with pytest.raises(checks.Failure, match="Torch not compiled with CUDA enabled"):
        gpu.check_visible(inspect(CPU, require_gpu=True))


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (
            "Error 803: system has unsupported display driver / cuda driver combination",
            "do not match",
        ),
        (
            "Error 804: forward compatibility was attempted on non supported HW",
            "data-center GPUs only",
        ),
        (
            "Error 35: CUDA driver version is insufficient for CUDA runtime version",
            "older than this CUDA",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 11040).",
            "older than this CUDA",
        ),
        ("Error 802: system not yet initialized", "fabric"),
        ("something new", "something new"),
    ],
)
def test_unusable_gpu_is_never_ignored(
    torch: Any, monkeypatch: pytest.MonkeyPatch, said: str, meaning: str
) -> None:
    torch.cuda.is_available.return_value = False
    torch.cuda.init.side_effect = RuntimeError(said)
    monkeypatch.setattr(
        gpu.glob,
        "glob",
        lambda pattern: ["/dev/nvidia0"] if "nvidia" in pattern else [],
    )
    with pytest.raises(checks.Failure) as failure:
        gpu.check_visible(inspect())
    assert meaning in failure.value.answer.detail
    assert failure.value.answer.remedy


# --- the CUDA compiler ---------------------------------------------------------------------------------------------

DEVEL = {
    "stack": {
        "flavour": "devel",
        "cuda": "13.2.2",
        "arch_list": ["sm_75", "sm_90a", "sm_100", "sm_120"],
    }
}
NO_DRIVER = "error 35 CUDA driver version is insufficient for CUDA runtime version"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """nvcc as a shell script; the program it "compiles" says `program`; torch builds with a Python script."""

    def make(
        release: str = "13.2, V13.2.86",
        program: str = NO_DRIVER,
        compiles: str = "",
        build: str = "",
    ) -> None:
        monkeypatch.setitem(
            sys.modules, "torch", MagicMock(cuda=MagicMock(is_available=lambda: False))
        )
        script = (
            f'if [ "$1" = --version ]; then echo "Cuda compilation tools, release {release}"; exit; fi\n'
            f'{compiles}\nprintf "#!/bin/sh\\necho {program}\\n" >"$4"; chmod 755 "$4"\n'
        )
        (tmp_path / "nvcc").write_text(f"#!/bin/sh\n{script}")
        (tmp_path / "nvcc").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(
            nvcc,
            "BUILD",
            build or "import os; print('ran on', os.environ['TORCH_CUDA_ARCH_LIST'])",
        )

    return make


def test_a_compiler_that_works(compiler: Any) -> None:
    compiler()
    assert nvcc.check_nvcc(inspect(DEVEL)) == checks.Answer(
        value="compiles, links and runs",
        bound="compiles, links and runs",
        detail="nvcc 13.2.86; a program compiles, links and starts for sm_120; without a GPU CUDA says: "
        "CUDA driver version is insufficient for CUDA runtime version; "
        "an extension of C++ and CUDA compiles and links for 12.0; it ran on 12.0",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"release": "12.4, V12.4.131"},
            "torch is built for CUDA 13.2, nvcc is 12.4.131",
        ),
        (
            {
                "compiles": "echo 'sample.cu(3): fatal error: cuda_runtime.h: No such file or directory' >&2; exit 1"
            },
            "a CUDA program does not compile: sample.cu(3): fatal error: cuda_runtime.h: No such file or directory",
        ),
        (
            {
                "compiles": "echo 'ld: cannot find -lcudart_static: No such file\ncollect2: error: 1' >&2; exit 1"
            },
            "a CUDA program does not compile: ld: cannot find -lcudart_static: No such file",
        ),
        (
            {"program": "error 999 unknown error"},
            "1 + 2 on the GPU: the program prints 'error 999 unknown error'",
        ),
        ({"program": "sum 4"}, "1 + 2 on the GPU: the program prints 'sum 4'"),
        (
            {
                "build": "import sys; sys.exit('[1/3] c++ …\\nCUDAContext.h:10: fatal error: cusparse.h: No such file')"
            },
            "a torch extension does not build: CUDAContext.h:10: fatal error: cusparse.h: No such file",
        ),
        (
            {"build": "assert False, 'it answers wrongly'"},
            "a torch extension does not build: AssertionError: it an",
        ),
    ],
    ids=[
        "another CUDA",
        "no header",
        "no library",
        "CUDA fails",
        "a wrong sum",
        "no header of torch",
        "a wrong answer",
    ],
)
def test_a_compiler_that_does_not_work_is_explained(
    compiler: Any, words: dict[str, str], said: str
) -> None:
    compiler(**words)
    with pytest.raises(checks.Failure) as failure:
        nvcc.check_nvcc(inspect(DEVEL))
    assert failure.value.answer.detail.startswith(said)
    assert failure.value.answer.remedy


def test_a_devel_image_without_nvcc_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(checks.Failure, match="nvcc is not on PATH"):
        nvcc.check_nvcc(inspect(DEVEL))


@pytest.mark.parametrize(
    ("lock", "check", "said"),
    [
        (None, nvcc.check_nvcc, "this image has no lock that promises a CUDA compiler"),
        (
            {"stack": {}},
            nvcc.check_nvcc,
            "this is a runtime image: only devel images have a CUDA compiler",
        ),
        (
            DEVEL,
            contract.check_nvcc,
            "this is a devel image; features.nvcc checks its compiler",
        ),
    ],
    ids=["no lock", "runtime", "devel"],
)
def test_which_flavour_has_a_compiler(
    lock: dict[str, Any] | None, check: Any, said: str
) -> None:
    with pytest.raises(checks.Skipped) as reason:
        check(inspect(lock))
    assert reason.value.answer.detail == said
