"""What the doctor tells whom: by distribution, by driver, by GPU, and by what the driver itself says of CUDA."""

from dataclasses import replace

import pytest
from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor import Case, Finding, diagnose, remedies
from envbuilder.doctor.stack_rules import best_for, driver_of
from envbuilder.host.records import GpuDevice, GpuState, Host, MachineState
from envbuilder.model import Request
from envbuilder.resolve.command_line import parse_request
from envbuilder.versions import driver_reaches


def on(distribution: str | None, *like: str) -> Host:
    return Host(machine=MachineState(distribution=distribution, like=like))


def with_gpu(
    name: str,
    capability: str,
    driver: str,
    cuda: str | None = None,
    machine: MachineState | None = None,
) -> Host:
    gpu = GpuState(
        devices=(GpuDevice(name=name, capability=Version(capability)),),
        driver=driver,
        cuda_init=0 if cuda else None,
        cuda_newest=Version(cuda) if cuda else None,
    )
    return Host(gpu=gpu, machine=machine or MachineState(processor="x86_64"))


def finding(
    host: Host, facts: Catalog, name: str, request: Request | None = None
) -> Finding:
    case = Case(host=host, catalog=facts, request=request)
    return next(finding for finding in diagnose(case) if finding.id == name)


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        (on("ubuntu", "debian"), remedies.UBUNTU_DRIVER),
        (on("zorin", "ubuntu"), remedies.UBUNTU_DRIVER),
        (on("linuxmint", "ubuntu", "debian"), remedies.MINT_DRIVER),
        (on("pop", "ubuntu", "debian"), remedies.POP_DRIVER),
        (on("debian"), remedies.DEBIAN_DRIVER),
        (on("rocky", "rhel", "fedora"), remedies.DNF_DRIVER),
        (on("sles", "suse"), remedies.SUSE_DRIVER),
        (on("arch"), remedies.ARCH_DRIVER),
        (on("garuda", "arch"), remedies.ARCH_DRIVER),
        (on("nixos"), remedies.DRIVER_PAGE),
        (on(None), remedies.DEBIAN_DRIVER),
    ],
)
def test_driver_for_a_distribution(host: Host, remedy: remedies.Remedy) -> None:
    assert remedies.driver(host) == remedy


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        (on("linuxmint", "ubuntu", "debian"), remedies.UBUNTU_DOCKER),
        (on("linuxmint", "debian"), remedies.DEBIAN_DOCKER),
        (on("opensuse-leap", "suse", "opensuse"), remedies.SUSE_DOCKER),
        (on("manjaro", "arch"), remedies.ARCH_DOCKER),
        (on("alpine"), remedies.DOCKER_PAGE),
    ],
)
def test_docker_for_a_distribution(host: Host, remedy: remedies.Remedy) -> None:
    assert remedies.docker(host) == remedy


def test_open_modules_are_not_for_old_gpus() -> None:
    """What dnf and pacman install drives Turing and newer."""
    host = with_gpu(
        "NVIDIA GeForce GTX 1080 Ti",
        "6.1",
        "470.57.02",
        machine=MachineState(distribution="fedora"),
    )
    assert remedies.driver(host) == remedies.OLDER_DRIVER


def test_wsl_takes_its_driver_from_windows(facts: Catalog) -> None:
    machine = MachineState(distribution="ubuntu", wsl=True, processor="x86_64")
    host = with_gpu("GeForce RTX 2070", "7.5", "446.14", machine=machine)
    found = finding(host, facts, "stack")
    assert (found.remedy, found.source) == ("", remedies.WINDOWS_DRIVER.source)


def test_a_driver_that_dropped_the_gpu_is_not_made_newer(facts: Catalog) -> None:
    host = with_gpu("NVIDIA GeForce GTX 1080 Ti", "6.1", "590.48.01")
    found = finding(host, facts, "stack")
    assert "needs driver branch 580 or older" in found.why
    assert (found.remedy, found.source) == ("", remedies.OLDER_DRIVER.source)


# --- the driver's own CUDA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "floor", "reaches"),
    [
        ("580.00", "580.65.06", True),
        ("580", "580.65.06", True),
        ("580.10", "580.65.06", False),
        ("570.00", "580.65.06", False),
    ],
)
def test_a_number_that_only_names_a_branch(
    driver: str, floor: str, reaches: bool
) -> None:
    assert driver_reaches(Version(driver), floor) is reaches


def test_thor_gets_cuda_13_whatever_its_driver_calls_itself(facts: Catalog) -> None:
    request = parse_request(
        {"gpu": "NVIDIA Thor", "driver": "580.00", "platform": "arm64"}
    )
    thor = MachineState(
        processor="aarch64", jetson="NVIDIA Jetson AGX Thor Developer Kit"
    )
    host = with_gpu("NVIDIA Thor", "11.0", "580.00", "13.0", thor)
    for found in (best_for(Request(), host, facts), best_for(request, host, facts)):
        assert found
        assert found[1].cuda_line == "13.2"
    stack = Request(cuda=Version("13.0"), platform="linux/arm64")
    assert finding(host, facts, "stack", stack).severity == "ok"


@pytest.mark.parametrize(
    ("driver", "cuda", "meant"),
    [
        ("580.10", "13.0", "580"),  # too low a number for the CUDA that it started
        ("540.4.0", "12.6", "540.4.0"),
        ("36.4.0", "12.6", "525.60.13"),
        ("580.10", None, "580.10"),
    ],
)
def test_the_cuda_that_a_driver_started_decides(
    driver: str, cuda: str | None, meant: str, facts: Catalog
) -> None:
    host = with_gpu("GPU", "9.0", driver, cuda)
    assert driver_of(host, facts) == Version(meant)
    # A libcuda in front of the driver's own says nothing of the driver.
    in_front = replace(host, gpu=replace(host.gpu, compat=True))
    assert driver_of(in_front, facts) == Version(driver)


def test_a_driver_whose_cuda_is_older_than_its_number(facts: Catalog) -> None:
    host = with_gpu("GPU", "9.0", "580.65.06", "12.8")
    found = best_for(Request(), host, facts)
    assert found
    assert found[1].cuda_line == "12.8"
    finding_of_13 = finding(host, facts, "stack", Request(cuda=Version("13.0")))
    assert "is too new for driver 580.65.06" in finding_of_13.message
    assert "up to CUDA 12.8" in finding_of_13.why


# --- features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ("6.1", "GPU (6.1): no torch.compile, bf16, FlashAttention-2, FP8"),
        ("7.5", "GPU (7.5): no bf16, FlashAttention-2, FP8"),
        ("8.6", "GPU (8.6): no FP8"),
        (
            "9.0",
            "GPU (9.0): torch.compile, bf16, FlashAttention-2, FP8 are supported",
        ),
    ],
)
def test_features_of_a_gpu(capability: str, message: str, facts: Catalog) -> None:
    host = with_gpu("GPU", capability, "580.65.06")
    assert finding(host, facts, "features").message == message
