"""The way to the GPUs is what the engine offers, and never silently none."""

import pytest

from envbuilder.engine.gpu_access import (
    CDI_ALL,
    GpuAccess,
    GpuSupport,
    find_gpu_failure,
    plan_gpu,
    run_options,
)


@pytest.mark.parametrize(
    ("offers", "access"),
    [
        (GpuSupport(), GpuAccess.NONE),
        (GpuSupport(runtimes=("runc",)), GpuAccess.NONE),
        (GpuSupport(runtimes=("nvidia", "runc")), GpuAccess.RUNTIME),
        (GpuSupport(cdi_devices=(CDI_ALL,), runtimes=("nvidia",)), GpuAccess.CDI),
        (GpuSupport(cdi_devices=("vendor.example/net=0",)), GpuAccess.NONE),
        (GpuSupport(device_nodes=True), GpuAccess.GPUS),
    ],
)
def test_auto_uses_the_support_of_the_engine(
    offers: GpuSupport, access: GpuAccess
) -> None:
    assert plan_gpu(offers).access is access


def test_use_of_the_cpu_is_announced() -> None:
    assert "running on the CPU" in plan_gpu(GpuSupport()).reason


@pytest.mark.parametrize(
    "access", [GpuAccess.CDI, GpuAccess.RUNTIME, GpuAccess.GPUS, GpuAccess.NONE]
)
def test_requested_access_is_used(access: GpuAccess) -> None:
    assert plan_gpu(GpuSupport(), access).access is access


def test_every_gpu_access_has_its_options() -> None:
    ways = [
        run_options(plan_gpu(GpuSupport(), access))
        for access in GpuAccess
        if access is not GpuAccess.AUTO
    ]
    assert ways == [
        {"device_requests": [{"Driver": "cdi", "DeviceIDs": [CDI_ALL]}]},
        {"runtime": "nvidia", "environment": {"NVIDIA_VISIBLE_DEVICES": "all"}},
        {"device_requests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]},
        {},
    ]


def test_a_failed_start_is_explained() -> None:
    said = 'could not select device driver "" with capabilities: [[gpu]]'
    assert "Container Toolkit" in (find_gpu_failure(said) or "")
    assert find_gpu_failure("no such file") is None
