"""The page of one project as PEP 691 and PEP 700 have it, in JSON: which files each release has, and since when."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from envbuilder import grammar
from envbuilder.errors import EngineError
from envbuilder.lock.python_bounds import allows_python
from envbuilder.lock.target_platform import accepted_tags
from envbuilder.lock.torch_index import without_login
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import PYPI, Stack

DEFAULT_INDEX = f"https://{PYPI}.org/simple"
"""The index that uv asks unless another is named."""
_JSON = "application/vnd.pypi.simple.v1+json"
_MOST_FILES = 100_000


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    filename: grammar.Setting
    url: str = ""
    upload_time: str = ""
    requires_python: str | None = None
    yanked: bool | str = False


class _Page(msgspec.Struct, frozen=True):
    files: tuple[_File, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """A wheel or a source package on a page."""

    name: str
    version: Version
    url: str
    day: date | None  # of its upload; None: the page does not tell
    python: SpecifierSet
    yanked: bool

    @property
    def is_wheel(self) -> bool:
        return self.name.endswith(".whl")

    def fits(self, stack: Stack) -> bool:
        """Whether it is a wheel that can be installed in the image of a stack."""
        if not self.is_wheel:
            return False
        if not allows_python(self.python, stack.python):
            return False
        _, _, _, tags = parse_wheel_filename(self.name)
        accepted = accepted_tags(stack)
        return not tags.isdisjoint(accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage:
    """The files of a project that have a version."""

    name: str
    files: tuple[ProjectFile, ...]

    def files_of(self, version: Version) -> list[ProjectFile]:
        return [file for file in self.files if file.version == version]

    def released(self, version: Version) -> date | None:
        """The day of a release: that of its first file."""
        days = [file.day for file in self.files_of(version) if file.day]
        return min(days, default=None)

    def newest(self, bounds: SpecifierSet, last: date) -> Version | None:
        """The newest release within bounds, up to a day; a pre-release only if the bounds name one."""
        versions = set()
        for file in self.files:
            if file.yanked:
                continue
            if file.day is not None and file.day > last:
                continue
            versions.add(file.version)
        prereleases = bool(bounds.prereleases)
        allowed = bounds.filter(versions, prereleases=prereleases)
        return max(allowed, default=None)

    def succeeded(self, version: Version) -> date | None:
        """The day of the first release that is newer than a version; None: it is the newest."""
        days = []
        for file in self.files:
            if file.yanked or file.day is None:
                continue
            other = file.version
            if other > version and not other.is_prerelease:
                days.append(file.day)
        return min(days, default=None)


def project_page(
    uv: Uv, name: str, *, seconds: float | None = None
) -> ProjectPage | None:
    """The page of a project on the package index, without files if it has no such project; None if it has no JSON.

    `seconds`: how long the index may be silent. Raises `EngineError` if it cannot be reached.
    """
    if uv.client is None:
        return None
    client = uv.client if seconds is None else replace(uv.client, seconds=seconds)
    project = canonicalize_name(name)
    address = _page_address(uv.index_url or DEFAULT_INDEX, project)
    try:
        text = client.page(address, accept=_JSON)
    except EngineError as error:
        response = getattr(error.__cause__, "response", None)
        # An answer is one, whatever it says: an index that nobody reaches gives none.
        if response is None:
            raise
        if response.status_code == HTTPStatus.NOT_FOUND:
            return ProjectPage(name=project, files=())
        return None
    return parse_project_page(text, name, address=address)


def _page_address(index: str, project: str) -> str:
    """The address of a page, without the login and the query of the index, which errors would repeat."""
    parts = urlsplit(without_login(index))
    path = parts.path.rstrip("/")
    return parts._replace(path=f"{path}/{project}/", query="", fragment="").geturl()


def parse_project_page(
    text: str, name: str, *, address: str = DEFAULT_INDEX
) -> ProjectPage | None:
    """The files of a page in JSON; None if it is something else. Files with odd names are left out, as by uv.

    `address`: that of the page, for links that are relative to it.
    """
    try:
        page = msgspec.json.decode(text, type=_Page)
    except (msgspec.DecodeError, RecursionError):
        return None
    files = list(_files_of(page, canonicalize_name(name), address))
    return ProjectPage(name=canonicalize_name(name), files=tuple(files))


def _files_of(page: _Page, project: str, address: str) -> Iterator[ProjectFile]:
    for file in page.files[:_MOST_FILES]:
        version = _version_of(file.filename, project)
        if version is None:
            continue
        yield ProjectFile(
            name=file.filename,
            version=version,
            url=_link(file.url, address),
            day=_day_of(file.upload_time),
            python=_bounds_of(file.requires_python or ""),
            yanked=file.yanked is not False,
        )


def _link(text: str, page: str) -> str:
    """The address of a file; "" for one that is no way to a file of an index."""
    try:
        url = urljoin(page, text)
    except ValueError:
        return ""
    return url if text and grammar.matches(grammar.PageUrl, url) else ""


def _version_of(file: str, project: str) -> Version | None:
    """The version in the name of a file; None if it is no file of the project."""
    try:
        if file.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return version if name == project else None


def _day_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _bounds_of(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:  # a bound that nobody can read is none, as for uv
        return SpecifierSet()
