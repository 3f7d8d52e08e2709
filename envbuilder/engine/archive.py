"""Tars as the engine takes and gives them: files for a container, a file of one, the layers of a saved image."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from envbuilder.errors import EngineError

_LARGEST = 16_000_000  # bytes of a file or folder that is read out of an image
_MOST_FILES = 10_000  # of a folder that is read out of an image
_MOST = 100_000  # bytes of a file that are given to whoever looks into layers


def pack(files: Mapping[str, bytes]) -> bytes:
    """Files as a tar that anybody in the container can read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def first_file(chunks: Iterator[bytes]) -> bytes | None:
    """The content of a tar's first member; None if that is no plain file, or a huge one."""
    with _Chunks(chunks) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        member = archive.next()
        file = archive.extractfile(member) if member and member.isfile() else None
        return file.read() if file and member and member.size <= _LARGEST else None


def files_below(chunks: Iterator[bytes]) -> Mapping[str, bytes]:
    """Path below the folder → content of every plain file in a folder's tar. Raises `EngineError` if it is too much."""
    found: dict[str, bytes] = {}
    size = 0
    with _Chunks(chunks) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            size += member.size
            if size > _LARGEST or len(found) >= _MOST_FILES:
                raise EngineError("the folder is too large to be read")
            found[member.name.partition("/")[2]] = file.read()
    return found


def files_of_layers(chunks: Iterator[bytes], wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
    """(path, size, its first 100 kB) of every wanted file in every layer of a saved image."""
    with _Chunks(chunks) as stream, tarfile.open(fileobj=stream, mode="r|") as whole:
        for member in whole:
            content = whole.extractfile(member) if member.isfile() else None
            if content is not None:
                yield from _files_of_layer(content, wanted)


def _files_of_layer(content: Any, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, bytes]]:
    """The wanted files of one member of a saved image, if it is a layer: the others are JSON."""
    try:
        layer = tarfile.open(fileobj=content, mode="r|*")  # noqa: SIM115 - not every member is a tar
    except tarfile.ReadError:
        return
    with layer:
        for member in layer:
            path = "/" + member.name.removeprefix("./").lstrip("/")
            if member.isfile() and wanted(path):
                file = layer.extractfile(member)
                yield path, member.size, file.read(_MOST) if file else b""


class _Chunks(io.RawIOBase):
    """A download as a file that is read once; closing it ends the download."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, have = [self._left], len(self._left)
        while size < 0 or have < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        self._left = whole[size:] if size >= 0 else b""
        return whole[:size] if size >= 0 else whole

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close and not self.closed:
            close()
        super().close()
