"""Tar archives for and from the engine: files for a container, files out of one, the layers of a saved image."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from envbuilder.errors import EngineError

_LARGEST = 16_000_000  # bytes of a file or folder that is read out of an image
_MOST_FILES = 10_000  # of a folder that is read out of an image
_MOST = 100_000  # bytes of a file that are read from a layer

LayerFile = tuple[str, int, bytes]  # path, size, its first 100 kB


def pack(files: Mapping[str, bytes]) -> bytes:
    """Files as a tar, readable by every user of the container."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def first_file(chunks: Iterator[bytes]) -> bytes | None:
    """The content of a tar's first member; None if that is not a plain file, or a huge one."""
    with _open(chunks) as archive:
        member = archive.next()
        if member is None or not member.isfile():
            return None
        if member.size > _LARGEST:
            return None
        file = archive.extractfile(member)
        return file.read() if file else None


def files_below(chunks: Iterator[bytes]) -> Mapping[str, bytes]:
    """Path below the folder → content of every plain file in a folder's tar. Raises `EngineError` if it is too much."""
    files: dict[str, bytes] = {}
    size = 0
    with _open(chunks) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            size += member.size
            if size > _LARGEST or len(files) >= _MOST_FILES:
                raise EngineError("the folder is too large to read")
            path = member.name.partition("/")[2]
            files[path] = file.read()
    return files


def files_of_layers(
    chunks: Iterator[bytes], matches: Callable[[str], bool]
) -> Iterator[LayerFile]:
    """(path, size, its first 100 kB) of every matching file in every layer of a saved image."""
    with _open(chunks) as image:
        for member in image:
            if not member.isfile():
                continue
            content = image.extractfile(member)
            if content is not None:
                yield from _files_of_layer(content, matches)


@contextmanager
def _open(chunks: Iterator[bytes]) -> Iterator[tarfile.TarFile]:
    """A download as a tar that is read once."""
    with _Chunks(chunks) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        yield archive


def _files_of_layer(
    content: Any, matches: Callable[[str], bool]
) -> Iterator[LayerFile]:
    """The matching files of one member of a saved image, if it is a layer: the others are JSON."""
    try:
        layer = tarfile.open(fileobj=content, mode="r|*")  # noqa: SIM115 - not every member is a tar
    except tarfile.ReadError:
        return
    with layer:
        for member in layer:
            path = "/" + member.name.removeprefix("./").lstrip("/")
            if not member.isfile() or not matches(path):
                continue
            file = layer.extractfile(member)
            if file:
                yield path, member.size, file.read(_MOST)


class _Chunks(io.RawIOBase):
    """A download as a file that is read once; closing it ends the download."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts = [self._rest]
        length = len(self._rest)
        while size < 0 or length < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            length += len(chunk)
        content = b"".join(parts)
        if size < 0:
            self._rest = b""
            return content
        self._rest = content[size:]
        return content[:size]

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close and not self.closed:
            close()
        super().close()
