"""A package index on this machine, for the real uv: the pages that `make record-index` wrote, with faults on demand.

It speaks PEP 691 (JSON) and PEP 503 (HTML), and serves METADATA next to the wheels (PEP 658); it has no wheels but
those that a test gives it.
"""

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

from packaging.utils import parse_sdist_filename, parse_wheel_filename

RECORDED = Path(__file__).parent / "recorded_index"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html"


@dataclass(slots=True, kw_only=True)
class Faults:
    """What is wrong with the index; may be changed while it serves. Paths are as in `IndexServer.paths`."""

    last_day: date | None = None  # the index as it stood at the end of this day, in UTC
    yanked: dict[str, str] = field(default_factory=dict)  # file → the reason
    removed: set[str] = field(default_factory=set)  # files
    renamed: dict[str, str] = field(
        default_factory=dict
    )  # file → its name with other tags
    changed: dict[str, str] = field(default_factory=dict)  # file → another sha256
    delays: dict[str, float] = field(
        default_factory=dict
    )  # path → seconds before the answer
    statuses: dict[str, int] = field(
        default_factory=dict
    )  # path → 404 or 503 in place of the answer
    cuts: dict[str, int] = field(
        default_factory=dict
    )  # path → bytes after which it hangs up
    flips: dict[str, int] = field(
        default_factory=dict
    )  # path → the byte that is another
    short: dict[str, int] = field(
        default_factory=dict
    )  # path → bytes that are sent as if they were all
    stalls: set[str] = field(
        default_factory=set
    )  # paths whose answers never come to their end


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexServer:
    """An index that is being served."""

    url: str
    paths: list[str]
    """What was requested, in order: `/simple/numpy/`, `/files/numpy/numpy-2.5.5-….whl.metadata`."""


class Project:
    """One recorded project, with the faults that the index has."""

    def __init__(self, folder: Path, name: str, faults: Faults) -> None:
        self._recorded = json.loads((folder / f"{name}.json").read_text())
        self._faults = faults
        self.name = name

    def files(self) -> list[dict[str, Any]]:
        """The files as PEP 691 has them."""
        faults = self._faults
        listed = []
        for row in self._recorded["files"]:
            name = row["filename"]
            if name not in faults.removed and not self._is_too_new(row):
                listed.append(self._file(row, faults.renamed.get(name, name)))
        return listed

    def _is_too_new(self, row: Mapping[str, Any]) -> bool:
        last_day = self._faults.last_day
        if last_day is None:
            return False
        uploaded = datetime.fromisoformat(row["upload-time"]).astimezone(UTC)
        return uploaded.date() > last_day

    def _file(self, row: Mapping[str, Any], name: str) -> dict[str, Any]:
        recorded = row["filename"]
        file = {key: value for key, value in row.items() if key != "metadata"}
        metadata = self._metadata(name, row["metadata"])
        return {
            **file,
            "filename": name,
            "url": f"../../files/{self.name}/{name}",
            "hashes": {
                "sha256": self._faults.changed.get(recorded, row["hashes"]["sha256"])
            },
            "yanked": self._faults.yanked.get(recorded, row["yanked"]),
            "core-metadata": {"sha256": sha256(metadata.encode()).hexdigest()},
        }

    def _metadata(self, filename: str, key: str) -> str:
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {self.name}",
            f"Version: {_version(filename)}",
        ]
        lines += self._recorded["metadata"][key]
        return "\n".join([*lines, ""])

    def metadata(self, filename: str) -> str | None:
        """The METADATA of a file that the index lists."""
        for row in self._recorded["files"]:
            name = row["filename"]
            if (
                self._faults.renamed.get(name, name) == filename
                and name not in self._faults.removed
            ):
                return self._metadata(filename, row["metadata"])
        return None

    def as_json(self) -> str:
        """The page as PEP 691 and PEP 700 have it."""
        files = self.files()
        versions = {_version(file["filename"]) for file in files}
        page = {
            "meta": {"api-version": "1.1"},
            "name": self.name,
            "files": files,
            "versions": sorted(versions),
        }
        return json.dumps(page)

    def as_html(self) -> str:
        """The page as PEP 503 has it, which knows no sizes and no days."""
        lines = ["<!DOCTYPE html>", "<html><body>"]
        for file in self.files():
            attributes = {
                "href": f"{file['url']}#sha256={file['hashes']['sha256']}",
                "data-core-metadata": f"sha256={file['core-metadata']['sha256']}",
            }
            if file["requires-python"]:
                attributes["data-requires-python"] = file["requires-python"]
            if file["yanked"]:
                attributes["data-yanked"] = (
                    "" if file["yanked"] is True else file["yanked"]
                )
            text = " ".join(
                f'{name}="{escape(value)}"' for name, value in attributes.items()
            )
            lines.append(f"<a {text}>{file['filename']}</a><br>")
        return "\n".join([*lines, "</body></html>", ""])


def _version(filename: str) -> str:
    if filename.endswith(".tar.gz"):
        return str(parse_sdist_filename(filename)[1])
    return str(parse_wheel_filename(filename)[1])


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    folder: Path
    faults: Faults
    paths: list[str]
    wheels: Mapping[str, bytes]
    login: str  # `user:password`; without one everybody is let in
    over: Event  # nobody needs the answers any more
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and self.headers.get("Authorization") != expected:
            self._refuse()
            return
        self.paths.append(self.path)
        if self.path in self.faults.delays:
            sleep(self.faults.delays[self.path])
        if self.path in self.faults.statuses:
            self._answer("", HTML_TYPE, self.faults.statuses[self.path])
            return
        kind, _, rest = self.path.removeprefix("/").partition("/")
        name, _, file = rest.partition("/")
        if not (self.folder / f"{name}.json").is_file():
            self._answer("", HTML_TYPE, 404)
            return
        project = Project(self.folder, name, self.faults)
        metadata = (
            project.metadata(file.removesuffix(".metadata"))
            if file.endswith(".metadata")
            else None
        )
        if kind == "simple" and not file:
            self._page(project)
        elif kind == "files" and file in self.wheels:
            self._send(self.wheels[file], "application/octet-stream")
        elif kind == "files" and metadata is not None:
            self._answer(metadata, "text/plain; charset=utf-8")
        else:
            self._answer("", HTML_TYPE, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _page(self, project: Project) -> None:
        if JSON_TYPE in self.headers.get("Accept", ""):
            self._answer(project.as_json(), JSON_TYPE)
        else:
            self._answer(project.as_html(), HTML_TYPE)

    def _answer(self, text: str, content_type: str, status: int = 200) -> None:
        self._send(text.encode(), content_type, status)

    def _send(self, body: bytes, content_type: str, status: int = 200) -> None:
        faults = self.faults
        body = body[: faults.short.get(self.path, len(body))]
        if self.path in faults.flips:
            at = faults.flips[self.path]
            body = body[:at] + bytes([body[at] ^ 255]) + body[at + 1 :]
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: faults.cuts.get(self.path, len(body))]
        if self.path in faults.stalls:
            sent = body[: len(body) // 2]
        if self.command != "HEAD":
            self.wfile.write(sent)
        self.close_connection = len(sent) < len(body)
        if self.path in faults.stalls:
            self.wfile.flush()
            self.over.wait(600)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(
    faults: Faults | None = None,
    *,
    folder: Path = RECORDED,
    wheels: Mapping[str, bytes] | None = None,
    login: str = "",
) -> Iterator[IndexServer]:
    """Serve the recorded index on the loopback interface; `wheels` are the contents of files that it lists."""
    paths: list[str] = []
    faults = faults or Faults()
    over = Event()
    attributes = {
        "folder": folder, "faults": faults, "paths": paths, "wheels": wheels or {}, "login": login, "over": over,
    }  # fmt: skip
    handler = type("OneIndex", (Handler,), attributes)
    server = _Server(("127.0.0.1", 0), handler)
    thread = Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield IndexServer(
            url=f"http://127.0.0.1:{server.server_port}/simple/", paths=paths
        )
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
