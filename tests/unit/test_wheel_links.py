"""What wheels link to: read from an index by range requests, and said at lock with the options that help."""

import io
import json
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
from elf_library import library
from packaging.version import Version

from envbuilder import catalog
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.needed_libraries import needed_libraries
from envbuilder.lock.wheel_libraries import LinkReader, wheels_to_read
from envbuilder.lock.wheel_links import link_notes
from envbuilder.model import Layer, Lock, Wheel
from envbuilder.network import Network

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
LIBRARIES = catalog.read(catalog.SYSTEM_LIBRARIES)


def wheel_of(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


class Handler(BaseHTTPRequestHandler):
    files: Mapping[str, bytes]
    ranges = True
    requests: int

    def do_GET(self) -> None:
        type(self).requests += 1
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        end = int(last) + 1 if first else len(content)
        part = content[start:end] if self.ranges else content
        self.send_response(206 if self.ranges else 200)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def index_with(files: Mapping[str, bytes], *, ranges: bool = True) -> Iterator[Any]:
    class OneIndex(Handler):
        pass

    OneIndex.files, OneIndex.ranges, OneIndex.requests = files, ranges, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), OneIndex) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def locked(
    content: bytes, name: str = "opencv-python", *, apt: tuple[str, ...] = ()
) -> Lock:
    lock = parse_lock(PRESET.read_text(), source=str(PRESET))
    wheel = Wheel(
        name=name,
        version=Version("1"),
        file=f"{name.replace('-', '_')}-1-cp39-cp39-manylinux2014_x86_64.whl",
        size=len(content),
        sha256=sha256(content).hexdigest(),
        layer=Layer.STACK,
    )
    stack = replace(lock.stack, extras=(name,), apt=apt)
    return replace(lock, stack=stack, wheels=(*lock.wheels, wheel))


def notes(
    lock: Lock, content: bytes, folder: Path | None = None, *, ranges: bool = True
) -> tuple[list[str], int]:
    """The notes on the last wheel of a lock, and how many requests they took."""
    file = lock.wheels[-1].file
    with index_with({f"/{file}": content}, ranges=ranges) as server:
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        document = {"packages": [{"wheels": [{"url": url}]}]}
        reader = LinkReader(network=Network(), folder=folder)
        answer = reader.read(lock, document)
        found = list(link_notes(lock, answer, LIBRARIES))
        return found, server.RequestHandlerClass.requests


OPENCV = wheel_of(
    {
        "cv2/cv2.abi3.so": library("libc.so.6", "libstdc++.so.6", "libGL.so.1", "libavcodec-1a.so.59", "libz.so.1"),
        "cv2/qt/plugins/platforms/libqxcb.so": library("libXi.so.6"),
        "opencv_python.libs/libavcodec-1a.so.59": library("libgthread-2.0.so.0", "libX11.so.6"),
        "opencv_python-1.dist-info/METADATA": b"x" * 100_000,
    }
)  # fmt: skip


def test_opencv_is_told_which_system_packages_it_needs(tmp_path: Path) -> None:
    lock = locked(OPENCV)
    found, requests = notes(lock, OPENCV, tmp_path)
    assert found == [
        "opencv-python needs libGL.so.1, libX11.so.6, libgthread-2.0.so.0 of the system: "
        "add `--apt libgl1 --apt libglib2.0-0`, or use `--package opencv-python-headless` instead"
    ]
    assert requests == 3
    assert notes(lock, OPENCV, tmp_path) == (found, 0)  # kept by the wheel's hash
    given = ("libgl1", "libglib2.0-0")
    assert notes(locked(OPENCV, apt=given), OPENCV)[0] == []


def test_a_library_that_is_unknown_is_named() -> None:
    content = wheel_of(
        {"a/_c.abi3.so": library("libmystery.so.3", "libcudart.so.12", "libtorch.so")}
    )
    found, _ = notes(locked(content, "a"), content)
    assert found == [
        "a needs libmystery.so.3: not known which Debian package has it (`--apt NAME`)"
    ]


def test_libraries_of_unused_parts_are_not_named() -> None:
    content = wheel_of({"a.libs/libextra.so": library("libmystery.so.3")})
    assert notes(locked(content, "a"), content)[0] == []


@pytest.mark.parametrize(
    ("content", "ranges", "reason"),
    [
        (OPENCV, False, "the index does not serve parts of files"),
        (b"no wheel", True, "is no wheel"),
        (b"", True, "is no wheel"),
    ],
)
def test_what_cannot_be_read_is_one_note(
    content: bytes, ranges: bool, reason: str
) -> None:
    lock = locked(content, "a")
    found, _ = notes(lock, content, ranges=ranges)
    assert len(found) == 1
    assert found[0].startswith("what a links to is not known: ")
    assert reason in found[0]


def test_only_compiled_wheels_of_the_user_are_read() -> None:
    lock = locked(OPENCV)
    assert [wheel.name for wheel in wheels_to_read(lock)] == ["opencv-python"]
    assert wheels_to_read(replace(lock, stack=replace(lock.stack, extras=()))) == []
    for path in sorted((ROOT / "docker/images").glob("*/envbuilder.lock")):
        preset = parse_lock(path.read_text(), source=str(path))
        with_extra = replace(preset, stack=replace(preset.stack, extras=("peft",)))
        assert wheels_to_read(with_extra) == [], path


@pytest.mark.parametrize("cut", [0, 3, 40, 100, 130, 180, 200])
def test_damaged_libraries_are_no_error(cut: int) -> None:
    whole = library("libGL.so.1", "libX11.so.6")
    assert needed_libraries(whole) == ["libGL.so.1", "libX11.so.6"]
    assert set(needed_libraries(whole[:cut])) <= {"libGL.so.1", "libX11.so.6"}
    assert needed_libraries(whole[:64] + b"\xff" * 400) == []


def test_a_kept_answer_that_is_damaged_is_read_again(tmp_path: Path) -> None:
    lock = locked(OPENCV)
    path = tmp_path / f"{lock.wheels[-1].sha256}.json"
    path.write_text(
        json.dumps({"needs": ["`id`"], "modules": [], "has": [], "whole": True})
    )
    found, requests = notes(lock, OPENCV, tmp_path)
    assert requests == 3
    assert "libGL.so.1" in found[0]
