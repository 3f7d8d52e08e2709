"""HTTP to an index, for what uv does not tell: sizes, the pages of an index, files, and parts of them.

Certificates, proxies and logins are those that uv gets. No error holds a login: addresses come here without one.
"""

import ipaddress
import netrc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.auth import HTTPBasicAuth

from envbuilder.errors import EngineError
from envbuilder.network import Network, find_network_cause

_NUMBER = re.compile(r"[0-9]{1,13}")
_LONGEST_PAGE = 64_000_000  # bytes; the page of all of torch's files is below one MB
_PIECE = 1 << 20
_MOST_REDIRECTS = 10


@dataclass(frozen=True, kw_only=True)
class IndexClient:
    """Requests to an index, over the network that uv uses too."""

    network: Network
    seconds: float = 30.0  # without a byte

    @cached_property
    def session(self) -> "IndexSession":
        """Kept: files of one host come over one connection."""
        return IndexSession(self.network)

    def size(self, url: str) -> int:
        """The size of a file; 0 if the server does not tell."""
        # Some mirrors refuse HEAD: the headers of an answer, of which nothing is read, tell the same.
        for method in ("HEAD", "GET"):
            try:
                with self.request(url, method) as response:
                    text = response.headers.get("Content-Length") or ""
            except (OSError, ValueError):
                continue
            if _NUMBER.fullmatch(text):
                return int(text)
        return 0

    def page(self, url: str, *, accept: str = "") -> str:
        """A page of an index, in the form that is named. Raises `EngineError` if it cannot be loaded."""
        content = b""
        headers = {"Accept": accept} if accept else None
        try:
            with self.request(url, "GET", headers) as response:
                for piece in pieces_of(response):
                    content += piece
                    if len(content) > _LONGEST_PAGE:
                        break
        except (OSError, ValueError) as error:
            cause, hint = _explained(error)
            raise EngineError(
                f"{url} cannot be loaded: {cause}",
                problems=[short_reason(error)],
                hint=hint,
            ) from error
        if len(content) > _LONGEST_PAGE:
            raise EngineError(f"{url} is longer than the page of an index can be")
        return content.decode("utf-8", "replace")

    def request(
        self, url: str, method: str, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """The response to a request, to be closed. Raises `OSError`, or `ValueError` for an address of another kind."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{parts.scheme}: is no way to an index")
        try:
            response = self.session.request(
                method,
                url,
                headers=headers,
                auth=self.session.login_for(url),
                proxies=self.session.proxies_for(parts.netloc),
                timeout=self.seconds,
                allow_redirects=True,
                stream=True,
            )
        except ValueError:
            # Its text may have an address with a password in it.
            reason = (
                "the address, or the one of the proxy, is malformed or not supported"
            )
            raise ValueError(reason) from None
        try:
            response.raise_for_status()
        except requests.HTTPError:
            response.close()
            raise
        return response


class IndexSession(requests.Session):
    """A session that takes proxies, logins and certificates from the network alone, also when it is redirected."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # A variable would win over `verify`, and a netrc entry would be sent wherever a server redirects to.
        self.trust_env = False
        self.max_redirects = _MOST_REDIRECTS
        self._network = network
        if network.ca:
            self.verify = str(network.ca)
        self.headers.update(
            {
                "Accept": "text/html, */*",
                "Accept-Encoding": "identity",  # sizes and hashes are those of the file
                "User-Agent": "envbuilder",
            }
        )

    def rebuild_proxies(
        self,
        prepared_request: requests.PreparedRequest,
        proxies: Mapping[str, str] | None,
    ) -> dict[str, str]:
        """Another host may be one that is excepted from the proxy, or the first one was."""
        netloc = urlsplit(prepared_request.url or "").netloc
        proxies = self.proxies_for(netloc)
        found: dict[str, str] = super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]
        return found

    def proxies_for(self, place: str) -> dict[str, str]:
        """The proxy for each scheme; none for a host, or a host and port, that is excepted."""
        known = {}
        for name, value in (self._network.proxies or {}).items():
            known[name.lower().removesuffix("_proxy")] = value
        if _is_excepted(place, known.get("no", "")):
            return {}
        proxies = {}
        for scheme in ("http", "https"):
            proxy = known.get(scheme) or known.get("all")
            if proxy:
                proxies[scheme] = proxy
        return proxies

    def login_for(self, url: str) -> HTTPBasicAuth | None:
        """User and password for a host: of the address that the user gave, else of the netrc."""
        place = urlsplit(url)
        for address in (self._network.torch_index, self._network.index_url):
            given = urlsplit(address or "").netloc
            login, _, given_host = given.rpartition("@")
            user, colon, password = login.partition(":")
            if colon and given_host.lower() == place.netloc.lower():
                return _basic(unquote(user), unquote(password))
        if self._network.netrc is None:
            return None
        try:
            logins = netrc.netrc(str(self._network.netrc))
            entry = logins.authenticators(place.hostname or "")
        except (netrc.NetrcParseError, OSError, ValueError):
            return None
        if entry is None:
            return None
        name, _, secret = entry
        return _basic(name, secret)


def _basic(user: str, password: str) -> HTTPBasicAuth:
    """A login, in any script: requests itself encodes Latin letters only."""
    return HTTPBasicAuth(user.encode(), password.encode())


def pieces_of(response: requests.Response, size: int = _PIECE) -> Iterator[bytes]:
    """The body as it was sent, also if the server calls a .gz file an encoding. Raises `OSError`."""
    try:
        yield from response.raw.stream(size, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(str(error)) from error


def short_reason(error: BaseException) -> str:
    """What lies behind an error of requests, whose own text repeats the address, and with it a token in its query."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        side = "Server" if code >= HTTPStatus.INTERNAL_SERVER_ERROR else "Client"
        return f"{code} {side} Error: {error.response.reason}"
    cause: BaseException | None = error
    while cause is not None:
        error = cause
        cause = error.__cause__
        if not error.__suppress_context__:
            cause = error.__context__
    return str(error) or type(error).__name__


def _is_excepted(place: str, names: str) -> bool:
    """Whether NO_PROXY has a host, its host and port, a domain that it is in, or a network of its address."""
    place = place.rpartition("@")[2].lower()
    host = (urlsplit(f"//{place}").hostname or "").lower()
    for name in names.split(","):
        domain = name.strip().removeprefix("*").lstrip(".").lower()
        if name.strip() == "*" or (domain and domain == place):
            return True
        if domain and f".{host}".endswith(f".{domain}"):
            return True
        if "/" in domain and _is_in_network(host, domain):
            return True
    return False


def _is_in_network(host: str, text: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False


def _explained(error: Exception) -> tuple[str, str]:
    known = find_network_cause(short_reason(error))
    if known:
        return known
    return "the server does not answer properly", "check the address and the network"
