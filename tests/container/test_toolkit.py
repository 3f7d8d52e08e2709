"""nvcc from an image of a registry: an image in the layout of `nvidia/cuda:…-devel`, pulled from loopback.

What is in it is made up; the programs of CUDA 12.4 were tried by hand (docs/measurements/compiled.md). NVIDIA's own
images are not run: no registry here has them.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Flavour
from envbuilder.network import Network
from envbuilder.pipeline import build_arguments
from envbuilder.render.context import place_of, render_context
from envbuilder.render.context_folder import write_context

from .engine import docker
from .registry import registry
from .test_secrets import base  # noqa: F401 - a fixture
from .test_sources import build

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker/images/cu124-torch2.6.0-py3.13-debian13" / LOCK_FILE
IMAGE = "nvidia/cuda:12.4.1-devel-ubuntu22.04"
TAG = "envbuilder-test:toolkit"
pytestmark = pytest.mark.usefixtures("base")
# As NVIDIA's images have it: links from one place to the next, and gigabytes that no compiler reads.
LAYOUT = """FROM envbuilder-base:debian11
RUN mkdir -p /usr/local/cuda-12.4/bin /usr/local/cuda-12.4/nvvm/bin \\
    && cd /usr/local/cuda-12.4 && mkdir -p targets/x86_64-linux/include targets/x86_64-linux/lib \\
    && echo nvcc >bin/nvcc && echo nsys >bin/nsys && echo cicc >nvvm/bin/cicc \\
    && echo header >targets/x86_64-linux/include/cuda.h \\
    && cd targets/x86_64-linux/lib \\
    && echo x >libcudart_static.a && echo x >libcudadevrt.a && echo x >libcublas_static.a \\
    && cd /usr/local/cuda-12.4 \\
    && ln -s targets/x86_64-linux/include include && ln -s targets/x86_64-linux/lib lib64 \\
    && ln -s /usr/local/cuda-12.4 /etc/alternatives/cuda && ln -s /etc/alternatives/cuda /usr/local/cuda
USER 1000
"""


def test_headers_come_from_the_image_of_a_registry(
    tmp_path: Path,
) -> None:
    lock = parse_lock(PRESET.read_text(encoding="utf-8"), source="x")
    stack = replace(lock.stack, flavour=Flavour.DEVEL, toolkit=IMAGE)
    context = tmp_path / "context"
    write_context(render_context(replace(lock, stack=stack)), context)
    (tmp_path / "Dockerfile").write_text(LAYOUT)
    with registry() as there:
        mirror = f"{there.host}/hub"
        arguments = build_arguments(
            stack, Network(registry_mirror=mirror), toolkit=IMAGE
        )
        name = arguments["TOOLKIT"]
        assert name == f"{mirror}/{IMAGE}"
        docker("buildx", "build", "--load", "--tag", name, str(tmp_path))
        docker("push", name)
        docker("rmi", name)
        words = ("--target", "toolkit", "--build-arg", f"TOOLKIT={name}", "--tag", TAG)
        done = build(context, place_of(stack), *words)
    try:
        assert done.returncode == 0, done.stderr
        run = ("run", "--rm", "--entrypoint", "sh", TAG, "-c")
        found = docker(*run, "cd /toolkit && find -L . -type f | sort").stdout.split()
        assert found == [
            "./bin/nvcc",
            "./include/cuda.h",
            "./lib64/libcudadevrt.a",
            "./lib64/libcudart_static.a",
            "./nvvm/bin/cicc",
            "./targets/x86_64-linux/include/cuda.h",
            "./targets/x86_64-linux/lib/libcudadevrt.a",
            "./targets/x86_64-linux/lib/libcudart_static.a",
        ]
    finally:
        docker("rmi", "--force", TAG, check=False)
