"""Archives of source code: packed in one way, so that the same files are the same bytes, and read with care."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from envbuilder.errors import LockError

TOP = "source"
"""The folder in an archive that we pack; a source package of an index has one of its own."""
_READ_MOST = 4 * 1024 * 1024  # bytes of one file of metadata
_MOST_MEMBERS = 50_000
MOST_UNPACKED = 1 << 30  # bytes


def pack(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """Files, given as relative path → content and run bit, as a tar without owners and dates.

    Not compressed: what a compressor makes of the same bytes depends on its version.
    """
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream,
        mode="w",
        format=tarfile.PAX_FORMAT,
    ) as tar:
        for name in sorted(files):
            content, executable = files[name]
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size = len(content)
            if executable:
                member.mode = 0o755
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def unpacked(archive: Path) -> dict[str, tuple[bytes, bool]]:
    """The files of a tar that git has written, to be packed again; a link is followed within the archive."""
    files = {}
    links = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = str(PurePosixPath(member.name))
            if member.issym():
                links[name] = _target(name, member.linkname)
            elif member.isreg():
                files[name] = _content(tar, member)
    for name, target in links.items():
        if target in files:
            files[name] = files[target]
    return files


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, bool]:
    """Content and run bit of a regular file."""
    content = b""
    stream = tar.extractfile(member)
    if stream:
        content = stream.read()
    executable = member.mode & 0o100 != 0
    return content, executable


def _target(name: str, link: str) -> str:
    """Where a link of an archive leads, as a path in it; "" if it leads out."""
    parts: list[str] = []
    for part in (*PurePosixPath(name).parent.parts, *PurePosixPath(link).parts):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


class SourceArchive:
    """The files of a source archive, for its metadata. Nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names = self._read_names()

    def _read_names(self) -> list[str]:
        try:
            if self._path.name.endswith(".zip"):
                with zipfile.ZipFile(self._path) as archive:
                    names = archive.namelist()
            else:
                names = self._names_of_tar()
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error
        return names

    def _names_of_tar(self) -> list[str]:
        names = []
        size = 0
        try:
            with tarfile.open(self._path) as tar:
                for member in tar:
                    names.append(member.name)
                    # Before what follows is decompressed: a small file may hold terabytes of zeros.
                    size += member.size
                    if len(names) > _MOST_MEMBERS or size > MOST_UNPACKED:
                        break
        except tarfile.TarError as error:
            raise self._damaged(error) from error
        if len(names) > _MOST_MEMBERS or size > MOST_UNPACKED:
            raise LockError(
                f"{self._path.name} unpacks to more than {MOST_UNPACKED >> 20} MB or {_MOST_MEMBERS} files"
            )
        return names

    def _damaged(self, error: Exception) -> LockError:
        return LockError(f"{self._path.name} is not a source archive: {error}")

    @property
    def top(self) -> str:
        """The one folder that everything is in, with a slash; "" if there are several."""
        tops = {name.removeprefix("./").partition("/")[0] for name in self.names}
        tops.discard("")
        tops.discard("pax_global_header")
        return f"{tops.pop()}/" if len(tops) == 1 else ""

    @property
    def names_below_top(self) -> set[str]:
        """The paths below the top folder."""
        return {name.removeprefix("./").removeprefix(self.top) for name in self.names}

    def read(self, name: str) -> str | None:
        """The text of a file below the top folder; None if there is none."""
        for member in (f"{self.top}{name}", f"./{self.top}{name}"):
            if member in self.names:
                return self._read_member(member).decode("utf-8", "replace")
        return None

    def _read_member(self, name: str) -> bytes:
        try:
            if self._path.name.endswith(".zip"):
                with zipfile.ZipFile(self._path) as archive:
                    if archive.getinfo(name).file_size > _READ_MOST:
                        raise LockError(f"{name} in {self._path.name} is too large")
                    return archive.read(name)
            with tarfile.open(self._path) as tar:
                stream = tar.extractfile(name)
                return stream.read(_READ_MOST) if stream else b""
        except (OSError, EOFError, KeyError, tarfile.TarError) as error:
            raise self._damaged(error) from error
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise self._damaged(error) from error
