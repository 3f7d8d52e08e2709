"""`envbuilder lock` against pages exactly as PyTorch's index writes them, with the real uv.

`test_torch_index.py` has the rest: what goes where, and what else can be wrong with a page.
"""

import socket
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import torch_pages
from index_server import IndexServer
from index_server import serve as serve_packages
from pytorch.certificate import make_certificate
from pytorch.index import Behaviour, serve

from cli.conftest import Answer, Run
from envbuilder.lock.lock_file import parse_lock

pytestmark = pytest.mark.slow
REQUEST = ("lock", "--cuda", "11.8", "--torch", "2.0.1", "--python", "3.10")
TORCH = "torch-2.0.1+cu118-cp310-cp310-linux_x86_64.whl"
VISION = "torchvision-0.15.2+cu118-cp310-cp310-linux_x86_64.whl"
AUDIO = "torchaudio-2.0.2+cu118-cp310-cp310-linux_x86_64.whl"


@pytest.fixture(autouse=True)
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """uv has an empty cache and reaches only this machine."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening, so that the port stays free
        closed_port = f"http://127.0.0.1:{bound.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, closed_port)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture
def packages() -> Iterator[IndexServer]:
    with serve_packages() as server:
        yield server


@pytest.fixture
def wheels(tmp_path: Path) -> Mapping[str, list[Path]]:
    """The family in wheels without code, in the folder of their tag."""
    folder = tmp_path / "cu118"
    folder.mkdir()
    for name, content in torch_pages.family().items():
        if name.startswith("torch"):
            (folder / name).write_bytes(content)
    return {"cu118": sorted(folder.glob("*.whl"))}


def lock(run: Run, packages: IndexServer, torch: str, *words: str) -> Answer:
    addresses = ("--index-url", packages.url, "--torch-index", torch)
    return run(*REQUEST, *addresses, *words)


def locked_files(folder: Path) -> dict[str, str]:
    """File → sha256 of what was locked from PyTorch's index."""
    path = folder / "envbuilder.lock"
    made = parse_lock(path.read_text(), source=str(path))
    return {wheel.file: wheel.sha256 for wheel in made.wheels if wheel.index != "pypi"}


def hashes(wheels: Mapping[str, list[Path]]) -> dict[str, str]:
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in wheels["cu118"]
        if path.name in (TORCH, VISION, AUDIO)
    }


def test_family_is_locked_whatever_the_page_lacks(
    tmp_path: Path, run: Run, packages: IndexServer, wheels: Mapping[str, list[Path]]
) -> None:
    behaviour = Behaviour(
        without_hash={AUDIO}, with_date={TORCH, VISION}, with_metadata=set()
    )
    with serve(wheels, behaviour) as index:
        answer = lock(run, packages, index.url)
        assert answer.code == 0, answer.err
    assert locked_files(tmp_path) == hashes(wheels)
    assert f"gives no sha256 of {AUDIO}" in " ".join(answer.err.split())
    # Pages are asked of one host, files of the other; what is not torch's family of neither.
    assert {path.split("/")[3] for path in index.pages_seen} == {
        "torch",
        "torchaudio",
        "torchvision",
    }
    assert set(index.files_seen) == {
        f"/whl/cu118/{name}" for name in (TORCH, VISION, AUDIO)
    }
    assert "/simple/numpy/" in packages.paths


def test_folder_as_a_web_server_lists_it_is_a_mirror(
    tmp_path: Path, run: Run, packages: IndexServer, wheels: Mapping[str, list[Path]]
) -> None:
    with serve(wheels) as index:
        answer = lock(run, packages, f"find-links+{index.flat}/{{tag}}/")
        assert answer.code == 0, answer.err
    assert locked_files(tmp_path) == hashes(wheels)


@pytest.mark.exhaustive
def test_unreachable_host_of_the_files_is_named(
    run: Run, packages: IndexServer, wheels: Mapping[str, list[Path]]
) -> None:
    behaviour = Behaviour(files_at="http://127.0.0.1:9")
    with serve(wheels, behaviour) as index:
        answer = lock(run, packages, index.url)
    assert answer.code == 6
    assert "cannot be reached" in answer.err
    assert "http://127.0.0.1:9/" in answer.err


def test_login_is_used_for_pages_and_files(
    tmp_path: Path,
    run: Run,
    packages: IndexServer,
    wheels: Mapping[str, list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password kestrel\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serve(wheels, Behaviour(login="me:kestrel", without_hash={AUDIO})) as index:
        answer = lock(run, packages, index.url)
        assert answer.code == 0, answer.err
    assert locked_files(tmp_path) == hashes(wheels)
    assert "kestrel" not in answer.out + answer.err


def test_wrong_cuda_on_the_index_is_no_stack(
    run: Run, packages: IndexServer, wheels: Mapping[str, list[Path]]
) -> None:
    others = [path for path in wheels["cu118"] if path.name != TORCH]
    with serve({"cu118": others}) as index:
        answer = lock(run, packages, index.url)
    assert answer.code in (4, 5, 6)
    assert "torch" in answer.err
    assert "Traceback" not in answer.err


def test_mirror_behind_a_private_ca(
    tmp_path: Path,
    run: Run,
    packages: IndexServer,
    wheels: Mapping[str, list[Path]],
) -> None:
    ca, certificate = make_certificate(tmp_path, "127.0.0.1")
    behaviour = Behaviour(without_hash={AUDIO})
    with serve(wheels, behaviour, certificate=certificate) as index:
        refused = lock(run, packages, index.url)
        assert refused.code == 6
        assert "signed by an unknown CA" in refused.err
        answer = lock(run, packages, index.url, "--ca-bundle", str(ca))
        assert answer.code == 0, answer.err
    assert locked_files(tmp_path) == hashes(wheels)


@pytest.mark.parametrize(
    "href",
    [
        "../../../../etc/{file}",
        "/whl/cu118/torch-2.0.1%2Bcu118-cp310-cp310-linux_x86_64.whl%0ARUN%20id",
        "javascript:alert(1)//{file}",
        "http://[::1/{file}",
        "/whl/cu118/{file}#sha256=$(id)",
        "/whl/cu118/{file}?token=\u202e\x1b[31m",
    ],
)
def test_hostile_links_end_in_the_right_file_or_an_error(
    tmp_path: Path,
    run: Run,
    packages: IndexServer,
    wheels: Mapping[str, list[Path]],
    href: str,
) -> None:
    link = f'<a href="{href.format(file=TORCH)}">{TORCH}</a>'
    behaviour = Behaviour()
    with serve(wheels, behaviour) as index:
        page = "/whl/cu118/torch/"
        behaviour.pages[page] = f"<html><h1>Links for torch</h1>{link}</html>"
        answer = lock(run, packages, index.url)
    assert answer.code in (0, 4, 5, 6), answer.err
    assert "Traceback" not in answer.err
    assert not set("\u202e\x1b") & set(answer.err + answer.out)
    if answer.code == 0:
        assert locked_files(tmp_path) == hashes(wheels)
    else:
        assert not (tmp_path / "envbuilder.lock").exists()
