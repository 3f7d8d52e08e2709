"""PyTorch's own index on this machine, with wheels that hold nothing but metadata: for the real uv.

Pages are HTML as PEP 503 has it, without sizes and days; an old NumPy stands there as bait.
"""

import base64
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, unquote, urlsplit

LINUX = "linux_x86_64"
TORCH_2_0_1 = (
    "triton==2.0.0", "filelock", "typing-extensions", "sympy", "networkx", "jinja2",
)  # fmt: skip


def make_wheel(
    name: str, version: str, requires: Sequence[str] = (), tag: str = "py3-none-any"
) -> tuple[str, bytes]:
    """A wheel of one empty module: its file name and its bytes, always the same."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {line}\n" for line in requires]
    files = {
        f"{name}/__init__.py": "",
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = [f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items()]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-{version}-{tag}.whl", buffer.getvalue()


def _digest(text: str) -> str:
    digest = sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def family(local: str = "cu118", python: str = "cp310") -> Mapping[str, bytes]:
    """torch 2.0.1 and what goes with it, for one Python, and the bait."""
    tag = f"{python}-{python}-{LINUX}"
    return dict(
        [
            make_wheel("torch", f"2.0.1+{local}", TORCH_2_0_1, tag),
            make_wheel("torch", f"2.0.1+{local}", TORCH_2_0_1, "cp38-cp38-win_amd64"),
            make_wheel("torchvision", f"0.15.2+{local}", ("torch==2.0.1",), tag),
            make_wheel("torchaudio", f"2.0.2+{local}", ("torch==2.0.1",), tag),
            make_wheel("numpy", "1.24.1"),
            make_wheel("requests", "2.28.1"),
        ]
    )


@dataclass(slots=True, kw_only=True)
class Pages:
    """What is served, and how."""

    wheels: Mapping[str, bytes]
    hashes: bool = True
    login: str = ""  # `user:password`; without one everybody is let in
    swapped: dict[str, bytes] = field(default_factory=dict)  # file → other content
    odd: str = ""  # HTML that stands in front of the links
    paths: list[str] = field(default_factory=list)
    """What was requested, in order: `/whl/cu118/torch/`."""
    url: str = ""
    """The address of the whole tree, `…/whl`."""

    def page(self, name: str | None) -> str:
        """The links to one project's files; None: to all."""
        lines = ["<!DOCTYPE html>", "<html>", f"<h1>Links for {name}</h1>", self.odd]
        for file, content in self.wheels.items():
            if name is not None and not file.startswith(f"{name}-"):
                continue
            href = f"/whl/cu118/{quote(file)}"
            if self.hashes:
                href += f"#sha256={sha256(content).hexdigest()}"
            lines.append(f'<a href="{href}">{file}</a><br/>')
        return "\n".join([*lines, "</html>", "<!--TIMESTAMP 1790000000-->"])

    def answer(self, path: str) -> bytes | None:
        """The body of an answer; None: there is no such thing."""
        file = unquote(path).rpartition("/")[2]
        if file in self.wheels:
            return self.swapped.get(file, self.wheels[file])
        if path == "/flat/cu118":
            return self.page(None).encode()
        project = re.fullmatch(r"/whl/(?:cu118|cpu)/([a-z0-9-]+)/", path)
        if project and any(name.startswith(f"{project[1]}-") for name in self.wheels):
            return self.page(project[1]).encode()
        return None


class PagesHandler(BaseHTTPRequestHandler):
    """One connection."""

    pages: Pages
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        login = base64.b64encode(self.pages.login.encode()).decode()
        if self.pages.login and self.headers.get("Authorization") != f"Basic {login}":
            self._send(401, b"")
            return
        path = urlsplit(self.path).path
        self.pages.paths.append(path)
        body = self.pages.answer(path)
        if body is None:
            self._send(404, b"")
        else:
            self._send(200, body)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serve_pages(pages: Pages) -> Iterator[Pages]:
    """Serve the pages on the loopback interface; their address is in them then."""
    handler = type("OnePages", (PagesHandler,), {"pages": pages})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    pages.url = f"http://127.0.0.1:{server.server_port}/whl"
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
