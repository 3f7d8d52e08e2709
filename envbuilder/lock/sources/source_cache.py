"""Archives and built wheels on this machine, by what they are made from; whatever is in it can be made again."""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from envbuilder import serialize
from envbuilder.errors import UsageError
from envbuilder.files import (
    file_digest,
    is_file,
    read_bytes,
    read_text,
    write_bytes,
    write_file,
)
from envbuilder.model import Source, Wheel

CACHE_VARIABLE = "ENVBUILDER_CACHE_DIR"
LARGEST = 1 << 30  # bytes of an archive
_KEY = re.compile(r"[0-9a-f]{64}")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`ENVBUILDER_CACHE_DIR`, or the user's folder for what a program can make again.

    Raises `UsageError` for a user without a home: `~` would be a folder of the project.
    """
    import platformdirs  # noqa: PLC0415

    text = environ.get(CACHE_VARIABLE, "")
    if not text:
        try:
            text = platformdirs.user_cache_dir("envbuilder", appauthor=False)
        except RuntimeError:
            text = ""
    if not text or not Path(text).is_absolute():
        raise UsageError(
            "there is no folder to keep source packages in",
            hint=f"name one by an absolute path: `export {CACHE_VARIABLE}=/tmp/envbuilder-cache`",
        )
    return Path(text) / "sources"


class SourceCache:
    """Files by their sha256, and builds by a key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def archive(self, digest: str, name: str) -> Path | None:
        """An archive with that sha256; a damaged one is none."""
        path = self._folder / "archives" / digest / name
        if not is_file(path) or file_digest(path)[0] != digest:
            return None
        return path

    def add_archive(self, name: str, content: bytes) -> Path:
        digest = sha256(content).hexdigest()
        path = self.place_for(digest, name)
        if self.archive(digest, name) is None:
            write_bytes(path, content)
        return path

    def place_for(self, digest: str, name: str) -> Path:
        """Where an archive with that sha256 is kept."""
        return self._folder / "archives" / digest / name

    def read(self, path: Path) -> bytes:
        return read_bytes(path, limit=LARGEST)

    def folder_of(self, key: str) -> Path:
        """Where the wheel of a build is kept."""
        return self._folder / "wheels" / key

    def built(self, key: str) -> tuple[Source, Wheel, Path] | None:
        """What a build with this key made; None if it is not there, or damaged."""
        folder = self.folder_of(key)
        if not _KEY.fullmatch(key) or not is_file(folder / "source.json"):
            return None
        try:
            source = serialize.loads(read_text(folder / "source.json"), Source)
            wheel = serialize.loads(read_text(folder / "wheel.json"), Wheel)
        except (msgspec.DecodeError, ValueError, UsageError):
            return None
        path = folder / wheel.file
        if not is_file(path) or file_digest(path)[0] != wheel.sha256:
            return None
        return source, wheel, path

    def keep(self, key: str, source: Source, wheel: Wheel) -> None:
        """Describe a wheel that lies in `folder_of(key)`."""
        folder = self.folder_of(key)
        write_file(folder / "wheel.json", serialize.dumps(wheel))
        write_file(folder / "source.json", serialize.dumps(source))


def key_of(*parts: object) -> str:
    """The key of a build: a hash of all that it depends on."""
    text = "\0".join(
        os.fspath(part) if isinstance(part, Path) else str(part) for part in parts
    )
    return sha256(text.encode()).hexdigest()
