"""`envbuilder catalog`: what is done with the catalog itself."""

import click

from envbuilder.cli.catalog_page import command as page


@click.group(name="catalog")
def command() -> None:
    """What envbuilder knows: pages and checks of it."""


command.add_command(page)
