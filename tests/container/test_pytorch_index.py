"""Stacks that only PyTorch's own index has, from a stand-in for it: locked, built and accepted as a user does it.

The wheels are made from those of PyPI and compute (`tests/pytorch/wheels.py`); everything else comes from PyPI.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import passthrough
import pytest
import torch_pages
import uv
from index_server import serve as serve_packages
from pytorch.certificate import make_certificate
from pytorch.index import Behaviour, PyTorchIndex, serve
from pytorch.wheels import family

from envbuilder import catalog
from envbuilder.engine import build_process
from envbuilder.engine.buildx import BuildOptions
from envbuilder.errors import EngineError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.network import Network
from envbuilder.render import context as contexts
from envbuilder.render import context_folder

from .engine import docker, envbuilder

BASE = "envbuilder-base:debian11"
REQUEST = ("--torch", "2.0.1", "--python", "3.9", "--base", "bootstrap")
STACKS = {
    "cu118": ("--cuda", "11.8", *REQUEST),
    "cpu": ("--flavor", "cpu", *REQUEST),
}
# In `make test`; the whole suite takes a minute.
IDENTITY = "identity.torch,identity.torchvision,identity.cuda,identity.family,identity.requirements"


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest) -> str:
    """A Debian with a compiler; it comes with the image under test, which takes minutes to build."""
    if docker("image", "inspect", BASE, check=False).returncode != 0:
        request.getfixturevalue("image")
    return BASE


@pytest.fixture(scope="module")
def gateway() -> str:
    """This machine's address that steps of a build can reach."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    inspect = docker("network", "inspect", "bridge", "--format", form)
    return inspect.stdout.strip()


@dataclass(frozen=True)
class Site:
    """The index, what is on it, and options that tell the truth about it."""

    index: PyTorchIndex
    wheels: Mapping[str, list[Path]]
    options: tuple[str, ...]


@pytest.fixture(scope="module")
def site(
    base: str, gateway: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("catalog")
    write_catalog(folder)
    wheels = {tag: family(tag, base) for tag in STACKS}
    behaviour = Behaviour()
    for paths in wheels.values():
        for path in paths:
            if path.name.startswith("torchaudio"):
                behaviour.without_hash.add(path.name)
            else:
                behaviour.with_date.add(path.name)
            if path.name.startswith("torch-"):
                behaviour.with_metadata.add(path.name)
    with serve(wheels, behaviour, address=gateway) as index:
        options = ("--torch-index", index.url, "--catalog", str(folder))
        yield Site(index, wheels, options)


def write_catalog(folder: Path) -> None:
    """The row of torch 2.0.1 for CUDA 11.8 as the stand-in is: `wheels.py` says how it differs from the real one."""
    facts = json.loads((catalog.FOLDER / "facts/torch.json").read_text())
    [row] = [
        row
        for row in facts["rows"]
        if (row["torch"], row["index"]) == ("2.0.1", "pytorch-cu118")
    ]
    row["arch_list"].remove("sm_90")
    row["nccl"] = "2.14.3"
    row["unknown"] = []
    row["source"] = "the stand-in of the tests"
    (folder / "facts").mkdir()
    document = {"date": facts["date"], "rows": [row]}
    (folder / "facts/torch.json").write_text(json.dumps(document))


def make_lock(tag: str, site: Site, folder: Path) -> Path:
    """A lock, of which the family is from the stand-in by its own hashes and everything else from PyPI."""
    output = folder / f"{tag}.lock"
    answer = envbuilder(
        "lock", *STACKS[tag], *site.options, "--output", str(output), cwd=folder
    )
    assert answer.code == 0, answer.err
    lock = parse_lock(output.read_text(), source=str(output))
    hashes = {
        path.name: path.with_name(f"{path.name}.sha256").read_text()
        for path in site.wheels[tag]
        if path.name.startswith("torch")
    }
    index = f"pytorch-{tag}"
    locked = {wheel.file: wheel.sha256 for wheel in lock.wheels if wheel.index == index}
    assert locked == hashes
    others = {wheel.name for wheel in lock.wheels if wheel.index == "pypi"}
    assert {"numpy", "requests", "sympy", "transformers"} <= others
    asked = {path.split("/")[3] for path in site.index.pages_seen}
    assert asked == {"torch", "torchaudio", "torchvision"}
    return output


@pytest.mark.network
def test_locked_torch_without_cuda_is_built_from_its_index(
    site: Site, tmp_path: Path
) -> None:
    """Without the suite; `exhaustive` runs it."""
    path = make_lock("cpu", site, tmp_path)
    lock = parse_lock(path.read_text(), source=str(path))
    context_folder.write_context(contexts.render_context(lock), tmp_path / "context")
    built = build_process.build(
        tmp_path / "context",
        dockerfile=f"images/{lock.stack.name}/Dockerfile",
        log=tmp_path / "build.log",
        options=BuildOptions(),
        network=Network(torch_index=site.index.url, ca=find_ca()),
        environ=dict(os.environ),
        on_change=lambda progress: None,
    )
    try:
        answer = envbuilder(
            "accept", built.image, "--only", IDENTITY, "--json", cwd=tmp_path
        )
        passed = set()
        for check in answer.json()["checks"]:
            if check["status"] == "passed":
                passed.add(check["id"])
        assert set(IDENTITY.split(",")) <= passed, answer.err
    finally:
        docker("rmi", built.image, check=False)


@pytest.mark.network
@pytest.mark.exhaustive
@pytest.mark.parametrize("tag", ["cu118", "cpu"])
def test_stack_of_pytorchs_index_is_accepted(
    site: Site, tmp_path: Path, tag: str
) -> None:
    name = f"emul-test:{tag}"
    path = make_lock(tag, site, tmp_path)
    words = ["--lock", str(path), "--tag", name, "--torch-index", site.index.url]
    answer = envbuilder("build", *words, "--json", cwd=tmp_path, timeout=1800)
    try:
        assert answer.code == 0, answer.err
        receipt = answer.json()["receipt"]
        assert receipt["verdict"] == "passed"
        assert statuses(receipt) <= {"passed", "not_run"}
        torch = "import torch; print(torch.__version__, torch.version.cuda)"
        words = ["run", "--rm", "--network", "none", name, "python", "-c", torch]
        expected = {"cu118": "2.0.1+cu118 11.8", "cpu": "2.0.1+cpu None"}
        assert docker(*words).stdout.strip() == expected[tag]
    finally:
        docker("rmi", name, check=False)


def statuses(document: Mapping[str, Any]) -> set[str]:
    return {check["status"] for check in document["checks"]}


def find_ca() -> Path | None:
    from envbuilder.network import find_network

    return find_network(os.environ, home=Path.home()).ca


# --- what can be wrong during a build --------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallBuild:
    """A context of torch's layer alone, from wheels without code, and the index that has them."""

    folder: Path
    dockerfile: str
    behaviour: Behaviour
    index: PyTorchIndex
    packages: str
    """A package index that has nothing."""
    wheels: Mapping[str, list[Path]]

    def run(self, **network: Any) -> str:
        """Build it; returns the log."""
        settings = {"torch_index": self.index.url, "index_url": self.packages}
        log = self.folder / "build.log"
        build_process.build(
            self.folder / "context",
            dockerfile=self.dockerfile,
            log=log,
            options=BuildOptions(no_cache=True),
            network=Network(**(settings | network)),
            environ=dict(os.environ),
            on_change=lambda progress: None,
        )
        return log.read_text()


@pytest.fixture(scope="module")
def small_build(
    base: str, gateway: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallBuild]:
    tmp_path = tmp_path_factory.mktemp("small")
    folder = tmp_path / "cpu"
    folder.mkdir()
    for name, content in torch_pages.family("cpu", "cp39").items():
        if name.startswith("torch"):
            (folder / name).write_bytes(content)
    wheels = {"cpu": sorted(folder.glob("*.whl"))}
    behaviour = Behaviour()
    with (
        serve(wheels, behaviour, address=gateway) as index,
        serve_packages() as recorded,
    ):
        words = [
            *STACKS["cpu"],
            "--torch-index",
            index.url,
            "--index-url",
            recorded.url,
        ]
        answer = envbuilder(
            "lock", *words, cwd=tmp_path, NO_PROXY=f"127.0.0.1,{gateway}"
        )
        assert answer.code == 0, answer.err
        path = tmp_path / "envbuilder.lock"
        lock = parse_lock(path.read_text(), source=str(path))
        context = tmp_path / "context"
        context_folder.write_context(contexts.render_context(lock), context)
        dockerfile = f"images/{lock.stack.name}/Dockerfile"
        keep_torch_s_layer(context, dockerfile, base)
        with passthrough.serve({}, gateway) as (packages, _):
            yield SmallBuild(tmp_path, dockerfile, behaviour, index, packages, wheels)


@pytest.fixture
def small(small_build: SmallBuild) -> Iterator[SmallBuild]:
    yield small_build
    small_build.behaviour.reset()


def keep_torch_s_layer(context: Path, dockerfile: str, base: str) -> None:
    """Torch's layer without what PyPI has of it, triton."""
    path = context / dockerfile
    sections = re.split(r"(?m)^(?=# --- )", path.read_text())
    [layer] = [text for text in sections if text.startswith("# --- PyTorch")]
    layer = re.sub(r"id=uv \\", f"id=emul-{os.getpid()} \\\\", layer)
    file = path.parent / "layers/torch.txt"
    lines = [line for line in file.read_text().splitlines() if "triton" not in line]
    file.write_text("\n".join([*lines, ""]))
    shutil.copy(uv.find_uv_bin(), context / "install/uv")
    head = f"FROM {base} AS uv\nCOPY install/uv /opt/uv/bin/uv\nFROM {base}\n"
    path.write_text(f"{head}ENV VIRTUAL_ENV=/opt/venv\n{layer}")


def test_layer_of_torch_is_built_from_its_index_alone(small: SmallBuild) -> None:
    assert "3 packages installed" in small.run()
    assert {path.split("/")[3] for path in small.index.pages_seen} == {
        "torch",
        "torchaudio",
        "torchvision",
    }


@pytest.mark.exhaustive
def test_torch_layer_comes_from_a_mirror_behind_a_private_ca(
    small: SmallBuild, gateway: str, tmp_path: Path
) -> None:
    ca, certificate = make_certificate(tmp_path, gateway)
    with serve(small.wheels, address=gateway, certificate=certificate) as mirror:
        with pytest.raises(EngineError) as caught:
            small.run(torch_index=mirror.url)
        assert "signed by an unknown CA" in caught.value.message
        log = small.run(torch_index=mirror.url, ca=ca)
    assert "3 packages installed" in log


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("replaced", "does not match its hash in the lock"),
        ("login", "the server asks for credentials (401)"),
        pytest.param(
            "host", "a server cannot be reached", marks=pytest.mark.exhaustive
        ),
        ("removed", "the index does not have a locked wheel"),
    ],
)
def test_a_faulty_index_fails_the_build_with_its_cause(
    small: SmallBuild, fault: str, cause: str
) -> None:
    behaviour = small.behaviour
    name = "torch-2.0.1+cpu-cp39-cp39-linux_x86_64.whl"
    if fault == "replaced":
        behaviour.contents[name] = torch_pages.make_wheel("torch", "2.0.1+cpu")[1]
        behaviour.without_hash.add(name)
    elif fault == "login":
        behaviour.login = "me:kestrel"
    elif fault == "host":
        behaviour.files_at = "http://127.0.0.1:9"
    else:
        behaviour.pages["/whl/cpu/torch/"] = "<h1>Links for torch</h1>"
    with pytest.raises(EngineError) as caught:
        small.run()
    assert cause in caught.value.message
