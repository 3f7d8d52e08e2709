"""Fills the templates of `templates/`; a misspelt name in a template is an error."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from envbuilder import resources


def fill(template: str, values: Mapping[str, object], *, html: bool = False) -> str:
    """A template of `templates/` with its values, which are escaped if it is an HTML page."""
    return (
        _environment(resources.folder("templates"), html)
        .get_template(template)
        .render(values)
    )


@cache  # a template is compiled once: the catalog's page fills one a thousand times
def _environment(folder: Path, html: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=html,  # noqa: S701 - most files that we write are not HTML
    )
