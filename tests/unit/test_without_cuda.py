"""Acceptance of an image without CUDA: no GPU, and a separate size limit."""

from types import SimpleNamespace
from typing import cast

import pytest

from envbuilder import pipeline
from envbuilder.acceptance import suite
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.gpu_access import GpuAccess, GpuSupport
from envbuilder.render.context import CUDA_LABEL, NO_CUDA

CPU = {CUDA_LABEL: NO_CUDA}
CUDA = {CUDA_LABEL: "13.0.3"}


def engine_with(labels: dict[str, str] | None) -> DockerEngine:
    """An engine that offers GPUs by its runtime, and has an image with these labels, or none."""
    image = None if labels is None else SimpleNamespace(labels=labels)
    return cast(
        "DockerEngine",
        SimpleNamespace(
            gpu_support=lambda: GpuSupport(runtimes=("nvidia",)),
            image=lambda name: image,
        ),
    )


@pytest.mark.parametrize(
    ("labels", "wanted", "access"),
    [
        (CPU, GpuAccess.AUTO, GpuAccess.NONE),
        (CPU, GpuAccess.RUNTIME, GpuAccess.RUNTIME),
        (CUDA, GpuAccess.AUTO, GpuAccess.RUNTIME),
        ({}, GpuAccess.AUTO, GpuAccess.RUNTIME),
        (None, GpuAccess.AUTO, GpuAccess.RUNTIME),
    ],
)
def test_which_image_asks_for_a_gpu(
    labels: dict[str, str] | None, wanted: GpuAccess, access: GpuAccess
) -> None:
    assert (
        pipeline.suite_options_for(engine_with(labels), "image", wanted).gpu.access
        is access
    )


def test_which_size_an_image_may_have() -> None:
    bound = suite.bounds()["outside"]["contract.size"]
    assert suite.size_bound(CUDA) == suite.size_bound({}) == {"max": bound["max"]}
    assert suite.size_bound(CPU) == {"max": bound["max_without_cuda"]}
