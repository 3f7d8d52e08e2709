"""Source packages of the index, as uv names them; uv does not open them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envbuilder.errors import LockError
from envbuilder.lock.index_answer import IndexAnswer, ask_index, yanked_releases
from envbuilder.lock.known_sources import NO_SOURCES
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Source, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class SdistFile:
    """A source package of the index."""

    name: str
    version: Version
    file: str
    url: str
    sha256: str


def sdists_in(document: Mapping[str, Any]) -> Iterator[SdistFile]:
    """The packages of a pylock document that are only there as source packages."""
    for package in document.get("packages", ()):
        sdist = package.get("sdist")
        if not isinstance(sdist, dict) or package.get("wheels"):
            continue
        yield _sdist_file(package, sdist)


def sdist_of(package: Mapping[str, Any]) -> SdistFile | None:
    """The source package of one of them, also next to wheels; None if it has none that can be taken."""
    if not isinstance(package.get("sdist"), dict):
        return None
    try:
        return _sdist_file(package, package["sdist"])
    except LockError:
        return None


def _sdist_file(package: Mapping[str, Any], sdist: Mapping[str, Any]) -> SdistFile:
    name = str(package.get("name", ""))
    url = str(sdist.get("url", ""))
    hashes = sdist.get("hashes", {})
    digest = hashes.get("sha256", "")
    file = str(sdist.get("name", ""))
    if not file:
        path = unquote(urlsplit(url).path)
        file = path.rpartition("/")[2]
    if not digest or not url.startswith(("http://", "https://")):
        message = f"the index gives no sha256 or no address for {file}"
        raise LockError(message)
    text = str(package.get("version", ""))
    try:
        version = Version(text)
    except InvalidVersion as error:
        raise LockError(f"the index gives no version for {file}") from error
    return SdistFile(
        name=canonicalize_name(name),
        version=version,
        file=file,
        url=url,
        sha256=digest,
    )


def ask_for_sdist(source: Source, uv: Uv, stack: Stack) -> IndexAnswer:
    """What the index has of one locked source package."""
    known = replace(NO_SOURCES, sdists=frozenset({source.name}))
    line = f"{source.name}=={source.version}"
    return ask_index(uv, stack, [line], alone=True, known=known)


def find_sdist(source: Source, uv: Uv, stack: Stack) -> SdistFile:
    """Where the index has a locked source package. Raises `LockError` if it has it no longer."""
    answer = ask_for_sdist(
        source,
        uv,
        stack,
    )
    for sdist in sdists_in(answer.document or {}):
        if sdist.file == source.origin:
            return sdist
    raise LockError(
        f"{source.origin} is no longer on the index", problems=answer.causes[:4]
    )


def change_of_sdist(source: Source, uv: Uv, stack: Stack) -> str:
    """What became of a locked source package on the index; "" if nothing did."""
    answer = ask_for_sdist(
        source,
        uv,
        stack,
    )
    because = yanked_releases(answer.stderr).get(source.name)
    if because:
        return because
    for sdist in sdists_in(answer.document or {}):
        if sdist.file != source.origin:
            continue
        if sdist.sha256 == source.sha256:
            return ""
        locked = source.sha256[:12]
        current = sdist.sha256[:12]
        return f"{source.origin} was replaced: sha256 {locked}… is locked, the index has {current}…"
    return f"{source.origin} is no longer on the index"
