"""What the user's packages link to and neither their wheels nor the image have: `opencv-python` wants libGL.so.1.

Wheels bring most of their libraries; a few that every Linux desktop has are expected of the system (PEP 600), and a
small image lacks them. Only the wheels that a request adds to its stack are looked at, by range requests, and what is
found is kept by the wheel's hash. Nothing here can make a lock fail: an index that does not answer is a note.
"""

import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder import grammar
from envbuilder.catalog.observations import SystemLibrary
from envbuilder.errors import EnvbuilderError
from envbuilder.files import is_file, read_text, write_file
from envbuilder.grammar import JsonObject, Soname
from envbuilder.lock.needed_libraries import needed_libraries
from envbuilder.lock.range_reader import (
    RangeReader,
    RemoteFile,
    UnreadableError,
)
from envbuilder.lock.wheel_metadata import wheel_addresses
from envbuilder.model import Layer, Lock, Wheel
from envbuilder.network import Network
from envbuilder.versions import listed

_MOST_BYTES = 64 << 20  # of all wheels together
_SECONDS = 3.0
_LARGEST_LIBRARY = 1 << 28  # bytes, unpacked
_LIBRARY = re.compile(r"(?!.*/(?:plugins|qml)/).*\.so(?:\.[0-9][0-9.]*)?")
_MODULE = re.compile(r".*\.(?:cpython-[^./]+|abi3)\.so")
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
_HEADLESS = ("opencv-python", "opencv-contrib-python")


class LinkedLibraries(msgspec.Struct, frozen=True):
    """What a wheel expects of the system or of another wheel."""

    needs: tuple[Soname, ...]
    modules: tuple[Soname, ...]  # those of `needs` that a module asks for by itself
    has: tuple[Soname, ...]  # its own libraries
    whole: bool  # whether all of its libraries were read


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKnowledge:
    """What is known before a wheel is read, and where it is kept what was found."""

    libraries: Sequence[SystemLibrary]
    folder: Path | None  # None: it is not kept


def link_notes(
    lock: Lock, document: JsonObject, network: Network, known: LinkKnowledge
) -> Iterator[str]:
    """A sentence for each package that needs a library of the system, with the options that bring it."""
    addresses = wheel_addresses(document)
    answers: list[tuple[Wheel, LinkedLibraries]] = []
    has: set[str] = set()
    unread = []
    reason = ""
    with RangeReader(network, most_bytes=_MOST_BYTES, seconds=_SECONDS) as reader:
        for wheel in wheels_to_read(lock):
            url = addresses.get(wheel.file, "")
            try:
                linked = _linked(wheel, url, reader, known.folder)
            except UnreadableError as error:
                unread.append(wheel.name)
                reason = str(error)
                continue
            answers.append((wheel, linked))
            has.update(linked.has)
    for wheel, linked in answers:
        needs = [soname for soname in linked.needs if soname not in has]
        yield from _notes_of(wheel, needs, linked.modules, lock, known.libraries)
    if unread:
        yield f"what {listed(unread)} links to is not known: {reason}"


def wheels_to_read(lock: Lock) -> list[Wheel]:
    """The compiled wheels that the user's packages add to the stack."""
    if not lock.stack.extras:
        return []
    wheels = []
    for wheel in lock.wheels:
        if wheel.layer in (Layer.NVIDIA, Layer.TORCH):
            continue
        if wheel.file.endswith("-any.whl") or wheel.name in _OF_EVERY_STACK:
            continue
        wheels.append(wheel)
    # The small ones first: time may end.
    wheels.sort(key=lambda wheel: (wheel.size, wheel.name))
    return wheels


# --- one wheel -----------------------------------------------------------------------------------------------------


def _linked(
    wheel: Wheel, url: str, reader: RangeReader, folder: Path | None
) -> LinkedLibraries:
    """What a wheel expects of the system, as it was found before or from the index."""
    kept = _kept(wheel, folder)
    if kept is not None:
        return kept
    if not url:
        raise UnreadableError("the index gives no address by HTTP")
    remote = RemoteFile(url, reader)
    try:
        with zipfile.ZipFile(remote) as archive:
            linked = _libraries_of(archive, remote)
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        raise UnreadableError(f"{wheel.file} is no wheel: {error}") from error
    _keep(wheel, linked, folder)
    return linked


def _libraries_of(archive: zipfile.ZipFile, remote: RemoteFile) -> LinkedLibraries:
    """What the libraries in a wheel need and none of them is; the small ones first, as long as time lasts."""
    entries = [
        entry for entry in archive.infolist() if _LIBRARY.fullmatch(entry.filename)
    ]
    entries.sort(key=lambda entry: entry.compress_size)
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    needs: set[str] = set()
    of_modules: set[str] = set()
    whole = True
    for entry in entries:
        if entry.file_size > _LARGEST_LIBRARY:
            continue
        try:
            content = _read(entry, archive, remote)
        except UnreadableError:
            whole = False
            break
        needed = needed_libraries(content)
        needs.update(needed)
        if _MODULE.fullmatch(entry.filename):
            of_modules.update(needed)
    needs -= names
    return LinkedLibraries(
        needs=_of_system(needs),
        modules=_of_system(needs & of_modules),
        has=_sonames(names),
        whole=whole,
    )


def _of_system(names: Iterable[str]) -> tuple[str, ...]:
    """Those that not every image has."""
    return tuple(
        name for name in _sonames(names) if not _IN_EVERY_IMAGE.fullmatch(name)
    )


def _sonames(names: Iterable[str]) -> tuple[str, ...]:
    """Those that can be the name of a library, sorted: a wheel can hold anything."""
    return tuple(sorted(name for name in names if grammar.matches(Soname, name)))


def _read(
    entry: zipfile.ZipInfo, archive: zipfile.ZipFile, remote: RemoteFile
) -> bytes:
    """One file of a wheel, with a single request."""
    header = 1024 + 2 * len(entry.filename)  # its own header repeats the name
    count = header + entry.compress_size
    remote.prefetch(entry.header_offset, count)
    return archive.read(entry)


# --- what was found before -----------------------------------------------------------------------------------------


def _kept(wheel: Wheel, folder: Path | None) -> LinkedLibraries | None:
    if folder is None:
        return None
    path = folder / f"{wheel.sha256}.json"
    if not is_file(path):
        return None
    try:
        return msgspec.json.decode(read_text(path), type=LinkedLibraries)
    except (msgspec.DecodeError, EnvbuilderError):
        return None


def _keep(wheel: Wheel, linked: LinkedLibraries, folder: Path | None) -> None:
    if folder is None or not linked.whole:
        return
    text = msgspec.json.encode(linked).decode()
    try:
        write_file(folder / f"{wheel.sha256}.json", text)
    except EnvbuilderError:  # a full disk: it is read again next time
        return


# --- what to say ---------------------------------------------------------------------------------------------------


def _notes_of(
    wheel: Wheel,
    needs: Iterable[str],
    modules: Collection[str],
    lock: Lock,
    libraries: Iterable[SystemLibrary],
) -> Iterator[str]:
    rows = {row.soname: row for row in libraries}
    installed = _with_what_they_bring(lock.stack.apt, rows)
    missing = []
    packages = []
    unknown = []
    for soname in needs:
        row = rows.get(soname)
        if row is None:
            # What only a library asks for may be for a part that nobody uses.
            if soname in modules:
                unknown.append(soname)
            continue
        if row.package in installed:
            continue
        missing.append(soname)
        packages.append(row.package)
    if missing:
        options = _apt_options(packages, rows)
        yield (
            f"{wheel.name} needs {listed(missing)} of the system: "
            f"add `{options}`{_other_way(wheel, lock)}"
        )
    if unknown:
        yield (
            f"{wheel.name} needs {listed(unknown)}: "
            "not known which Debian package has it (`--apt NAME`)"
        )


def _with_what_they_bring(
    packages: Iterable[str], rows: Mapping[str, SystemLibrary]
) -> set[str]:
    """Packages, and those of the table that they depend on."""
    brought = {row.package: row.brings for row in rows.values()}
    found: set[str] = set()
    for package in packages:
        found.add(package)
        found.update(brought.get(package, ()))
    return found


def _apt_options(packages: Sequence[str], rows: Mapping[str, SystemLibrary]) -> str:
    """`--apt libgl1 --apt libglib2.0-0`: without those that another one of them brings."""
    options = []
    for package in dict.fromkeys(packages):
        others = set(packages)
        others.remove(package)
        brought = _with_what_they_bring(others, rows)
        if package in brought:
            continue
        options.append(f"--apt {package}")
    return " ".join(options)


def _other_way(wheel: Wheel, lock: Lock) -> str:
    """The same package without windows, if there is one and the user requested this one by name."""
    if wheel.name not in _HEADLESS:
        return ""
    for line in lock.stack.extras:
        name = canonicalize_name(Requirement(line).name)
        if name == wheel.name:
            return f", or use `--package {name}-headless` instead"
    return ""
