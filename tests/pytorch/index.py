"""A server that answers as PyTorch's own package index does, for the real uv.

Its pages are HTML (PEP 503) whatever a client accepts, without sizes. A `+` is `%2B` in addresses. Files of torch's
family are on another host than the pages. Some have a hash, a date or METADATA next to them, others have not; a date
may be that of a second upload. What the index does not have is forbidden, not missing. It also lists an old NumPy and
an old requests, which nobody should take.
"""

import base64
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote

BAIT = {
    "numpy": "numpy-1.24.1-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "requests": "requests-2.28.1-py3-none-any.whl",
    "sympy": "sympy-1.11.1-py3-none-any.whl",
}
UPLOADED_AGAIN = "2026-11-01T08:00:00Z"  # after the day that a lock is made for
BLOCK = 1 << 20


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """How the index behaves; may be changed while it serves. Files go by their names, `+` and all."""

    without_hash: set[str] = field(default_factory=set)
    with_date: set[str] = field(default_factory=set)
    with_metadata: set[str] = field(default_factory=set)
    hashes: dict[str, str] = field(default_factory=dict)  # other than the file's own
    contents: dict[str, bytes] = field(default_factory=dict)  # other than the file's
    pages: dict[str, str] = field(default_factory=dict)  # path → other HTML
    files_at: str = ""  # another host of the files than the one that has them
    login: str = ""  # `user:password`; without one everybody is let in

    def reset(self) -> None:
        """Behave well again."""
        good = Behaviour()
        for one in fields(self):
            setattr(self, one.name, getattr(good, one.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class PyTorchIndex:
    """An index that is being served."""

    url: str
    """The whole tree, https://host/whl."""
    flat: str
    """Find-links pages of the same files, one for each tag below it, as mirrors have them."""
    files: str
    """The host of the files."""
    pages_seen: list[str]
    files_seen: list[str]
    """What was requested of each host, in order: `/whl/cu118/torch/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shelf:
    """The wheels by tag, and what both hosts know."""

    wheels: Mapping[str, Sequence[Path]]
    behaviour: Behaviour

    def find(self, name: str) -> Path | None:
        for paths in self.wheels.values():
            for path in paths:
                if path.name == name.removesuffix(".metadata"):
                    return path.with_name(name)
        return None

    def content(self, name: str) -> bytes | Path | None:
        changed = self.behaviour.contents.get(name)
        if changed is not None:
            return changed
        path = self.find(name)
        return path if path and path.is_file() else None

    def of_project(self, tag: str, project: str) -> list[Path]:
        """The files of a project below a tag; below "" of all tags."""
        found = []
        for name, paths in self.wheels.items():
            if tag in ("", name):
                found += [path for path in paths if _project(path) == project]
        return found

    def projects(self) -> list[str]:
        names = {_project(path) for paths in self.wheels.values() for path in paths}
        return sorted(names | set(BAIT))


def _project(path: Path) -> str:
    return path.name.partition("-")[0].lower().replace("_", "-")


def _tag_of(shelf: _Shelf, path: Path) -> str:
    return next(tag for tag, paths in shelf.wheels.items() if path in paths)


class Host(BaseHTTPRequestHandler):
    """One connection to the host of the pages, or to that of the files."""

    shelf: _Shelf
    seen: list[str]
    has_pages: bool
    files: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.seen.append(path)
        if not self._may_enter():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="whl"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.has_pages and path.strip("/") in self._folders() and path[-1] != "/":
            self.send_response(301)
            self.send_header("Location", f"{path}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        page = self._page(path) if self.has_pages else None
        content = self.shelf.content(path.rpartition("/")[2])
        if page is not None:
            self._send(page.encode(), "text/html; charset=utf-8")
        elif content is None or (self.has_pages and "/pytorch-wheels/" not in path):
            # The storage behind it does not say which files it has.
            text = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
            self._send(text, "application/xml", 403)
        elif isinstance(content, bytes):
            self._send(content, "binary/octet-stream")
        else:
            self._send_file(content)

    def _folders(self) -> set[str]:
        """Those of the mirror, without a slash at their end."""
        return {f"pytorch-wheels/{tag}" for tag in self.shelf.wheels}

    def _may_enter(self) -> bool:
        login = self.shelf.behaviour.login
        expected = "Basic " + base64.b64encode(login.encode()).decode()
        return not login or self.headers.get("Authorization") == expected

    # --- pages

    def _page(self, path: str) -> str | None:
        changed = self.shelf.behaviour.pages.get(path)
        if changed is not None:
            return changed
        root, *words = path.strip("/").split("/")
        if not path.endswith("/"):
            return None
        if root == "pytorch-wheels" and words and words[0] in self.shelf.wheels:
            return self._flat_page(words[0])
        if root != "whl" or len(words) > 2:
            return None
        tag = words.pop(0) if words and words[0] in self.shelf.wheels else ""
        if not words:
            return self._list_of_projects()
        return self._project_page(tag, words[0]) if len(words) == 1 else None

    def _list_of_projects(self) -> str:
        lines = []
        for name in self.shelf.projects():
            lines.append(f'    <a href="{name}/">{name}</a><br/>')
        return _html("", lines)

    def _project_page(self, tag: str, project: str) -> str | None:
        lines = [self._line(path) for path in self.shelf.of_project(tag, project)]
        if project in BAIT:
            name = BAIT[project]
            digest = sha256(b"bait").hexdigest()
            lines.append(f'    <a href="/whl/{name}#sha256={digest}">{name}</a><br/>')
        return _html(f"Links for {project}", lines) if lines else None

    def _line(self, path: Path) -> str:
        behaviour = self.shelf.behaviour
        name = path.name
        digest = behaviour.hashes.get(name) or _hash_of(path)
        address = f"{behaviour.files_at or self.files}/whl/{_tag_of(self.shelf, path)}/{quote(name)}"
        attributes = ""
        if name not in behaviour.without_hash:
            address += f"#sha256={digest}"
        if name in behaviour.with_metadata:
            metadata = path.with_name(f"{name}.metadata").read_bytes()
            value = f"sha256={sha256(metadata).hexdigest()}"
            attributes += (
                f' data-dist-info-metadata="{value}" data-core-metadata="{value}"'
            )
        if name in behaviour.with_date:
            attributes += f' data-upload-time="{UPLOADED_AGAIN}"'
        return f'    <a href="{address}"{attributes}>{name}</a><br/>'

    def _flat_page(self, tag: str) -> str:
        """A folder as a web server lists it: relative addresses, no hashes."""
        lines = ['<a href="../">../</a>']
        for path in self.shelf.wheels[tag]:
            size = path.stat().st_size
            lines.append(
                f'<a href="{quote(path.name)}">{path.name[:47]}..&gt;</a> 08-May-2023 12:00 {size:>12}'
            )
        body = "\n".join(lines)
        return f"<html><head><title>Index of /{tag}/</title></head><body><pre>{body}\n</pre></body></html>\n"

    # --- answers

    def _send(self, body: bytes, content_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        size = path.stat().st_size
        start, end = _range(self.headers.get("Range", ""), size)
        self.send_response(206 if (start, end) != (0, size) else 200)
        self.send_header("Content-Type", "binary/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as stream:
            stream.seek(start)
            while start < end:
                block = stream.read(min(BLOCK, end - start))
                self.wfile.write(block)
                start += len(block)


def _html(title: str, lines: Sequence[str]) -> str:
    """A page as the index's own program writes it."""
    heading = [f"    <h1>{title}</h1>"] if title else []
    body = ["<!DOCTYPE html>", "<html>", "  <body>", *heading, *lines]
    return "\n".join([*body, "  </body>", "</html>", "<!--TIMESTAMP 1787300000-->", ""])


def _hash_of(path: Path) -> str:
    """What `wheels.family` wrote next to the wheel; small ones are read."""
    written = path.with_name(f"{path.name}.sha256")
    return (
        written.read_text()
        if written.is_file()
        else sha256(path.read_bytes()).hexdigest()
    )


def _range(header: str, size: int) -> tuple[int, int]:
    """The first byte and the one behind the last of a request for a part; one range is enough for uv."""
    unit, _, asked = header.partition("=")
    first, _, last = asked.partition("-")
    if unit != "bytes":
        return 0, size
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked may hang up."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serve(
    wheels: Mapping[str, Sequence[Path]],
    behaviour: Behaviour | None = None,
    *,
    address: str = "127.0.0.1",
    certificate: Path | None = None,
) -> Iterator[PyTorchIndex]:
    """Serve wheels by tag. `certificate`: a PEM file with certificate and key, for TLS."""
    shelf = _Shelf(wheels=wheels, behaviour=behaviour or Behaviour())
    scheme = "https" if certificate else "http"
    with (
        _host(shelf, address, certificate, files="") as (files_port, files_seen),
        _host(
            shelf, address, certificate, files=f"{scheme}://{address}:{files_port}"
        ) as (port, pages_seen),
    ):
        host = f"{scheme}://{address}:{port}"
        yield PyTorchIndex(
            url=f"{host}/whl",
            flat=f"{host}/pytorch-wheels",
            files=f"{scheme}://{address}:{files_port}",
            pages_seen=pages_seen,
            files_seen=files_seen,
        )


@contextmanager
def _host(
    shelf: _Shelf, address: str, certificate: Path | None, *, files: str
) -> Iterator[tuple[int, list[str]]]:
    """One host: that of the pages, which names the host of the `files`, or that of the files."""
    seen: list[str] = []
    attributes = {
        "shelf": shelf,
        "seen": seen,
        "files": files,
        "has_pages": bool(files),
    }
    server = _Server((address, 0), type("OneHost", (Host,), attributes))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
