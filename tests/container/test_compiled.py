"""A package that is compiled while an image is built, and nvcc from an image: real nvcc, real stages, no GPU."""

import json
import shutil
from pathlib import Path

import cuda_package
import pytest

from envbuilder.lock.lock_file import parse_lock
from envbuilder.render.context import COMPILED_LABEL

from .engine import docker, envbuilder
from .test_sources import build

pytestmark = (
    pytest.mark.exhaustive
)  # 3 GB to download, and minutes of nvcc on a busy machine
TAG = "envbuilder-test:compiled"
REQUEST = ("--cuda", "13.0", "--gpu", "9.0", "--base", "bootstrap", "--os", "debian13")
LOADS = """
import line_ops, torch
x = torch.arange(5, dtype=torch.float32)
assert torch.equal(line_ops.line(x), x * 2 + 1)
print(torch.ops.line_ops.line.default._schema)
print(torch._C._dispatch_has_kernel_for_dispatch_key("line_ops::line", "CUDA"))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / cuda_package.ARCHIVE).write_bytes(cuda_package.source_package())
    return tmp_path


def lock(site: Path, *words: str) -> None:
    package = f"line-ops @ ./{cuda_package.ARCHIVE}"
    answer = envbuilder(
        *("lock", *REQUEST, "--package", package, "--compile", "line-ops"),
        *words,
        cwd=site,
        ENVBUILDER_CACHE_DIR=str(site / "cache"),
    )
    assert answer.code == 0, answer.err
    assert "its wheel is made there" in answer.err


def test_a_package_is_compiled_and_loads_in_the_image(site: Path) -> None:
    lock(site)
    answer = envbuilder(
        *("build", "--lock", "envbuilder.lock", "--tag", TAG, "--json"),
        cwd=site,
        ENVBUILDER_CACHE_DIR=str(site / "cache"),
        MAX_JOBS="1",
    )
    assert answer.code == 0, answer.err
    try:
        run = ("run", "--rm", "--network", "none", TAG)
        schema, on_gpu = docker(*run, "python", "-c", LOADS).stdout.splitlines()
        assert (schema, on_gpu) == ("line_ops::line(Tensor x) -> Tensor", "True")
        text = docker(*run, "cat", "/opt/envbuilder/compiled.json").stdout
        [wheel] = json.loads(text)
        assert wheel["capabilities"] == ["9.0"]
        label = f"{wheel['name']}=={wheel['version']}@sha256:{wheel['sha256']}"
        field = f'{{{{index .Config.Labels "{COMPILED_LABEL}"}}}}'
        assert docker("inspect", "--format", field, TAG).stdout.strip() == label
        assert answer.json()["receipt"]["facts"]["compiled"] == [label]
        found = docker(*run, "ls", "-d", "/opt/compiler", "/compile", check=False)
        assert found.stdout == ""
    finally:
        docker("rmi", "--force", TAG, check=False)


def hash_of_wheel(site: Path, *words: str) -> str:
    """The sha256 of the wheel that the stage makes."""
    made = parse_lock((site / "envbuilder.lock").read_text(), source="x")
    answer = envbuilder(
        *("render", "--lock", "envbuilder.lock", "--output", "context"),
        cwd=site,
        ENVBUILDER_CACHE_DIR=str(site / "cache"),
    )
    assert answer.code == 0, answer.err
    place = f"images/{made.stack.name}"
    done = build(site / "context", place, "--target", "compiled", "--tag", TAG, *words)
    assert done.returncode == 0, done.stderr
    run = ("run", "--rm", "--entrypoint", "cat", TAG, "/wheels/compiled.json")
    return str(json.loads(docker(*run).stdout)[0]["sha256"])


def test_two_builds_make_the_same_wheel_and_another_transformers_none(
    site: Path,
) -> None:
    try:
        lock(site)
        first = hash_of_wheel(site)
        lock(site, "--transformers", "5.0")
        shutil.rmtree(site / "context")
        made = parse_lock((site / "envbuilder.lock").read_text(), source="x")
        place = f"images/{made.stack.name}"
        assert hash_of_wheel(site) == first
        done = build(site / "context", place, "--target", "compiled", "--tag", TAG)
        [step] = [
            line.split()[0]
            for line in done.stderr.splitlines()
            if "compile_sources.py wheel" in line
        ]
        assert f"{step} CACHED" in done.stderr
        assert hash_of_wheel(site, "--no-cache-filter", "compiled") == first
    finally:
        docker("rmi", "--force", TAG, check=False)
