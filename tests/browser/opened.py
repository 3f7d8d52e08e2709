"""A page as a browser shows it, on a phone and on a desk: what it fetches, what it complains of, how it measures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Browser, Page

SIZES = {"phone": (360, 740), "desk": (1280, 800)}
LEGIBLE = 4.5  # WCAG 2.2, 1.4.3: contrast (minimum), level AA
MEASURE = (Path(__file__).parent / "measure.js").read_text()


@dataclass(kw_only=True)
class Opened:
    """An open page, and what it has done since."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def measure(self) -> dict[str, Any]:
        """With everything unfolded: what sticks out, contrasts, levels of headings."""
        self.page.eval_on_selector_all(
            "details", "all => all.forEach(one => one.open = true)"
        )
        return dict(self.page.evaluate(MEASURE))


View = TypeVar("View", bound=Opened)


def open_page(
    browser: Browser, url: str, of: Callable[[Page], View], *, size: str, scheme: Any
) -> View:
    """Open a page and listen to it from the start."""
    width, height = SIZES[size]
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme
    )
    view = of(page)
    page.on("request", lambda request: view.requests.append(request.url))
    page.on("console", lambda message: view.complaints.append(message.text))
    page.on("pageerror", lambda error: view.complaints.append(str(error)))
    page.on("dialog", lambda dialog: view.complaints.append(dialog.message))
    page.goto(url, wait_until="load")
    return view


def faint(measured: dict[str, Any]) -> list[tuple[float, str]]:
    """The texts whose contrast is too low to be read."""
    return [
        (round(ratio, 2), text)
        for ratio, text in measured["contrasts"]
        if ratio < LEGIBLE
    ]
