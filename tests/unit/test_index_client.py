"""The one client of an index: whom it shows a login, which proxy it asks, and what its errors tell."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from envbuilder.errors import EngineError
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.range_reader import RangeReader, UnreadableError
from envbuilder.network import Network


class Echo(BaseHTTPRequestHandler):
    """Answers with the login that it was shown; `/to/ADDRESS` leads there, `/short` breaks off."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        _, _, goal = self.path.partition("/to/")
        if goal:
            self.send_response(302)
            self.send_header("Location", goal)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.headers.get("Authorization", "nobody").encode()
        missing = 9 if self.path == "/short" else 0
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("Content-Length", str(len(body) + missing))
        self.send_header("Content-Range", f"bytes 0-9/{len(body)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Echo.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def shown(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def test_a_login_stays_with_its_host(port: int) -> None:
    network = Network(index_url=f"http://me:%E5%AF%86@127.0.0.1:{port}/simple")
    client = IndexClient(network=network)
    here = f"http://127.0.0.1:{port}"
    assert client.page(f"{here}/x") == shown("me:密")
    assert client.page(f"{here}/to/{here}/x") == shown("me:密")
    assert client.page(f"{here}/to/http://localhost:{port}/x") == "nobody"


def test_a_netrc_is_read_for_the_first_host_alone(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = tmp_path / "netrc"
    logins.write_text("machine 127.0.0.1 login me password pw\n")
    client = IndexClient(network=Network(netrc=logins))
    assert client.page(f"http://127.0.0.1:{port}/x") == shown("me:pw")
    goal = f"http://127.0.0.1:{port}/x"
    assert client.page(f"http://localhost:{port}/to/{goal}") == "nobody"
    monkeypatch.setenv("NETRC", str(logins))
    assert IndexClient(network=Network()).page(goal) == "nobody"


def test_variables_do_not_change_the_way(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing")
    assert IndexClient(network=Network()).page(f"http://localhost:{port}/x") == "nobody"


def test_each_host_of_a_redirect_has_its_own_proxy(port: int) -> None:
    proxies = {
        "http_proxy": f"http://127.0.0.1:{port}",
        "no_proxy": "127.0.0.1",
    }
    client = IndexClient(network=Network(proxies=proxies))
    here = f"http://127.0.0.1:{port}"
    assert client.page(f"{here}/to/http://far.invalid/x") == "nobody"
    assert Echo.asked[-1] == "http://far.invalid/x"
    assert client.page(f"http://far.invalid/to/{here}/x") == "nobody"
    assert Echo.asked[-1] == "/x"


@pytest.mark.parametrize(
    ("names", "place", "excepted"),
    [
        ("10.0.0.0/8", "10.1.2.3:80", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("m.example:8080", "m.example:8080", True),
        ("m.example:8080", "m.example", False),
        ("*.corp", "a.corp", True),
        ("fd00::/8", "[fd00::1]:80", True),
        ("x, *", "any.example", True),
        ("", "any.example", False),
    ],
)
def test_no_proxy_names_hosts_ports_and_networks(
    names: str, place: str, excepted: bool
) -> None:
    proxies = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": names}
    session = IndexClient(network=Network(proxies=proxies)).session
    assert (session.proxies_for(place) == {}) == excepted


@pytest.mark.parametrize(
    "proxy", ["http://me:pw@[bad", "socks5://me:pw@p:1", "x://me:pw@p"]
)
def test_an_odd_proxy_is_an_error_without_its_password(proxy: str) -> None:
    client = IndexClient(network=Network(proxies={"http_proxy": proxy}))
    with pytest.raises(EngineError, match="cannot be loaded") as caught:
        client.page("http://far.invalid/x")
    assert "pw" not in f"{caught.value.message} {caught.value.problems}"
    assert client.size("http://far.invalid/x") == 0


def test_errors_do_not_repeat_a_token() -> None:
    client = IndexClient(network=Network())
    with pytest.raises(EngineError, match="cannot be reached") as caught:
        client.page("http://127.0.0.1:9/x")
    with pytest.raises(EngineError) as with_token:
        client.page("http://127.0.0.1:9/x?token=T")
    assert caught.value.problems == with_token.value.problems


def test_a_connection_that_breaks_off_is_explained(port: int) -> None:
    url = f"http://127.0.0.1:{port}/short"
    with pytest.raises(EngineError, match="lost during a download"):
        IndexClient(network=Network()).page(url)
    with (
        RangeReader(Network(), most_bytes=99, seconds=9) as reader,
        pytest.raises(UnreadableError, match="does not answer"),
    ):
        reader.piece(url, "0-50", 50)
