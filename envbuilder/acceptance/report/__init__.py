"""The forms of a receipt, by file suffix: JSON, JUnit XML for a CI, Markdown for a job summary, a page for a browser.

Receipt in, text out. A receipt repeats what a broken image says of itself, so no form trusts any text in it.
"""

from collections.abc import Callable, Mapping

from envbuilder import serialize
from envbuilder.acceptance.report.html import html
from envbuilder.acceptance.report.junit import junit
from envbuilder.acceptance.report.markdown import markdown
from envbuilder.errors import UsageError
from envbuilder.model import Receipt

FORMS: Mapping[str, Callable[[Receipt], str]] = {
    ".html": html,
    ".xml": junit,
    ".md": markdown,
    ".json": serialize.dumps,
}


def form_of(suffix: str) -> Callable[[Receipt], str]:
    """The function that writes a `.json`, `.xml`, `.md` or `.html`. Raises `UsageError` for any other suffix."""
    if suffix in FORMS:
        return FORMS[suffix]
    message = (
        f"{suffix!r} is not the suffix of a report"
        if suffix
        else "the name of a report needs a suffix"
    )
    raise UsageError(message, hint=f"use one of {', '.join(FORMS)}")
