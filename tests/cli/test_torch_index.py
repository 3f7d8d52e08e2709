"""`envbuilder lock` of a stack that only PyTorch's own index has, with the real uv and nothing but this machine."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import uv
from index_server import IndexServer, serve
from torch_pages import Pages, family, serve_pages

from cli.conftest import Answer, Run
from envbuilder.lock.lock_file import parse_lock

TORCH = "torch-2.0.1+cu118-cp310-cp310-linux_x86_64.whl"
REQUEST = ("--cuda", "11.8", "--torch", "2.0.1", "--python", "3.10")


@pytest.fixture(autouse=True)
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """uv has an empty cache and reaches only this machine."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening, so that the port stays free
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.lower(), url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture
def packages() -> Iterator[IndexServer]:
    with serve() as server:
        yield server


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "envbuilder.lock"


def lock(run: Run, packages: IndexServer, torch: str, *words: str) -> Answer:
    return run(
        "lock", *REQUEST, "--index-url", packages.url, "--torch-index", torch, *words
    )


def test_torch_is_locked_from_its_own_index(
    run: Run, packages: IndexServer, output: Path
) -> None:
    wheels = family()
    with serve_pages(Pages(wheels=wheels)) as pages:
        answer = lock(run, packages, pages.url)
    assert answer.code == 0, answer.err
    assert "no sha256" not in answer.err
    made = parse_lock(output.read_text(), source="made")
    assert made.stack.index_url == "https://download.pytorch.org/whl/cu118"
    elsewhere = {wheel.name for wheel in made.wheels if wheel.index != "pypi"}
    assert elsewhere == {"torch", "torchaudio", "torchvision"}
    [torch] = [wheel for wheel in made.wheels if wheel.name == "torch"]
    assert (torch.file, torch.size) == (TORCH, len(wheels[TORCH]))
    assert torch.sha256 == sha256(wheels[TORCH]).hexdigest()
    # Nothing but the family is asked there, and the family nowhere else.
    assert {path.split("/")[3].split("-")[0] for path in pages.paths} == elsewhere
    assert not [path for path in packages.paths if path == "/simple/torch/"]
    assert "/simple/numpy/" in packages.paths


@pytest.mark.slow
def test_missing_hashes_are_computed_and_noted(
    run: Run, packages: IndexServer, output: Path
) -> None:
    wheels = family()
    with serve_pages(Pages(wheels=wheels, hashes=False)) as pages:
        answer = lock(run, packages, pages.url)
    assert answer.code == 0, answer.err
    assert f"gives no sha256 of {TORCH}: it is downloaded" in " ".join(
        answer.err.split()
    )
    assert sha256(wheels[TORCH]).hexdigest() in output.read_text()


@pytest.mark.slow
def test_one_page_of_files_is_a_mirror_too(
    run: Run, packages: IndexServer, output: Path
) -> None:
    with serve_pages(Pages(wheels=family())) as pages:
        address = pages.url.replace("/whl", "/flat/{tag}")
        answer = lock(run, packages, f"find-links+{address}")
        assert answer.code == 0, answer.err
        assert TORCH in output.read_text()
        # Without the prefix, the page of the project is missing, and the hint says what to try.
        answer = lock(run, packages, address)
    assert answer.code == 5
    assert "if the files are on one page: `--torch-index find-links+URL`" in answer.err


@pytest.mark.slow
def test_a_mirror_may_ask_for_a_login(
    run: Run, packages: IndexServer, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = output.with_name("netrc")
    netrc.write_text("machine 127.0.0.1 login me password kestrel\n")
    with serve_pages(Pages(wheels=family(), login="me:kestrel")) as pages:
        refused = lock(run, packages, pages.url)
        with_login = pages.url.replace("http://", "http://me:kestrel@")
        answers = [lock(run, packages, with_login)]
        monkeypatch.setenv("NETRC", str(netrc))
        answers.append(lock(run, packages, pages.url))
    assert refused.code == 6
    assert f"{pages.url}/cu118/torch/ cannot be loaded" in refused.err
    assert "asks for credentials (401)" in refused.err
    for answer in answers:
        assert answer.code == 0, answer.err
        assert "kestrel" not in output.read_text() + answer.err + answer.out


@pytest.mark.slow
@pytest.mark.exhaustive  # uv tries for six seconds
def test_an_unreachable_index_is_named(run: Run, packages: IndexServer) -> None:
    answer = run("lock", *REQUEST, "--index-url", packages.url)
    assert answer.code == 6
    assert (
        "the index pytorch-cu118 (download.pytorch.org) cannot be reached" in answer.err
    )
    assert "a mirror of this index: `--torch-index URL`" in answer.err


@pytest.mark.slow
def test_the_check_finds_a_replaced_file(
    run: Run, packages: IndexServer, output: Path
) -> None:
    wheels = family()
    with serve_pages(Pages(wheels=wheels)) as pages:
        assert lock(run, packages, pages.url).code == 0
        words = ("--check", "--output", str(output))
        assert lock(run, packages, pages.url, *words).code == 0
        other = dict(wheels) | {TORCH: wheels[TORCH] + b"\0"}
        pages.wheels = other
        answer = lock(run, packages, pages.url, *words, "--json")
    assert answer.code == 5
    assert f"{TORCH} was replaced" in answer.out + answer.err


@pytest.mark.slow
def test_a_hostile_page_is_refused(run: Run, packages: IndexServer) -> None:
    odd = f'<a href="file:///etc/{TORCH}">{TORCH}</a>'
    with serve_pages(Pages(wheels=family(), odd=odd)) as pages:
        answer = lock(run, packages, pages.url)
    assert answer.code == 5
    assert "is not the page of a package index" in answer.err


@pytest.mark.slow
def test_users_packages_do_not_bring_pypis_torch(
    run: Run, packages: IndexServer, output: Path
) -> None:
    with serve_pages(Pages(wheels=family())) as pages:
        answer = lock(run, packages, pages.url, "--package", "peft")
    assert answer.code == 0, answer.err
    made = parse_lock(output.read_text(), source="made")
    assert [str(w.version) for w in made.wheels if w.name == "torch"] == ["2.0.1+cu118"]


@pytest.mark.slow
def test_torch_without_cuda_is_locked_the_same_way(
    run: Run, packages: IndexServer, output: Path
) -> None:
    words = ("--flavor", "cpu", "--torch", "2.0.1", "--python", "3.10")
    with serve_pages(Pages(wheels=family("cpu"))) as pages:
        answer = run(
            "lock", *words, "--index-url", packages.url, "--torch-index", pages.url
        )
    assert answer.code == 0, answer.err
    made = parse_lock(output.read_text(), source="made")
    assert made.stack.index_url == "https://download.pytorch.org/whl/cpu"
    assert not [wheel for wheel in made.wheels if wheel.name.startswith("nvidia-")]
    assert replace(made.stack, notes=()).cuda is None


@pytest.mark.slow
def test_the_requirements_file_installs_with_uv(
    run: Run, packages: IndexServer, output: Path
) -> None:
    """Whatever else is on the index: an old NumPy is there, and the index is not asked for it."""
    with serve_pages(Pages(wheels=family())) as pages:
        words = ("--format", "requirements", "--output", "-")
        answer = lock(run, packages, pages.url, *words)
        assert answer.code == 0, answer.err
        # The packages of the other index have no files here, and PyTorch's own address is not reached.
        text = answer.out.replace("https://download.pytorch.org/whl", pages.url)
        lines = text.splitlines()
        kept = [line for line in lines if line.startswith(("--", "torch"))]
        kept = [line for line in kept if not line.startswith("torchmetrics")]
        assert len([line for line in kept if line.startswith("--find-links")]) == 3
        output.write_text("\n".join(kept))
        pages.paths.clear()
        done = subprocess.run(
            [
                uv.find_uv_bin(), "pip", "install", "--no-config", "--no-deps", "--require-hashes",
                "--default-index", packages.url, "--python-version", "3.10", "--python-platform", "linux",
                "--target", str(output.with_name("site")), "--requirements", str(output),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in output.with_name("site").glob("*.dist-info")}
    assert "torch-2.0.1+cu118.dist-info" in installed
    assert not [path for path in pages.paths if "numpy" in path]
