"""What uv does not tell of an index: the size of a file, and the page that lists a project's files.

Certificates, proxies and logins are those that uv gets. No error holds a login: addresses come here without one.
"""

import base64
import netrc
import re
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from envbuilder.errors import EngineError
from envbuilder.network import Network, find_network_cause

_SECONDS = 30.0
_NUMBER = re.compile(r"[0-9]{1,13}")
_LONGEST_PAGE = 64_000_000  # bytes; the page of all of torch's files is below one MB


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexClient:
    """Requests to an index, over the network that uv uses too."""

    network: Network

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

    def page(self, url: str) -> str:
        """A page of an index. Raises `EngineError` if it cannot be loaded."""
        try:
            with self.request(url, "GET") as response:
                content: bytes = response.read(_LONGEST_PAGE + 1)
        except (OSError, ValueError) as error:
            cause, hint = _explained(error)
            raise EngineError(
                f"{url} cannot be loaded: {cause}", problems=[str(error)], hint=hint
            ) from error
        if len(content) > _LONGEST_PAGE:
            raise EngineError(f"{url} is longer than the page of an index can be")
        return content.decode("utf-8", "replace")

    def request(self, url: str, method: str) -> Any:
        """The response to a request. Raises `OSError`, or `ValueError` for an address of another kind."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{parts.scheme}: is no way to an index")
        headers = {"Accept": "text/html, */*", "User-Agent": "envbuilder"}
        request = Request(url, method=method, headers=headers)  # noqa: S310 (the scheme is checked)
        login = self._login(parts.netloc, host)
        if login:
            # Not sent again to another host that the server redirects to.
            request.add_unredirected_header("Authorization", _basic(login))
        proxies = ProxyHandler(self.proxies_for(host))
        context = ssl.create_default_context(cafile=self.network.ca)
        certificates = HTTPSHandler(context=context)
        opener = build_opener(proxies, certificates)
        return opener.open(request, timeout=_SECONDS)

    def proxies_for(self, host: str) -> dict[str, str]:
        """The proxy for each scheme; none for a host that is excepted."""
        known = {}
        for name, value in (self.network.proxies or {}).items():
            known[name.lower().removesuffix("_proxy")] = value
        if _is_excepted(host, known.get("no", "")):
            return {}
        proxies = {}
        for scheme in ("http", "https"):
            proxy = known.get(scheme) or known.get("all")
            if proxy:
                proxies[scheme] = proxy
        return proxies

    def _login(self, netloc: str, host: str) -> str:
        """`user:password` for a host: of the address that the user gave, else of the netrc; "" if there is none."""
        for address in (self.network.torch_index, self.network.index_url):
            given = urlsplit(address or "").netloc
            login, _, given_host = given.rpartition("@")
            if login and given_host == netloc:
                return unquote(login)
        if self.network.netrc is None:
            return ""
        try:
            entry = netrc.netrc(str(self.network.netrc)).authenticators(host)
        except (netrc.NetrcParseError, OSError, ValueError):
            return ""
        if entry is None:
            return ""
        user, _, password = entry
        return f"{user}:{password}"


def _basic(login: str) -> str:
    """A login as a header of HTTP."""
    encoded = base64.b64encode(login.encode())
    return f"Basic {encoded.decode()}"


def _is_excepted(host: str, names: str) -> bool:
    """Whether NO_PROXY has a host, or a domain that it is in."""
    for name in names.split(","):
        domain = name.strip().lstrip(".").lower()
        if domain == "*":
            return True
        if domain and f".{host.lower()}".endswith(f".{domain}"):
            return True
    return False


def _explained(error: Exception) -> tuple[str, str]:
    known = find_network_cause(str(error))
    if known:
        return known
    return "the server does not answer properly", "check the address and the network"
