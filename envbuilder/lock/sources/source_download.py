"""One file from an address, into a file, with the user's CA, proxies and netrc."""

import base64
import os
import ssl
import urllib.error
import urllib.request
from hashlib import sha256
from http.client import HTTPException
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envbuilder.errors import EngineError, LockError
from envbuilder.files import unwritable
from envbuilder.network import Network, find_network_cause

TIMEOUT = 30  # seconds without a byte
MOST_BYTES = 8 << 30
_PIECE = 1 << 20
_HEADERS = {"User-Agent": "envbuilder", "Accept-Encoding": "identity"}


def download(url: str, path: Path, network: Network, *, most: int = MOST_BYTES) -> str:
    """Write the file at an address to `path`; returns its sha256. Raises `EngineError` if it cannot be loaded."""
    shown = url.partition("?")[0]
    opener = _opener(network)
    request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - the grammar has http and https
    login = _login(url, network)
    if login:
        # Not for the host that a redirect leads to.
        request.add_unredirected_header("Authorization", login)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return _copy(
                answer,
                path,
                most,
                shown,
            )
    except urllib.error.HTTPError as error:
        raise _not_loaded(shown, f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _not_loaded(shown, str(error.reason)) from error
    except (TimeoutError, HTTPException, ssl.SSLError, ConnectionError) as error:
        text = str(error) or type(error).__name__
        raise _not_loaded(shown, text) from error


def _copy(answer: Any, path: Path, most: int, shown: str) -> str:
    digest = sha256()
    size = 0
    expected = answer.headers.get("Content-Length", "")
    try:
        descriptor = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
            0o644,
        )
    except OSError as error:
        raise unwritable(path, error) from error
    with os.fdopen(descriptor, "wb") as stream:
        while piece := answer.read(_PIECE):
            size += len(piece)
            if size > most:
                raise LockError(
                    f"{shown} is larger than {most >> 20} MB, which is too large for it"
                )
            digest.update(piece)
            try:
                stream.write(piece)
            except OSError as error:
                raise unwritable(path, error) from error
    if expected.isdecimal() and int(expected) != size:
        raise _not_loaded(shown, "connection closed prematurely")
    return digest.hexdigest()


def _not_loaded(shown: str, reason: str) -> EngineError:
    cause, hint = find_network_cause(reason) or (reason, "check the address")
    return EngineError(f"{shown} cannot be loaded: {cause}", hint=hint)


def _opener(network: Network) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if network.ca:
        context = ssl.create_default_context(cafile=str(network.ca))
    by_scheme = _proxies(network)
    https = urllib.request.HTTPSHandler(context=context)
    proxies = urllib.request.ProxyHandler(by_scheme)
    return urllib.request.build_opener(https, proxies)


def _proxies(network: Network) -> dict[str, str]:
    """By scheme."""
    proxies = {}
    for name, address in (network.proxies or {}).items():
        scheme = name.lower().removesuffix("_proxy")
        if scheme in ("http", "https"):
            proxies[scheme] = address
    return proxies


def _login(url: str, network: Network) -> str:
    """The user's login for the address's host, as a header's value; "" without one."""
    if network.netrc is None:
        return ""
    try:
        entry = netrc(str(network.netrc)).authenticators(urlsplit(url).hostname or "")
    except (NetrcParseError, OSError, ValueError):
        return ""
    if entry is None:
        return ""
    login, _, password = entry
    token = base64.b64encode(f"{login}:{password}".encode()).decode()
    return f"Basic {token}"
