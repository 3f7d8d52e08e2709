"""Requires-Python of locked wheels, read next to them or inside of them, against a server with some of both."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envbuilder.errors import NoStackError
from envbuilder.lock.creation import check_python
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.known_sources import NO_SOURCES
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.package_conflict import first_that_resolves
from envbuilder.lock.python_bounds import allows_python, metadata_of, python_clashes
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import MetadataAnswer, parse_metadata
from envbuilder.model import Layer, Lock, Wheel
from envbuilder.network import Network
from envbuilder.processes import Completed

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
)
LOCK = parse_lock(PRESET.read_text(), source="x")
FILE = "vllm-0.10.1.1-cp38-abi3-manylinux1_x86_64.whl"
METADATA = b"Metadata-Version: 2.1\nName: vllm\nRequires-Python: <3.9,>=3.8\n"


def wheel(file: str = FILE) -> Wheel:
    return Wheel(
        name="vllm",
        version=Version("0.10.1.1"),
        file=file,
        size=1,
        sha256=sha256(b"").hexdigest(),
        layer=Layer.STACK,
    )


def lock_of(found: Wheel) -> Lock:
    stack = replace(LOCK.stack, extras=("vllm",))
    return replace(LOCK, stack=stack, wheels=(found,))


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("vllm/a.dist-info/METADATA", "Requires-Python: >=99\n")
        written.writestr("vllm-0.10.1.1.dist-info/METADATA", METADATA)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Files, and the ends of files."""

    files: Mapping[str, bytes]

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(206 if "Range" in self.headers else 200)
        size = len(content)
        self.send_header("Content-Range", f"bytes 0-{size - 1}/{size}")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def index_with(files: Mapping[str, bytes]) -> Iterator[str]:
    handler = type("OneIndex", (Handler,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def read(files: Mapping[str, bytes], *, query: str = "") -> MetadataAnswer:
    with index_with(files) as url:
        document = {"packages": [{"wheels": [{"name": FILE, "url": f"{url}/{query}"}]}]}
        client = IndexClient(network=Network())
        return metadata_of((wheel(),), document, client, {})


@pytest.mark.parametrize(
    ("bounds", "python", "allowed"),
    [
        ("<3.13,>=3.9", "3.12", True),
        ("<3.13,>=3.9", "3.13", False),
        ("<=3.12", "3.12", False),  # 3.12.1 is newer than that
        ("<3.12.4", "3.12", True),
        (">=3.9.7", "3.9", True),
        ("!=3.11.*", "3.11", False),
        ("", "3.11", True),
    ],
)
def test_bounds_hold_for_patch_releases(
    bounds: str, python: str, *, allowed: bool
) -> None:
    assert allows_python(SpecifierSet(bounds), Version(python)) is allowed


@pytest.mark.parametrize(
    "files",
    [{f"/{FILE}.metadata": METADATA}, {f"/{FILE}": archive()}],
    ids=["beside", "inside"],
)
def test_metadata_is_read_beside_a_wheel_or_inside(files: dict[str, bytes]) -> None:
    answer = read(files, query=FILE)
    assert str(answer.by_package["vllm"].requires_python) == "<3.9,>=3.8"
    assert answer.unread == []


def test_a_token_stays_behind_the_name() -> None:
    path = f"/{FILE}.metadata?token=1"
    answer = read({path: METADATA}, query=f"{FILE}?token=1")
    assert answer.unread == []


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_cannot_be_read_refuses_nothing(content: bytes | None) -> None:
    answer = read({f"/{FILE}": content} if content else {}, query=FILE)
    assert answer.unread == ["vllm"]
    assert answer.reason
    assert list(python_clashes((wheel(),), answer, Version("3.9"))) == []


def test_a_wheel_of_one_python_is_not_read() -> None:
    one = wheel("vllm-0.10.1.1-cp39-cp39-manylinux1_x86_64.whl")
    answer = metadata_of((one,), {}, IndexClient(network=Network()), {})
    assert answer.unread == []


def test_a_bound_that_cannot_be_read_is_none() -> None:
    assert str(parse_metadata(b"Requires-Python: banana\n").requires_python) == ""


def resolving(asked: list[str]) -> Uv:
    def run(argv: Any) -> Completed:
        asked.append(argv[argv.index("--python-version") + 1])
        Path(argv[5]).write_text('lock-version = "1.0"\npackages = []\n')
        return Completed(returncode=0, stdout="", stderr="")

    return Uv(program="uv", run=run)


def test_a_clash_names_package_bounds_and_another_python() -> None:
    metadata = parse_metadata(METADATA)
    answer = MetadataAnswer(by_package={"vllm": metadata})
    stacks = []
    for python in ("3.10", "3.8"):
        other = replace(LOCK.stack, python=Version(python))
        stacks.append((f"lock --python {python}", other))
    asked: list[str] = []
    uv = resolving(asked)
    lock = lock_of(wheel())
    with pytest.raises(NoStackError) as caught:
        check_python(lock, answer, uv, NO_SOURCES, lambda: stacks)
    error = caught.value
    assert error.message == (
        "vllm 0.10.1.1 needs Python <3.9,>=3.8, and the stack has Python 3.9"
    )
    assert error.suggestions == ("lock --python 3.8",)
    assert error.conflict == (("python", "3.9"), ("package", "vllm"))
    assert asked == ["3.8"]  # the other is outside of the bounds


def test_no_hint_leads_to_a_python_that_a_wheel_refuses() -> None:
    with index_with({f"/{FILE}.metadata": METADATA}) as url:

        def run(argv: Any) -> Completed:
            Path(argv[5]).write_text(
                f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "vllm"\nversion = "0.10.1.1"\n'
                f'[[packages.wheels]]\nname = "{FILE}"\nurl = "{url}/{FILE}"\nsize = 1\n'
                f'hashes = {{ sha256 = "{wheel().sha256}" }}\n'
            )
            return Completed(returncode=0, stdout="", stderr="")

        uv = Uv(program="uv", run=run, client=IndexClient(network=Network()))
        old = replace(LOCK.stack, python=Version("3.8"))
        found = first_that_resolves(uv, [("a", LOCK.stack), ("b", old)], NO_SOURCES)
    assert found == "b"
