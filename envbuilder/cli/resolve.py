"""`envbuilder resolve`: Request → Stack."""

from typing import Any

import click

from envbuilder.cli.options import json_option, load_catalog, print_json, request_from, request_options


@click.command(name="resolve")
@request_options
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Every version that fits together for a request, and why.

    Nothing is downloaded and no engine is asked.
    """
    from envbuilder import resolver
    from envbuilder.cli.show import stack_document, stack_text

    stack = resolver.resolve(request_from(options), load_catalog(options))
    if as_json:
        print_json({"ok": True, "stack": stack_document(stack)})
    else:
        click.echo(stack_text(stack))
