"""What the libraries in the user's wheels need, read by range requests.

Only the compiled wheels that a request adds to its stack are looked at, of a large library only its beginning, and what
is found is kept by the wheel's hash. Nothing here can make a lock fail: what cannot be read is reported as such.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from envbuilder import grammar
from envbuilder.errors import EnvbuilderError
from envbuilder.files import is_file, read_text, write_file
from envbuilder.grammar import JsonObject, Soname
from envbuilder.lock.cuda_sonames import cuda_majors, cudnn_major
from envbuilder.lock.library_strings import needed_in_beginning
from envbuilder.lock.needed_libraries import needed_libraries
from envbuilder.lock.range_reader import RangeReader, RemoteFile, UnreadableError
from envbuilder.lock.wheel_metadata import wheel_addresses
from envbuilder.model import Layer, Lock, Wheel
from envbuilder.network import Network

_MOST_BYTES = 64 << 20  # of all wheels of a lock together
_SECONDS = 8.0
_AT_ONCE = 8  # requests
_BEGINNING = 1 << 18  # bytes of a library, packed
_LARGEST_BEGINNING = 1 << 24  # unpacked
_LARGEST_LIBRARY = 1 << 28  # unpacked
_LIBRARY = re.compile(r"(?!.*/(?:plugins|qml)/).*\.so(?:\.[0-9][0-9.]*)?")
_MODULE = re.compile(r".*\.(?:cpython-[^./]+|abi3)\.so")
_HEADER = struct.Struct("<26xHH")  # of a file in an archive: lengths of name and rest
_RAW = -zlib.MAX_WBITS  # deflate without a header, as archives have it
_BAD_ARCHIVE = (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError)
# Compiled packages that every stack has: each was imported in an image that trains.
_OF_EVERY_STACK = frozenset(
    {
        *("aiohttp", "charset-normalizer", "contourpy", "fonttools", "frozenlist"),
        *("grpcio", "hf-xet", "kiwisolver", "markupsafe", "matplotlib", "multidict"),
        *("ninja", "numpy", "pandas", "pillow", "propcache", "protobuf", "psutil"),
        *("pyarrow", "pydantic-core", "pyyaml", "regex", "safetensors"),
        *("scikit-learn", "scipy", "tensorboard-data-server", "tokenizers"),
        *("xxhash", "yarl"),
    }
)
_IN_EVERY_IMAGE = re.compile(  # glibc, gcc's run time, what Python itself links to, and what torch brings or the driver
    r"ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|nsl|anl|crypt|mvec|gcc_s|stdc\+\+|atomic|z|bz2|lzma|expat|uuid"
    r"|ffi|gomp)(-.*)?\.so.*|libpython3.*|libcuda\.so.*|lib(cu|nv|nccl|torch|c10|triton|ATen|npp).*"
)


class LinkedLibraries(msgspec.Struct, frozen=True):
    """What a wheel expects of the system or of another wheel."""

    needs: tuple[Soname, ...]
    modules: tuple[Soname, ...]  # those of `needs` that a module asks for by itself
    has: tuple[Soname, ...]  # its own libraries
    cuda: tuple[Soname, ...]  # those of CUDA and cuDNN that it needs and has not
    whole: bool  # whether all of its libraries were read


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAnswer:
    """What the wheels of a lock need; the names of those that could not be read, and the last reason."""

    linked: Sequence[tuple[Wheel, LinkedLibraries]]
    unread: Sequence[str] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReader:
    """Reads wheels through the user's network, and keeps what it found: in a folder, and for this run."""

    network: Network
    folder: Path | None  # None: only for this run
    kept: dict[str, LinkedLibraries] = field(default_factory=dict)  # by sha256

    def read(
        self,
        lock: Lock,
        document: JsonObject,
        local: Mapping[str, Path] | None = None,
    ) -> LinkAnswer:
        """What the user's wheels in a lock need; `document` has their addresses, `local` those that are files here."""
        addresses = wheel_addresses(document)
        linked = []
        unread = []
        reason = ""
        with RangeReader(
            self.network, most_bytes=_MOST_BYTES, seconds=_SECONDS
        ) as reader:
            for wheel in wheels_to_read(lock):
                path = (local or {}).get(wheel.name)
                url = addresses.get(wheel.file, "")
                try:
                    found = self._linked(wheel, path, url, reader)
                except UnreadableError as error:
                    unread.append(wheel.name)
                    reason = str(error)
                    continue
                linked.append((wheel, found))
        return LinkAnswer(
            linked=linked,
            unread=unread,
            reason=reason,
        )

    def _linked(
        self, wheel: Wheel, path: Path | None, url: str, reader: RangeReader
    ) -> LinkedLibraries:
        """What a wheel expects, as it was found before, or from the index or the file."""
        kept = self._kept(wheel)
        if kept is not None:
            return kept
        if path is None and not url:
            raise UnreadableError("the index gives no address by HTTP")
        try:
            source = path or RemoteFile(url, reader)
            with zipfile.ZipFile(source) as archive:
                place = _Archive(archive=archive, url=url, reader=reader)
                linked = place.linked()
        except OSError as error:
            raise UnreadableError(str(error)) from error
        except _BAD_ARCHIVE as error:
            raise UnreadableError(f"{wheel.file} is no wheel: {error}") from error
        self._keep(wheel, linked)
        return linked

    def _kept(self, wheel: Wheel) -> LinkedLibraries | None:
        if wheel.sha256 in self.kept:
            return self.kept[wheel.sha256]
        if self.folder is None:
            return None
        path = self.folder / f"{wheel.sha256}.json"
        if not is_file(path):
            return None
        try:
            return msgspec.json.decode(read_text(path), type=LinkedLibraries)
        except (msgspec.DecodeError, EnvbuilderError):
            return None

    def _keep(self, wheel: Wheel, linked: LinkedLibraries) -> None:
        self.kept[wheel.sha256] = linked
        if self.folder is None or not linked.whole:
            return
        text = msgspec.json.encode(linked).decode()
        try:
            write_file(self.folder / f"{wheel.sha256}.json", text)
        except EnvbuilderError:  # a full disk: it is read again next time
            return


def wheels_to_read(lock: Lock) -> list[Wheel]:
    """The compiled wheels that the user's packages add to the stack."""
    if not lock.stack.extras:
        return []
    wheels = []
    for wheel in lock.wheels:
        if wheel.layer in (Layer.NVIDIA, Layer.TORCH):
            continue
        if wheel.name in _OF_EVERY_STACK:
            continue
        if wheel.file.endswith("-any.whl"):
            continue
        wheels.append(wheel)
    # The small ones first: time may end.
    wheels.sort(key=lambda wheel: (wheel.size, wheel.name))
    return wheels


# --- one wheel -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """An opened wheel; its pieces come from an address, or from the file itself without one."""

    archive: zipfile.ZipFile
    url: str
    reader: RangeReader

    def linked(self) -> LinkedLibraries:
        """What the libraries need and none of them is."""
        entries = []
        for entry in self.archive.infolist():
            if _LIBRARY.fullmatch(entry.filename):
                entries.append(entry)
        # The small ones first: time may end.
        entries.sort(key=lambda entry: entry.compress_size)
        names = {_name_of(entry) for entry in entries}
        needs: set[str] = set()
        of_modules: set[str] = set()
        whole = True
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(self._needed, entries))
        for entry, needed in zip(entries, answers, strict=True):
            if needed is None:
                whole = False
                continue
            needs.update(needed)
            if _MODULE.fullmatch(entry.filename):
                of_modules.update(needed)
        needs -= names
        return LinkedLibraries(
            needs=_of_system(needs),
            modules=_of_system(needs & of_modules),
            has=_sonames(names),
            cuda=_of_cuda(needs),
            whole=whole,
        )

    def _needed(self, entry: zipfile.ZipInfo) -> list[str] | None:
        """The names that one library needs; None if it cannot be read."""
        try:
            if entry.compress_size > _BEGINNING:
                beginning = self._unpacked(
                    entry,
                    _BEGINNING,
                    _LARGEST_BEGINNING,
                )
                needed = needed_in_beginning(beginning)
                if needed:
                    return _without_itself(needed, entry)
            if entry.file_size > _LARGEST_LIBRARY:
                return []
            content = self._unpacked(entry, entry.compress_size, _LARGEST_LIBRARY)
        except (UnreadableError, OSError, zlib.error, struct.error):
            return None
        return needed_libraries(content)

    def _unpacked(self, entry: zipfile.ZipInfo, count: int, most: int) -> bytes:
        """The beginning of a file: as much of it as `count` packed bytes hold, at most `most` bytes."""
        if not self.url:
            if entry.file_size > _LARGEST_LIBRARY:
                raise UnreadableError("it is too large")
            return self.archive.read(entry)
        packed = self._packed(entry, count)
        if entry.compress_type == zipfile.ZIP_STORED:
            return packed
        if entry.compress_type != zipfile.ZIP_DEFLATED:
            raise UnreadableError("it is packed in a way of its own")
        unpacker = zlib.decompressobj(_RAW)
        return unpacker.decompress(packed, most)

    def _packed(self, entry: zipfile.ZipInfo, count: int) -> bytes:
        """The first packed bytes of a file, with a single request."""
        # Its own header repeats the name.
        header = 1024 + 2 * len(entry.filename)
        size = header + count
        first = entry.header_offset
        last = first + size - 1
        content, _ = self.reader.piece(
            self.url,
            f"{first}-{last}",
            size,
        )
        name, rest = _HEADER.unpack_from(content)
        start = _HEADER.size + name + rest
        end = start + count
        return content[start:end]


def _name_of(entry: zipfile.ZipInfo) -> str:
    return entry.filename.rpartition("/")[2]


def _without_itself(needed: Iterable[str], entry: zipfile.ZipInfo) -> list[str]:
    """Without the library's own name: `libx.so.1` of `libx.so.1.31.1`."""
    stem = _name_of(entry).partition(".so")[0]
    return [name for name in needed if name.partition(".so")[0] != stem]


def _of_system(names: Iterable[str]) -> tuple[str, ...]:
    """Those that not every image has."""
    return tuple(
        name for name in _sonames(names) if not _IN_EVERY_IMAGE.fullmatch(name)
    )


def _of_cuda(names: Iterable[str]) -> tuple[str, ...]:
    """Those whose names tell which CUDA or cuDNN they are of."""
    return tuple(
        name for name in _sonames(names) if cuda_majors(name) or cudnn_major(name)
    )


def _sonames(names: Iterable[str]) -> tuple[str, ...]:
    """Those that can be the name of a library, sorted: a wheel can hold anything."""
    return tuple(sorted(name for name in names if grammar.matches(Soname, name)))
