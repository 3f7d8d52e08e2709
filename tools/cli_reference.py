"""The reference of the command line for the site: a hook of MkDocs (mkdocs.yml) that asks click for every command.

mkdocs-click would do it, but prints click's own `Sentinel.UNSET` as a default since click 8.3, and joins lines that a
help text keeps apart.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import click

from envbuilder.cli import cli

PAGE = "reference/cli.md"
MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Put the commands in the place of the mark on their page; called by MkDocs."""
    if page.file.src_uri != PAGE:
        return markdown
    root = click.Context(cli, info_name="envbuilder", **cli.context_settings)
    return markdown.replace(MARK, "\n".join(lines_of(cli, root, level=2)))


def lines_of(
    command: click.Command, context: click.Context, *, level: int
) -> Iterator[str]:
    """A command and its subcommands as Markdown."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{'#' * level} `{context.command_path}`"
    yield from ["", *help_lines(command.help or ""), "", "```text", usage, "```", ""]
    rows = [
        row
        for option in command.get_params(context)
        if (row := option.get_help_record(context))
    ]
    if rows:
        yield from [
            "| option | |",
            "| --- | --- |",
            *(table_row(*row) for row in rows),
            "",
        ]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand:
                inner = click.Context(subcommand, info_name=name, parent=context)
                yield from lines_of(subcommand, inner, level=level + 1)


def help_lines(text: str) -> Iterator[str]:
    """A help text as Markdown; what click keeps as it is (`\\b`) becomes a block."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ["```text", *paragraph.split("\n")[1:], "```", ""]
        else:
            yield from [paragraph.replace("<", "&lt;"), ""]


def table_row(option: str, text: str) -> str:
    """A row of the table of options."""
    cells = (f"`{option}`", text.replace("<", "&lt;"))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
