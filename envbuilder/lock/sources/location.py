"""Where a package comes from, as a person writes it: `peft @ git+https://…@v1`, `./mylib[cli]`, `https://…/x.whl`."""

import posixpath
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from envbuilder import grammar
from envbuilder.model import SourceKind

ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz")
_NAMED = re.compile(r"([A-Za-z0-9._-]+) ?(\[[^]]*\])? ?@ ?(\S+)")
_EXTRAS_BEHIND = re.compile(r"(.*[^\]])\[([A-Za-z0-9._, -]*)\]")
_STARTS = ("./", "../", "/", "git+", "http://", "https://", "file:")
_UNSUPPORTED = re.compile(r"(?:git@|ssh:|git:|hg\+|svn\+|bzr\+|~)", re.IGNORECASE)
_FILE_SCHEME = re.compile(r"\Afile:(?://(?:localhost)?)?(?=/)")
_GIT_HINT = "a repository is written git+https://host/owner/repository@COMMIT"
_CREDENTIALS = re.compile(r"://[^/]*:[^/]*@|[?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place, and which package is there."""

    name: str  # "": of a folder, whose metadata has it
    extras: tuple[str, ...] = ()
    kind: SourceKind
    origin: str  # a repository, a path, or an address
    ref: str = ""  # of a repository: commit, tag or branch; "": its default branch
    subdirectory: str = ""

    @property
    def text(self) -> str:
        """The canonical requirement, which `parse_location` reads again."""
        place = self._place()
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        if not self.name:
            return f"{place}{extras}"
        return f"{self.name}{extras} @ {place}"

    def _place(self) -> str:
        if self.kind is SourceKind.GIT:
            ref = f"@{self.ref}" if self.ref else ""
            fragment = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
            return f"git+{self.origin}{ref}{fragment}"
        if self.origin.startswith("/"):
            return f"file://{self.origin}"
        return self.origin

    @property
    def file(self) -> str:
        """The name of the archive or wheel at the place; "" for a repository or a folder."""
        if self.kind is SourceKind.GIT:
            return ""
        last = self.origin.rpartition("/")[2]
        name = unquote(last)
        if not name.lower().endswith(ARCHIVE_SUFFIXES):
            return ""
        return name


def is_located(text: str) -> bool:
    """Whether a requirement says where its package comes from."""
    if text in (".", "..") or text.startswith((*_STARTS, ".[")):
        return True
    if _UNSUPPORTED.match(text):
        return True
    named = _NAMED.fullmatch(text)
    return named is not None and is_located(named[3])


def local_origin(text: str) -> str:
    """The path of a folder or a file that a requirement names; "" for every other requirement."""
    try:
        location = parse_location(text) if is_located(text) else None
    except ValueError:
        return ""  # the parser of a package says what is wrong with it
    if location is None or location.kind is not SourceKind.LOCAL:
        return ""
    return location.origin


def parse_location(text: str) -> Location:
    """The place that a requirement names. Raises `ValueError` that says what is wrong with it."""
    named = _NAMED.fullmatch(text)
    name = ""
    place = text
    extras: tuple[str, ...] = ()
    if named and not text.startswith(_STARTS) and not _UNSUPPORTED.match(text):
        name = named[1]
        extras = _parse_extras((named[2] or "")[1:-1])
        place = named[3]
    elif behind := _EXTRAS_BEHIND.fullmatch(text):
        place = behind[1]
        extras = _parse_extras(behind[2])
    if _UNSUPPORTED.match(place):
        raise ValueError(_GIT_HINT)
    location = _parse_place(place)
    if extras:
        location = replace(location, extras=extras)
    return _with_name(location, name)


def _parse_extras(text: str) -> tuple[str, ...]:
    names = []
    for word in text.split(","):
        name = word.strip()
        if not name:
            continue
        canonical = canonicalize_name(name)
        if not grammar.matches(grammar.Project, canonical):
            raise ValueError(f"{name!r} is not the name of an extra")
        names.append(name)
    return tuple(sorted(names))


def _parse_place(text: str) -> Location:
    if _CREDENTIALS.search(text):
        raise ValueError(
            "an address must have no password and no query, which would be in the lock: "
            "passwords belong into ~/.netrc or git's credential helper"
        )
    if text.startswith("git+"):
        return _parse_repository(text.removeprefix("git+"))
    if text.startswith(("http://", "https://")):
        return _parse_address(text)
    return _parse_path(text)


def _parse_repository(text: str) -> Location:
    address, _, fragment = text.partition("#")
    # The user of an ssh address comes before an `@` too.
    start = address.find("/", address.find("://") + 3)
    path, at, ref = address[start:].rpartition("@")
    if at:
        address = address[:start] + path
    egg, subdirectory = _parse_fragment(fragment)
    name, bracket, extras = egg.partition("[")
    if not grammar.matches(grammar.GitUrl, address) or "/../" in f"{address}/":
        raise ValueError(_GIT_HINT)
    if at and not grammar.matches(grammar.GitRef, ref):
        raise ValueError(f"{ref!r} is not {grammar.words(grammar.GitRef)}")
    last = address.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return Location(
        name=name or (canonicalize_name(last) if not subdirectory else ""),
        extras=_parse_extras(extras.removesuffix("]")) if bracket else (),
        kind=SourceKind.GIT,
        origin=address,
        ref=ref if at else "",
        subdirectory=subdirectory,
    )


def _parse_fragment(text: str) -> tuple[str, str]:
    """`egg=NAME[EXTRA]&subdirectory=PATH` → name with extras, and path."""
    values = {"egg": "", "subdirectory": ""}
    pairs = text.split("&") if text else []
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in values or not value:
            message = f"behind # there can be subdirectory=FOLDER, not {pair[:60]!r}"
            raise ValueError(message)
        values[key] = value
    subdirectory = values["subdirectory"]
    if not grammar.matches(grammar.SubfolderOrNone, subdirectory):
        expected = grammar.words(grammar.Subfolder)
        raise ValueError(f"{subdirectory!r} is not {expected}")
    return values["egg"], subdirectory


def _name_in_fragment(text: str) -> str:
    """What `egg=NAME` behind an address says; a hash there is computed again when it is locked."""
    name = ""
    for pair in text.split("&"):
        key, _, value = pair.partition("=")
        if key == "egg":
            name = value.partition("[")[0]
        elif key == "subdirectory":
            raise ValueError(
                "a folder inside of an archive is not taken: name its git repository, or unpack it"
            )
    return name


def _parse_address(text: str) -> Location:
    address, _, fragment = text.partition("#")
    name = _name_in_fragment(fragment)
    location = Location(
        name=name,
        kind=SourceKind.URL,
        origin=address,
    )
    if not grammar.matches(grammar.FileUrl, address) or not location.file:
        raise ValueError(
            "an address is that of a wheel or a source archive, such as https://host/name-1.0-py3-none-any.whl; "
            f"{_GIT_HINT}"
        )
    return location


def _parse_path(text: str) -> Location:
    path = _FILE_SCHEME.sub("", text)
    if not grammar.matches(grammar.LocalPath, path):
        expected = grammar.words(grammar.LocalPath)
        raise ValueError(f"a folder is {expected}")
    tidy = tidy_path(path)
    return Location(
        name="",
        kind=SourceKind.LOCAL,
        origin=tidy,
    )


def tidy_path(path: str) -> str:
    """`./a/../b/` → `./b`."""
    clean = posixpath.normpath(path)
    if clean.startswith("//"):
        clean = clean[1:]
    if clean.startswith(("/", "../")) or clean in (".", ".."):
        return clean
    return f"./{clean}"


def _with_name(location: Location, name: str) -> Location:
    """With the name that the user gives, else that of the file; raises `ValueError` if they differ."""
    in_file = _name_in_file(location.file) if location.file else ""
    if name and in_file and canonicalize_name(name) != in_file:
        raise ValueError(f"{location.file} is a file of {in_file}, not of {name}")
    chosen = name or in_file or location.name
    if not chosen:
        if location.kind is SourceKind.LOCAL:
            return location
        raise ValueError("write its name in front: 'NAME @ git+https://…'")
    canonical = canonicalize_name(chosen)
    if not grammar.matches(grammar.Project, canonical):
        raise ValueError(f"{chosen[:60]!r} is not the name of a package")
    return replace(location, name=canonical)


def _name_in_file(file: str) -> str:
    """The package of a wheel or a source archive; "" if the name of an archive does not say it."""
    if not grammar.matches(grammar.ArchiveFile, file):
        raise ValueError(f"{file[:60]!r} is not {grammar.words(grammar.ArchiveFile)}")
    if file.endswith(".whl"):
        try:
            return parse_wheel_filename(file)[0]
        except InvalidWheelFilename:
            raise ValueError(f"{file!r} is not a wheel's file name") from None
    try:
        return parse_sdist_filename(file)[0]
    except InvalidSdistFilename:
        return ""
