"""A mirror on this machine that passes each request on, such as one of Debian's packages."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Mirror(BaseHTTPRequestHandler):
    """One connection. A client that already has a file is told so, as a real mirror does."""

    archives: Mapping[str, str]  # first folder of a path → where it leads
    seen: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.seen.append(self.path)
        archive, _, rest = self.path.removeprefix("/").partition("/")
        if archive not in self.archives:
            self.send_error(404)
            return
        address = self.archives[archive].rstrip("/") + "/" + rest
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked may hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def archives_of_apt() -> dict[str, str]:
    """Where this machine's apt gets Debian's packages from: `debian` and `debian-security` with their addresses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    archives = {}
    for address in output.split():
        name = address.rstrip("/").rpartition("/")[2]
        archives.setdefault(name, address)
    return archives


@contextmanager
def serve(
    archives: Mapping[str, str], address: str = "127.0.0.1"
) -> Iterator[tuple[str, list[str]]]:
    """Serve archives by name; yields the address of the server, and the list of the paths that were requested."""
    seen: list[str] = []
    handler = type("OneMirror", (Mirror,), {"archives": archives, "seen": seen})
    server = _Server((address, 0), handler)
    thread = Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
