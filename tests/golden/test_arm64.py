"""What is rendered for linux/arm64. After a change that is meant:

envbuilder lock --platform linux/arm64 --output tests/golden/arm64/envbuilder.lock
envbuilder render --lock tests/golden/arm64/envbuilder.lock --output build/arm64
cp build/arm64/images/*/Dockerfile tests/golden/arm64/
make record-index
"""

from pathlib import Path

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Layer
from envbuilder.render.context import render_context

HERE = Path(__file__).parent / "arm64"
LOCK = parse_lock((HERE / LOCK_FILE).read_text(), source=str(HERE))


def test_the_dockerfile_is_this_one() -> None:
    assert (
        render_context(LOCK).files[f"images/{LOCK.stack.name}/Dockerfile"]
        == (HERE / "Dockerfile").read_text()
    )


def test_every_wheel_is_for_it() -> None:
    machines = {
        wheel.file.removesuffix(".whl").rpartition("-")[2].rpartition("_")[2]
        for wheel in LOCK.wheels
    }
    assert machines == {"any", "aarch64"}
    nvidia = {
        wheel.name
        for wheel in LOCK.wheels
        if wheel.layer is Layer.NVIDIA and "aarch64" in wheel.file
    }
    assert {
        "nvidia-cublas",
        "nvidia-cuda-runtime",
        "nvidia-cudnn-cu13",
        "nvidia-nccl-cu13",
    } <= nvidia


def test_arm64_and_amd64_stacks_have_different_names() -> None:
    assert LOCK.stack.name.endswith("-debian12-arm64")
    assert LOCK.stack.platform == "linux/arm64"
