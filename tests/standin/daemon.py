"""A stand-in for the Docker daemon: the routes of its API that the SDK uses here, on a unix socket in a folder.

It keeps images and containers in dictionaries, records requests in order, and fails on demand.
https://docs.docker.com/reference/api/engine/
"""

import base64
import io
import json
import re
import socketserver
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the answers of a route."""

    status: int = 0  # answer with this error and `message`
    message: str = ""
    drop: bool = False  # hang up without an answer
    truncate: bool = False  # hang up in the middle of the answer
    hold: threading.Event | None = None  # answer only once it is set


@dataclass
class Box:
    """A container; its script runs once it is started, and gives what it writes to stdout, chunk by chunk."""

    id: str
    config: Mapping[str, Any]
    script: Callable[["Box"], Iterator[bytes]]
    code: int = 0
    out_of_memory: bool = False
    stderr: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    signalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class Volume:
    """A volume; `files` are in it, by their paths in a container."""

    labels: Mapping[str, str]
    files: dict[str, bytes] = field(default_factory=dict)


def writes(
    *chunks: bytes, code: int = 0, out_of_memory: bool = False, stderr: str = ""
) -> Any:
    """A script that writes this and ends so."""

    def script(box: Box) -> Iterator[bytes]:
        box.code, box.out_of_memory, box.stderr = code, out_of_memory, stderr
        yield from chunks

    return script


def runs_until_it_is_killed(*chunks: bytes) -> Any:
    """A script that writes this and then waits for a signal."""

    def script(box: Box) -> Iterator[bytes]:
        yield from chunks
        box.signalled.wait(60)
        box.code = 137

    return script


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def image(name: str, **changes: Any) -> dict[str, Any]:
    """An image as `docker image inspect` gives it."""
    config = {
        "Labels": {"a": "b"},
        "Env": ["A=1"],
        "Cmd": ["sh"],
        "Entrypoint": None,
        "User": "me",
    }
    return {
        "Id": name,
        "Size": 7,
        "Os": "linux",
        "Architecture": "amd64",
        "Config": config,
        **changes,
    }


@dataclass
class Daemon:
    """What it has, what it was asked, and what goes wrong."""

    socket: Path
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    registry: dict[str, dict[str, Any]] = field(default_factory=dict)
    script: Any = field(default_factory=lambda: writes(b"hello\n"))
    history: Sequence[Mapping[str, Any]] = ()
    saved: bytes = b""  # an image as `docker save` writes it
    pushes: Sequence[Mapping[str, Any]] = (
        {"status": "pushing"},
        {"aux": {"Digest": "sha256:d"}},
    )
    info: dict[str, Any] = field(
        default_factory=lambda: {"ServerVersion": "27.0", "NCPU": 2, "OSType": "linux"}
    )
    faults: dict[str, Fault] = field(
        default_factory=dict
    )  # route → what goes wrong with it
    stalls: dict[str, threading.Event] = field(
        default_factory=dict
    )  # route → what its last chunk waits for
    boxes: dict[str, Box] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(
        default_factory=dict
    )  # route → the last body that was sent to it
    queries: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # route → the last query

    _made: int = 0

    def asked(self, *routes: str) -> list[str]:
        return [line for line in self.journal if line.split()[0] in routes]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts every request and answers none, until the block ends."""
        thawed = threading.Event()
        before = dict(self.faults)
        self.faults.update({name: Fault(hold=thawed) for name, _, _ in _ROUTES})
        try:
            yield
        finally:
            self.faults.clear()
            self.faults.update(before)
            thawed.set()

    def add(self, labels: Mapping[str, str], script: Any = None) -> Box:
        """A container that is there already."""
        return self._box({"Labels": dict(labels), "HostConfig": {}}, script)

    def add_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """A volume that is there already."""
        self.volumes[name] = Volume(labels)

    def files_of(self, box: Box) -> dict[str, bytes]:
        """Where its files are: in its volume, if it has one."""
        mounts = box.config.get("HostConfig", {}).get("Mounts") or []
        return self.volumes[mounts[0]["Source"]].files if mounts else box.files

    def _box(self, config: Mapping[str, Any], script: Any = None) -> Box:
        self._made += 1
        box = Box(f"{self._made:064x}", config, script or self.script)
        self.boxes[box.id] = box
        return box


@dataclass(frozen=True)
class Lines:
    """A stream of JSON documents that reports progress."""

    documents: Sequence[Mapping[str, Any]]


Answer = tuple[
    int, Any
]  # status and body: bytes and `Lines` are sent in chunks, anything else is one JSON document


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    daemon: Daemon

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def address_string(self) -> str:
        return "unix"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(re.sub(r"^/v1\.\d+", "", parts.path))
        query = {
            key: "\n".join(values) for key, values in parse_qs(parts.query).items()
        }
        body = self._body()
        name, words = self._route(path)
        if not name:
            self._send(404, {"message": f"no such route: {self.command} {path}"})
            return
        self.daemon.journal.append(" ".join([name, *words]))
        self.daemon.bodies[name], self.daemon.queries[name] = body, query
        fault = self.daemon.faults.get(name)
        if fault and fault.hold:
            fault.hold.wait(60)
        if fault and fault.drop:
            self.close_connection = True
            return
        if fault and fault.status:
            self._send(fault.status, {"message": fault.message})
            return
        status, answer = getattr(self, f"_{name}")(*words, query=query, body=body) or (
            0,
            None,
        )
        if status:
            self._send(
                status,
                answer,
                truncate=bool(fault and fault.truncate),
                stall=self.daemon.stalls.get(name),
            )

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - the server's names

    def _route(self, path: str) -> tuple[str, tuple[str, ...]]:
        for name, method, pattern in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                return name, found.groups()
        return "", ()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(
        self,
        status: int,
        answer: Any,
        *,
        truncate: bool = False,
        stall: threading.Event | None = None,
    ) -> None:
        if isinstance(answer, bytes | Lines):
            self._stream(status, answer, truncate=truncate, stall=stall)
            return
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if truncate else content)
        self.close_connection = self.close_connection or truncate

    def _stream(
        self,
        status: int,
        answer: bytes | Lines,
        *,
        truncate: bool,
        stall: threading.Event | None,
    ) -> None:
        """In chunks; one that is cut off lacks its second half, and its end; one that stalls comes late."""
        chunks = [answer] if isinstance(answer, bytes) else []
        if isinstance(answer, Lines):
            chunks = [
                json.dumps(document).encode() + b"\r\n" for document in answer.documents
            ]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if stall:
            stall.wait(60)
        whole = (
            b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
            + b"0\r\n\r\n"
        )
        self.wfile.write(whole[: len(whole) // 2] if truncate else whole)
        self.close_connection = self.close_connection or truncate

    more_headers: Mapping[str, str] = {}

    # --- the daemon itself ---

    def _version(self, **_: Any) -> Answer:
        return 200, {"ApiVersion": "1.45", "Version": "27.0"}

    def _ping(self, **_: Any) -> Answer:
        return 200, None

    def _info(self, **_: Any) -> Answer:
        return 200, self.daemon.info

    # --- images ---

    def _found(self, name: str) -> dict[str, Any] | None:
        known = {
            **{found["Id"]: found for found in self.daemon.images.values()},
            **self.daemon.images,
        }
        return known.get(name)

    def _image(self, name: str, **_: Any) -> Answer:
        found = self._found(name)
        return (200, found) if found else (404, {"message": f"No such image: {name}"})

    def _images(self, *, query: Mapping[str, str], **_: Any) -> Answer:
        # Like the engine: images without a name are in the list too.
        images = [{"Id": "sha256:0", "RepoTags": None}]
        for name, found in self.daemon.images.items():
            images.append({"Id": found["Id"], "RepoTags": [name]})
        return 200, images

    def _history(self, name: str, **_: Any) -> Answer:
        return 200, list(self.daemon.history)

    def _pull(self, *, query: Mapping[str, str], **_: Any) -> Answer:
        if "fromSrc" in query:
            name = f"{query['repo']}:{query['tag']}"
            self.daemon.images[name] = image("sha256:imported")
            return 200, Lines([{"status": "sha256:imported"}])
        name = f"{query['fromImage']}:{query['tag']}"
        if name not in self.daemon.registry:
            return 404, {"message": f"manifest for {name} not found"}
        self.daemon.images[name] = self.daemon.registry[name]
        return 200, Lines([{"status": "pulling"}, {"status": "done"}])

    def _tag(self, name: str, *, query: Mapping[str, str], **_: Any) -> Answer:
        found = self._found(name)
        assert found is not None
        self.daemon.images[f"{query['repo']}:{query['tag']}"] = found
        return 201, None

    def _push(self, name: str, **_: Any) -> Answer:
        return 200, Lines(self.daemon.pushes)

    def _save(self, name: str, **_: Any) -> Answer:
        return 200, self.daemon.saved

    def _distribution(self, name: str, **_: Any) -> Answer:
        if name in self.daemon.registry:
            return 200, {"Descriptor": {"digest": "sha256:r"}, "Platforms": []}
        return 403, {"message": "denied: requested access to the resource is denied"}

    # --- containers ---

    def _create(self, *, body: bytes, **_: Any) -> Answer:
        config = json.loads(body)
        if self._found(config["Image"]) is None:
            return 404, {"message": f"No such image: {config['Image']}"}
        return 201, {"Id": self.daemon._box(config).id, "Warnings": []}

    def _list(self, *, query: Mapping[str, str], **_: Any) -> Answer:
        label = json.loads(query["filters"])["label"][0]
        boxes = [
            box for box in self.daemon.boxes.values() if label in box.config["Labels"]
        ]
        return 200, [{"Id": box.id} for box in boxes]

    def _box(self, name: str, **_: Any) -> Answer:
        box = self.daemon.boxes.get(name)
        if box is None:
            return 404, {"message": f"No such container: {name}"}
        config = {
            "Tty": False,
            "Labels": box.config["Labels"],
            "Image": box.config.get("Image", ""),
        }
        state = {"OOMKilled": box.out_of_memory, "ExitCode": box.code}
        return 200, {"Id": box.id, "Config": config, "State": state}

    def _start(self, name: str, **_: Any) -> Answer:
        self.daemon.boxes[name].started.set()
        return 204, None

    def _attach(self, name: str, **_: Any) -> None:
        """The connection becomes the container's output: frames of a header of 8 bytes and what was written."""
        box = self.daemon.boxes[name]
        self.send_response(101, "UPGRADED")
        self.send_header("Content-Type", "application/vnd.docker.multiplexed-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.close_connection = True
        if not box.started.wait(30):
            return
        try:
            for chunk in box.script(box):
                self.wfile.write(struct.pack(">BxxxL", STDOUT, len(chunk)) + chunk)
        except OSError:
            return
        finally:
            box.ended.set()

    def _wait(self, name: str, **_: Any) -> Answer:
        box = self.daemon.boxes[name]
        box.ended.wait(30)
        return 200, {"StatusCode": box.code}

    def _kill(self, name: str, *, query: Mapping[str, str], **_: Any) -> Answer:
        box = self.daemon.boxes[name]
        box.signals.append(query["signal"])
        box.signalled.set()
        return 204, None

    def _logs(self, name: str, **_: Any) -> Answer:
        said = self.daemon.boxes[name].stderr.encode()
        return 200, struct.pack(">BxxxL", STDERR, len(said)) + said

    def _put(self, name: str, *, body: bytes, **_: Any) -> Answer:
        box = self.daemon.boxes[name]
        files = self.daemon.files_of(box)
        if box.config["HostConfig"].get("ReadonlyRootfs"):
            return 403, {"message": "container rootfs is marked read-only"}
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                files[f"/{member.name}"] = content.read() if content else b""
        return 200, None

    def _get(self, name: str, *, query: Mapping[str, str], **_: Any) -> Answer:
        content = self.daemon.files_of(self.daemon.boxes[name]).get(query["path"])
        if content is None:
            return 404, {"message": f"Could not find the file {query['path']}"}
        self.more_headers = {
            "X-Docker-Container-Path-Stat": base64.b64encode(b"{}").decode()
        }
        return 200, tar_of({query["path"].rsplit("/", 1)[1]: content})

    def _remove(self, name: str, **_: Any) -> Answer:
        box = self.daemon.boxes.pop(name, None)
        if box is None:
            return 404, {"message": f"No such container: {name}"}
        box.signalled.set()
        return 204, None

    # --- volumes ---

    def _make_volume(self, *, body: bytes, **_: Any) -> Answer:
        self.daemon._made += 1
        name = f"{self.daemon._made:064x}"
        labels = json.loads(body).get("Labels") or {}
        self.daemon.add_volume(name, labels)
        return 201, {"Name": name, "Labels": labels}

    def _volumes(self, *, query: Mapping[str, str], **_: Any) -> Answer:
        label = json.loads(query["filters"])["label"][0]
        rows = [
            {"Name": name, "Labels": volume.labels}
            for name, volume in self.daemon.volumes.items()
        ]
        return 200, {"Volumes": [row for row in rows if label in row["Labels"]]}

    def _remove_volume(self, name: str, **_: Any) -> Answer:
        mounts = [
            mount
            for box in self.daemon.boxes.values()
            for mount in box.config["HostConfig"].get("Mounts") or []
        ]
        if name in [mount["Source"] for mount in mounts]:
            return 409, {"message": f"remove {name}: volume is in use"}
        if self.daemon.volumes.pop(name, None) is None:
            return 404, {"message": f"get {name}: no such volume"}
        return 204, None


_ROUTES = (
    ("version", "GET", r"/version"),
    ("ping", "GET", r"/_ping"),
    ("info", "GET", r"/info"),
    ("pull", "POST", r"/images/create"),
    ("image", "GET", r"/images/(.+)/json"),
    ("images", "GET", r"/images/json"),
    ("history", "GET", r"/images/(.+)/history"),
    ("tag", "POST", r"/images/(.+)/tag"),
    ("push", "POST", r"/images/(.+)/push"),
    ("save", "GET", r"/images/(.+)/get"),
    ("distribution", "GET", r"/distribution/(.+)/json"),
    ("create", "POST", r"/containers/create"),
    ("list", "GET", r"/containers/json"),
    ("box", "GET", r"/containers/([0-9a-f]+)/json"),
    ("start", "POST", r"/containers/([0-9a-f]+)/start"),
    ("attach", "POST", r"/containers/([0-9a-f]+)/attach"),
    ("wait", "POST", r"/containers/([0-9a-f]+)/wait"),
    ("kill", "POST", r"/containers/([0-9a-f]+)/kill"),
    ("logs", "GET", r"/containers/([0-9a-f]+)/logs"),
    ("put", "PUT", r"/containers/([0-9a-f]+)/archive"),
    ("get", "GET", r"/containers/([0-9a-f]+)/archive"),
    ("remove", "DELETE", r"/containers/([0-9a-f]+)"),
    ("make_volume", "POST", r"/volumes/create"),
    ("volumes", "GET", r"/volumes"),
    ("remove_volume", "DELETE", r"/volumes/(.+)"),
)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Whoever asked may have hung up."""


@contextmanager
def daemon_in(folder: Path) -> Iterator[Daemon]:
    """A daemon that answers on `folder`/docker.sock until the block ends."""
    daemon = Daemon(folder / "docker.sock")
    handler = type("Handler", (_Handler,), {"daemon": daemon})
    server = _Server(str(daemon.socket), handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield daemon
    finally:
        server.shutdown()
        server.server_close()
