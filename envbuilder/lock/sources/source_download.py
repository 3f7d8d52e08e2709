"""One file from an address, into a file, over the network that the index is reached by."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import requests

from envbuilder.errors import EngineError, LockError
from envbuilder.files import unwritable
from envbuilder.lock.index_client import IndexClient, pieces_of, short_reason
from envbuilder.network import Network, find_network_cause


def download(url: str, path: Path, network: Network, *, most: int) -> str:
    """Write the file at an address to `path`; returns its sha256. Raises `EngineError` if it cannot be loaded."""
    clean = without_login(url)
    client = IndexClient(network=network)
    try:
        response = client.request(clean, "GET")
    except (OSError, ValueError) as error:
        raise _not_loaded(clean, short_reason(error)) from error
    with response:
        return _copy(response, path, most, clean)


def without_login(url: str) -> str:
    """An address as it can be shown: the login is found again by its host."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def _copy(response: requests.Response, path: Path, most: int, shown: str) -> str:
    digest = sha256()
    size = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    with os.fdopen(descriptor, "wb") as stream:
        for piece in _pieces(response, shown):
            size += len(piece)
            if size > most:
                raise LockError(f"{shown} is larger than {most >> 20} MB")
            digest.update(piece)
            try:
                stream.write(piece)
            except OSError as error:
                raise unwritable(path, error) from error
    expected = response.headers.get("Content-Length", "")
    if expected.isdecimal() and int(expected) != size:
        raise _not_loaded(shown, "connection closed prematurely")
    return digest.hexdigest()


def _pieces(response: requests.Response, shown: str) -> Iterator[bytes]:
    try:
        yield from pieces_of(response)
    except OSError as error:
        raise _not_loaded(shown, short_reason(error)) from error


def _not_loaded(shown: str, reason: str) -> EngineError:
    known = find_network_cause(reason)
    cause, hint = known or (reason, "check the address")
    return EngineError(f"{shown} cannot be loaded: {cause}", hint=hint)
