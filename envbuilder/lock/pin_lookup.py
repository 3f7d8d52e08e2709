"""On which days the versions that the user pinned were the newest: only the index knows."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder.errors import EngineError
from envbuilder.lock.project_page import ProjectPage, project_page
from envbuilder.lock.target_platform import markers
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack
from envbuilder.resolve.pin_days import PinSpan, day_before, is_pinned
from envbuilder.versions import listed

_SECONDS = 5.0  # without a byte; uv asks the same index next, and explains what is wrong with it
_AT_ONCE = 8  # requests


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedPackages:
    """The days of the user's pins, and the pins of which no day is known."""

    spans: tuple[PinSpan, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence on the pins without days; "" if there are none."""
        if not self.unknown:
            return ""
        return f"since when there is {listed(self.unknown)} is not known: other packages may be too new for it"


def look_up_pins(uv: Uv, stack: Stack, packages: Sequence[str]) -> PinnedPackages:
    """The days of the exact versions among the user's packages."""
    pins = list(_pins_in(stack, packages))
    if not pins:
        return PinnedPackages()
    # One client for all: its session is made before several threads use it.
    client = uv.client
    if client is not None:
        client = replace(client, seconds=_SECONDS)
        client.session  # noqa: B018 - a cached property
    uv = replace(uv, client=client)

    def read(pin: Requirement) -> ProjectPage | None:
        try:
            return project_page(uv, pin.name)
        except EngineError:
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pages = list(pool.map(read, pins))
    spans = []
    unknown = []
    for pin, page in zip(pins, pages, strict=True):
        span = span_of(pin, page) if page else None
        if span is None:
            unknown.append(str(pin))
        else:
            spans.append(span)
    return PinnedPackages(spans=tuple(spans), unknown=tuple(unknown))


def _pins_in(stack: Stack, packages: Sequence[str]) -> Iterator[Requirement]:
    """The packages of the index that have one version in the image of a stack."""
    environment = {**markers(stack), "extra": ""}
    for line in packages:
        requirement = Requirement(line)
        if requirement.url or not is_pinned(requirement):
            continue
        if requirement.marker and not requirement.marker.evaluate(environment):  # type: ignore[arg-type]
            continue
        yield requirement


def span_of(pin: Requirement, page: ProjectPage) -> PinSpan | None:
    """From the release of the version to the day before a newer one; None if the page does not tell."""
    version = page.newest(pin.specifier, date.max)
    if version is None:
        return None
    first = page.released(version)
    if first is None:
        return None
    return PinSpan(
        pin=f"{page.name} {version}", first=first, last=_last_day(page, version, first)
    )


def _last_day(page: ProjectPage, version: Version, first: date) -> date | None:
    following = page.succeeded(version)
    if following is None:
        return None
    # A patch of an older line follows the newer line.
    return max(first, day_before(following))
