"""Any receipt gives a report that is valid in its format and contains nothing active."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import samples
from markdown_it import MarkdownIt

from envbuilder.acceptance.report import form_of
from envbuilder.model import Receipt

from .sandbox import Finding

ENDINGS = ("html", "xml", "md", "json")
SAMPLES: tuple[Receipt, ...] = (
    samples.passed(),
    samples.failed(),
    samples.bare(),
    samples.hostile(),
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class _Tags(HTMLParser):
    """Every tag with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, ""))
        for name, value in attrs:
            address = (value or "").partition(":")[0] if name in ("href", "src") else ""
            self.found.add((tag, f"{name} {address}"))


def check(ending: str, text: str) -> None:
    """Raises `Finding` for a report that contains something that no harmless one does."""
    found = _CONTROL.search(text)
    if found:
        raise Finding(f"report: {found[0]!r} in .{ending}")
    try:
        strange = _things(ending, text) - _known(ending)
    except ValueError as error:
        raise Finding(f"report: .{ending} is not of its language: {error}") from error
    if strange:
        raise Finding(f"report: {sorted(strange)[:5]} in .{ending}")


def _things(ending: str, text: str) -> set[object]:
    if ending == "html":
        return set(_Tags(text).found)
    if ending == "xml":
        try:
            return {item.tag for item in ElementTree.fromstring(text).iter()}
        except ElementTree.ParseError as error:
            raise ValueError(str(error)) from error
    if ending == "json":
        json.loads(text)
        return set()
    return _markdown(text)


def _markdown(text: str) -> set[object]:
    found: set[object] = set()
    for token in (
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .parse(text)
    ):
        found |= (
            _Tags(token.content).found if token.type == "html_block" else {token.type}
        )
        for child in token.children or ():
            found |= (
                _Tags(child.content).found
                if child.type == "html_inline"
                else {child.type}
            )
    return found


@cache
def _known(ending: str) -> frozenset[object]:
    """The contents of reports of known receipts; the last receipt is full of attacks, and checked by hand."""
    known: set[object] = set()
    for receipt in SAMPLES if ending != "json" else ():
        known |= _things(ending, form_of(f".{ending}")(receipt))
    return frozenset(known)
