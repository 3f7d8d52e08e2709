"""A file on an index, read piece by piece with HTTP range requests."""

import io
import time
from http import HTTPStatus
from types import TracebackType
from typing import Self

from envbuilder.lock.index_client import IndexClient, pieces_of
from envbuilder.network import Network

_TAIL = 1 << 16  # bytes: the central directory of most wheels
_PIECE = 1 << 16
_SECONDS = 3.0  # without a byte


class UnreadableError(Exception):
    """The index does not give a piece of a file: no network, no permission, no range requests, no time."""


class RangeReader:
    """Requests pieces through the user's proxies and CA, with their logins, up to a number of bytes and a time."""

    def __init__(self, network: Network, *, most_bytes: int, seconds: float) -> None:
        self._client = IndexClient(network=network, seconds=_SECONDS)
        self._bytes_left = most_bytes
        self._deadline = time.monotonic() + seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.session.close()

    def piece(self, url: str, wanted: str, count: int) -> tuple[bytes, int]:
        """The bytes of a range (`0-99`, or `-100` from the end), `count` of them, and the size of the whole file."""
        if count > self._bytes_left:
            raise UnreadableError("it is too large")
        if time.monotonic() > self._deadline:
            raise UnreadableError("the index is too slow")
        self._bytes_left -= count
        try:
            return self._request(url, wanted, count)
        except (OSError, ValueError) as error:
            # Not its text, which may have an address with a password in it.
            reason = type(error).__name__
            raise UnreadableError(f"the index does not answer ({reason})") from error

    def _request(self, url: str, wanted: str, count: int) -> tuple[bytes, int]:
        headers = {"Range": f"bytes={wanted}"}
        with self._client.request(url, "GET", headers) as answer:
            if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
                raise UnreadableError("the index does not serve parts of files")
            place = answer.headers.get("Content-Range", "")
            _, _, size = place.rpartition("/")
            content = b""
            for piece in pieces_of(answer, _PIECE):
                if time.monotonic() > self._deadline:
                    raise UnreadableError("the index is too slow")
                content += piece
                if len(content) >= count:
                    break
            return content[:count], int(size)


class RemoteFile(io.BytesIO):
    """A file on an index as `zipfile` reads one: seekable, each piece fetched when it is needed."""

    def __init__(self, url: str, reader: RangeReader) -> None:
        super().__init__()
        self._url = url
        self._reader = reader
        self._place = 0
        tail, size = reader.piece(url, f"-{_TAIL}", _TAIL)
        self.size = size
        self._piece = tail
        self._start = size - len(tail)

    def prefetch(self, start: int, count: int) -> None:
        """Fetch one piece at once: what `zipfile` reads of it later needs no further request."""
        end = min(start + count, self.size)
        last = end - 1
        piece, _ = self._reader.piece(
            self._url,
            f"{start}-{last}",
            end - start,
        )
        self._piece = piece
        self._start = start

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        starts = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._place,
            io.SEEK_END: self.size,
        }
        place = starts[whence] + offset
        if place < 0:  # zipfile expects this of a file that is too short for an archive
            raise OSError("before the beginning of the file")
        self._place = place
        return place

    def read(self, count: int | None = -1, /) -> bytes:
        """From the piece that was fetched last, or else with a request of its own."""
        rest = self.size - self._place
        if count is None or count < 0:
            count = rest
        count = min(count, rest)
        if count <= 0:
            return b""
        offset = self._place - self._start
        end = offset + count
        if offset < 0 or end > len(self._piece):
            self.prefetch(self._place, count)
            offset, end = 0, count
        found = self._piece[offset:end]
        self._place += len(found)
        return found
