"""The site's reference of the command line has every command and option, as click knows them."""

from types import SimpleNamespace

import click

import cli_reference
from envbuilder.cli import COMMANDS, cli


def page(src_uri: str) -> SimpleNamespace:
    return SimpleNamespace(file=SimpleNamespace(src_uri=src_uri))


def reference() -> str:
    return cli_reference.on_page_markdown(
        cli_reference.MARK, page=page(cli_reference.PAGE)
    )


def test_every_command_has_a_heading() -> None:
    headings = {line for line in reference().splitlines() if line.startswith("#")}
    assert {f"### `envbuilder {name}`" for name in COMMANDS} <= headings
    assert "#### `envbuilder catalog verify`" in headings


def test_every_option_has_a_row() -> None:
    text = reference()
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[0] in text, (name, option.opts)


def test_internals_of_click_are_not_shown() -> None:
    text = reference()
    assert "Sentinel" not in text
    assert "\b" not in text


def test_other_pages_are_unchanged() -> None:
    assert cli_reference.on_page_markdown("text", page=page("index.md")) == "text"
