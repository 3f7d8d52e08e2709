"""What locked wheels say of themselves: the Pythons that they allow, and what they require.

The METADATA lies next to a wheel on an index (PEP 658); where it does not, it is read out of the wheel by a range
request. Nothing here can make a lock fail: a wheel that cannot be read is reported as such.
"""

import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from packaging.metadata import parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envbuilder.grammar import JsonObject
from envbuilder.lock.index_client import IndexClient, pieces_of
from envbuilder.lock.range_reader import RangeReader, RemoteFile, UnreadableError
from envbuilder.network import Network

_LARGEST = 1 << 20  # bytes of one METADATA
_MOST_BYTES = 32 << 20  # of all parts of wheels together
_SECONDS = 8.0  # of all wheels; a slow name server alone can take five
_AT_ONCE = 8  # requests
_NO_SUCH_FILE = (403, 404, 405, 410)  # what indexes without PEP 658 answer
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    EOFError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """What a wheel says of itself, as far as it can be understood."""

    requires_python: SpecifierSet = field(default_factory=SpecifierSet)
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataAnswer:
    """The metadata of the wheels that could be read, by package; the names of the others, and the last reason."""

    by_package: Mapping[str, WheelMetadata]
    unread: Sequence[str] = ()
    reason: str = ""


def wheel_addresses(document: JsonObject) -> dict[str, str]:
    """File name → address, of the wheels that uv reports."""
    addresses = {}
    for package in document.get("packages", ()):
        for wheel in package.get("wheels", ()):
            url = str(wheel.get("url", ""))
            name = wheel.get("name") or url.rpartition("/")[2]
            if url.startswith(("https://", "http://")):
                addresses[name.replace("%2B", "+")] = url
    return addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPlace:
    """Where a wheel is: at an address, or on this machine."""

    name: str
    url: str = ""
    path: Path | None = None


def read_metadata(places: Sequence[WheelPlace], network: Network) -> MetadataAnswer:
    """The metadata of wheels, several at once."""
    by_package = {}
    unread = []
    reason = ""
    deadline = time.monotonic() + _SECONDS
    with RangeReader(network, most_bytes=_MOST_BYTES, seconds=_SECONDS) as reader:
        client = IndexClient(network=network, seconds=_SECONDS)
        source = _Source(
            client=client,
            reader=reader,
            deadline=deadline,
        )

        def read(place: WheelPlace) -> WheelMetadata | str:
            try:
                if place.path:
                    return _of_local_wheel(place.path)
                return source.metadata(place.url)
            except UnreadableError as error:
                return str(error)

        with client.session, ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(read, places))
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, str):
            unread.append(place.name)
            reason = answer
        else:
            by_package[place.name] = answer
    return MetadataAnswer(by_package=by_package, unread=unread, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An index, for some seconds."""

    client: IndexClient
    reader: RangeReader
    deadline: float

    def metadata(self, url: str) -> WheelMetadata:
        """Raises `UnreadableError`."""
        if not url:
            raise UnreadableError("the index gives no address by HTTP")
        if time.monotonic() > self.deadline:
            raise UnreadableError("the index is too slow")
        content = self._next_to(url)
        if content is None:
            content = self._inside(url)
        return parse_metadata(content)

    def _next_to(self, url: str) -> bytes | None:
        """The METADATA next to a wheel; None if the index has none there."""
        parts = urlsplit(url)
        address = parts._replace(path=f"{parts.path}.metadata", fragment="").geturl()
        content = b""
        try:
            with self.client.request(address, "GET") as response:
                for piece in pieces_of(response):
                    content += piece
                    if len(content) > _LARGEST:
                        raise UnreadableError("it is too large")
                    if time.monotonic() > self.deadline:
                        raise UnreadableError("the index is too slow")
        except requests.HTTPError as error:
            if error.response.status_code in _NO_SUCH_FILE:
                return None
            raise UnreadableError("the index does not answer (HTTPError)") from error
        except (OSError, ValueError) as error:
            # Not its text, which may have an address with a password in it.
            reason = type(error).__name__
            raise UnreadableError(f"the index does not answer ({reason})") from error
        return content

    def _inside(self, url: str) -> bytes:
        return _metadata_in(RemoteFile(url, self.reader))


def _of_local_wheel(path: Path) -> WheelMetadata:
    try:
        return parse_metadata(_metadata_in(path))
    except OSError as error:
        raise UnreadableError(str(error)) from error


def _metadata_in(wheel: BinaryIO | Path) -> bytes:
    """The METADATA in a wheel. Raises `UnreadableError`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                folder, _, name = entry.filename.partition("/")
                if name != "METADATA" or not folder.endswith(".dist-info"):
                    continue
                if entry.file_size > _LARGEST:
                    raise UnreadableError("it is too large")
                return archive.read(entry)
    except _BAD_ARCHIVE as error:
        raise UnreadableError(f"it is no wheel: {error}") from error
    raise UnreadableError("it has no METADATA")


def parse_metadata(content: bytes) -> WheelMetadata:
    """What METADATA says; a bound that nobody can read is none, as for uv. Raises `UnreadableError`."""
    try:
        raw, _ = parse_email(content)
    except ValueError as error:
        raise UnreadableError("its METADATA cannot be read") from error
    try:
        bounds = SpecifierSet(raw.get("requires_python", ""))
    except InvalidSpecifier:
        bounds = SpecifierSet()
    return WheelMetadata(
        requires_python=bounds,
        requires=tuple(raw.get("requires_dist", ())),
    )
