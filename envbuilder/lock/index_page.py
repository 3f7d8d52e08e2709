"""The page of an index as PEP 503 has it, in HTML: which files there are, and what the page says of each."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from envbuilder import grammar
from envbuilder.errors import LockError

_SHA256 = re.compile(r"sha256=([0-9a-f]{64})")
_MOST_FILES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedWheel:
    """A wheel on a page."""

    file: str
    url: str
    sha256: str = ""  # "": the page has none


def parse_page(text: str, url: str) -> list[ListedWheel]:
    """The wheels that a page at `url` lists, in its order; other files are left out.

    Raises `LockError` for a page that is not that of an index.
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    wheels = []
    if len(reader.links) > _MOST_FILES:
        raise LockError(f"{url} lists more than {_MOST_FILES} files")
    for href in reader.links:
        wheel = _wheel_at(href, url)
        if wheel is None:
            continue
        wheels.append(wheel)
    return wheels


class _Reader(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            return
        for name, value in attrs:
            if name == "href" and value:
                self.links.append(value)


def _wheel_at(href: str, page: str) -> ListedWheel | None:
    """The wheel that a link leads to; None if it leads to something else."""
    try:
        address = urljoin(page, href.strip())
        parts = urlsplit(address)
    except ValueError:  # such as brackets that are no IPv6 address
        return None
    file = unquote(parts.path.rpartition("/")[2])
    if not file.endswith(".whl"):
        return None
    plain = parts._replace(fragment="").geturl()
    if not grammar.matches(grammar.PageUrl, plain):
        raise _odd(page, address)  # `file:` would be a file of this machine
    if not grammar.matches(grammar.WheelFile, file):
        return None  # of a project with another habit; uv does not take it either
    digest = _SHA256.fullmatch(parts.fragment)
    return ListedWheel(file=file, url=plain, sha256=digest[1] if digest else "")


def _odd(page: str, text: str) -> LockError:
    return LockError(
        f"{page} is not the page of a package index",
        problems=[f"it lists {grammar.one_line(text, 200)!r}"],
        hint="check the address: `--torch-index URL`",
    )
