"""A model hub on this machine, for the real `huggingface_hub` and `datasets` clients: its protocol, a folder's files.

`root/models/NAME/…` and `root/datasets/NAME/…` are the repositories; each has one revision. Only what the clients ask
for is here: what a repository is, what is in it, and its files, in parts too.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"^/api/(models|datasets)/(.+?)(?:/revision/([^/]+))?$")
_TREE = re.compile(
    r"^/api/(models|datasets)/(.+?)/(tree|paths-info)/([^/]+)(?:/(.*))?$"
)
_FILE = re.compile(r"^(?:/(datasets))?/(.+?)/resolve/([^/]+)/(.+)$")


class Hub(BaseHTTPRequestHandler):
    """One request."""

    root: Path
    seen: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(asked=asked)

    def _answer(self, *, body: bool = True, asked: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.seen.append(f"{self.command} {path}")
        if match := _TREE.match(path):
            self._tree(*match.groups(), asked=asked)
        elif match := _FILE.match(path):
            self._file(match[1] or "models", match[2], match[4], body=body)
        elif match := _INFO.match(path):
            self._info(match[1], match[2])
        else:
            self._json({"error": "there is nothing here"}, 404)

    def _repository(self, kind: str, name: str) -> Path | None:
        folder = self.root / kind / name
        if folder.is_dir() and self.root in folder.resolve().parents:
            return folder
        self._json(
            {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"}
        )
        return None

    def _info(self, kind: str, name: str) -> None:
        folder = self._repository(kind, name)
        if folder:
            names = [path.relative_to(folder).as_posix() for path in files(folder)]
            commit = revision(folder)
            siblings = [{"rfilename": name} for name in names]
            self._json(
                {
                    "id": name,
                    "sha": commit,
                    "private": False,
                    "tags": [],
                    "siblings": siblings,
                    "cardData": {},
                }
            )

    def _tree(
        self,
        kind: str,
        name: str,
        what: str,
        _revision: str,
        below: str | None,
        *,
        asked: bytes,
    ) -> None:
        folder = self._repository(kind, name)
        if not folder:
            return
        found = [entry(path, folder) for path in files(folder)]
        if what == "paths-info":
            wanted = json.loads(asked or b"{}").get("paths", [])
            self._json([item for item in found if item["path"] in wanted])
        elif below and not any(item["path"].startswith(below + "/") for item in found):
            self._json(
                {"error": "no such folder"}, 404, {"X-Error-Code": "EntryNotFound"}
            )
        else:
            self._json(
                [
                    item
                    for item in found
                    if not below or item["path"].startswith(below + "/")
                ]
            )

    def _file(self, kind: str, name: str, file: str, *, body: bool) -> None:
        folder = self._repository(kind, name)
        if not folder:
            return
        path = folder / file
        if not path.is_file():
            self._json(
                {"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"}
            )
            return
        content = path.read_bytes()
        start, end = self._range(len(content))
        self.send_response(206 if "Range" in self.headers else 200)
        headers = {
            "ETag": f'"{entry(path, folder)["oid"]}"',
            "X-Repo-Commit": revision(folder),
            "Accept-Ranges": "bytes",
        }
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        for key, value in {**headers, "Content-Length": str(end - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content[start:end])

    def _range(self, length: int) -> tuple[int, int]:
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return 0, length
        return int(match[1]), min(length, int(match[2]) + 1 if match[2] else length)

    def _json(
        self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        text = json.dumps(document).encode()
        self.send_response(status)
        all_headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            **(headers or {}),
        }
        for key, value in all_headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


def files(folder: Path) -> list[Path]:
    """Every file of a repository, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def revision(folder: Path) -> str:
    """What a commit would be called: a hash of names and sizes."""
    listing = [
        (path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in files(folder)
    ]
    return sha1(json.dumps(listing).encode()).hexdigest()


def entry(path: Path, folder: Path) -> dict[str, Any]:
    """A file as the tree lists it."""
    size = path.stat().st_size
    name = path.relative_to(folder).as_posix()
    return {
        "type": "file",
        "path": name,
        "size": size,
        "oid": sha1(f"{name} {size}".encode()).hexdigest(),
    }


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub of the folder's repositories on the loopback interface; gives its address and what was asked of it."""
    seen: list[str] = []
    handler = type("OneHub", (Hub,), {"root": root.resolve(), "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
