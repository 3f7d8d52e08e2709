"""Files on an index, read in pieces and kept: what was read once is not read again."""

import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import requests
from pypi_simple import DistributionPackage
from remotezip import RemoteZip  # type: ignore[import-untyped]

from index.libraries import Library, find_gpu_code, read_head, read_whole

CACHE = Path.home() / ".cache" / "envbuilder-refresh"
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_PKG_INFO = re.compile(r"[^/]+/PKG-INFO")
_LIBRARY = re.compile(r".*\.so(?:\.[0-9.]+)?")
_HEAD = 1 << 19  # compressed bytes in which the symbols of all that was tried are
_LOCAL_HEADER = 30  # bytes, then the name and the extra field
_AT_ONCE = 8  # requests


class CountedSession(requests.Session):
    """Knows how many bytes the index said that it would send."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.bytes = 0

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As `requests` has it; without a length, nothing is counted."""
        answer = super().request(*args, **kwargs)
        self.requests += 1
        self.bytes += int(answer.headers.get("Content-Length", "0"))
        return answer


def read_metadata(url: str, session: requests.Session) -> str:
    """The METADATA of a wheel."""
    with RemoteZip(url, session=session) as wheel:
        for name in wheel.namelist():
            if _METADATA.fullmatch(name):
                return str(wheel.read(name).decode())
    raise ValueError(f"no METADATA in {url}")


class RemoteFiles:
    """What is in the wheels and source archives of an index; the answers lie in a folder, by the file's hash."""

    def __init__(self, session: requests.Session, folder: Path = CACHE) -> None:
        self._session = session
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def metadata(self, file: DistributionPackage) -> str:
        """METADATA of a wheel, PKG-INFO of a source archive."""
        path = self._path(file, "metadata")
        if path.exists():
            return path.read_text(encoding="utf-8")
        if file.package_type == "wheel":
            text = read_metadata(file.url, self._session)
        else:
            text = self._pkg_info(file)
        path.write_text(text, encoding="utf-8", newline="\n")
        return text

    def libraries(self, file: DistributionPackage, pattern: str) -> dict[str, Library]:
        """Path in the wheel → what the head of the library says; those that match `pattern`."""
        found = {}
        for path, row in self._kept(file, "libraries", pattern).items():
            found[path] = Library(
                needed=tuple(row["needed"]), torch_abi=row["torch_abi"]
            )
        return found

    def gpu_code(self, file: DistributionPackage, pattern: str) -> list[str]:
        """The architectures in the libraries of a wheel that match `pattern`: all of each is read.

        PTX is among them where every library that has code has it: the others would have no kernel on a newer GPU.
        """
        binaries: set[str] = set()
        ptx: list[set[str]] = []
        for row in self._kept(file, "code", pattern).values():
            if row["binaries"]:
                binaries.update(row["binaries"])
                ptx.append(set(row["ptx"]))
        everywhere = set.intersection(*ptx) if ptx else set()
        return [
            *sorted(binaries, key=_number_of),
            *sorted(everywhere, key=_number_of),
        ]

    # --- what is not kept yet --------------------------------------------------------------------------------------

    def _path(self, file: DistributionPackage, kind: str) -> Path:
        return self._folder / f"{file.digests['sha256']}.{kind}"

    def _kept(
        self, file: DistributionPackage, kind: str, pattern: str
    ) -> dict[str, Any]:
        """An answer about the libraries of a wheel, from the folder if it is there for this pattern."""
        path = self._path(file, kind)
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["pattern"] == pattern:
                return cast("dict[str, Any]", known["found"])
        read = self._heads if kind == "libraries" else self._code
        found = dict(read(file, pattern))
        text = json.dumps({"pattern": pattern, "found": found})
        path.write_text(text, encoding="utf-8", newline="\n")
        return found

    def _entries(
        self, file: DistributionPackage, pattern: str
    ) -> list[zipfile.ZipInfo]:
        with RemoteZip(file.url, session=self._session) as wheel:
            entries = list(wheel.infolist())
        wanted = re.compile(pattern)
        return [
            entry
            for entry in entries
            if _LIBRARY.fullmatch(entry.filename) and wanted.search(entry.filename)
        ]

    def _heads(
        self, file: DistributionPackage, pattern: str
    ) -> Iterator[tuple[str, Any]]:
        entries = self._entries(file, pattern)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda entry: self._library(file.url, entry), entries)
            for entry, library in zip(entries, found, strict=True):
                row = {"needed": library.needed, "torch_abi": library.torch_abi}
                yield entry.filename, row

    def _library(self, url: str, entry: zipfile.ZipInfo) -> Library:
        """From its head; from all of it where a tool moved its names to the end."""
        library = read_head(self._head(url, entry, _HEAD))
        if library is not None:
            return library
        return read_whole(self._head(url, entry, entry.compress_size))

    def _head(self, url: str, entry: zipfile.ZipInfo, count: int) -> bytes:
        """The first bytes of a file in a wheel: `count` compressed ones, unpacked."""
        start = entry.header_offset
        # The extra field in front of the file can be longer than in the directory of the archive.
        size = _LOCAL_HEADER + len(entry.filename) + 1024
        end = start + size + min(count, entry.compress_size)
        answer = self._session.get(url, headers={"Range": f"bytes={start}-{end}"})
        answer.raise_for_status()
        content = answer.content
        name, extra = struct.unpack_from("<HH", content, 26)
        packed = content[_LOCAL_HEADER + name + extra :]
        if entry.compress_type == zipfile.ZIP_STORED:
            return packed[: entry.file_size]
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed)

    def _code(
        self, file: DistributionPackage, pattern: str
    ) -> Iterator[tuple[str, Any]]:
        for entry in self._entries(file, pattern):
            content = self._head(file.url, entry, entry.compress_size)
            code = find_gpu_code(content)
            row = {"binaries": sorted(code.binaries), "ptx": sorted(code.ptx)}
            yield entry.filename, row

    def _pkg_info(self, file: DistributionPackage) -> str:
        """The PKG-INFO of a source archive, which is read up to it."""
        with self._session.get(file.url, stream=True) as answer:
            answer.raise_for_status()
            with tarfile.open(fileobj=answer.raw, mode="r|gz") as archive:
                for member in archive:
                    if not _PKG_INFO.fullmatch(member.name):
                        continue
                    content = archive.extractfile(member)
                    if content is not None:
                        return content.read().decode()
        raise ValueError(f"no PKG-INFO in {file.filename}")


def _number_of(architecture: str) -> tuple[int, str]:
    """sm_90 before sm_90a, and that before sm_100."""
    _, _, number = architecture.partition("_")
    return int(number.rstrip("af")), architecture
