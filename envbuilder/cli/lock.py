"""`envbuilder lock`: Stack → Lock."""

from pathlib import Path
from typing import Any

import click

from envbuilder.cli.options import json_option, network_options, print_json, request_from, request_options, site_from


@click.command(name="lock")
@request_options
@network_options
@click.option("--output", "-o", default="envbuilder.lock", show_default=True, metavar="FILE", help="- for stdout.")
@click.option("--format", "form", type=click.Choice(["lock", "requirements"]), default="lock", show_default=True)
@json_option
def command(output: str, form: str, as_json: bool, **options: Any) -> None:
    """Pin every wheel of a stack by hash, as the index stood on the day that fits its torch."""
    from envbuilder import lock as locks
    from envbuilder import wire, workflow
    from envbuilder.files import write_file

    site = site_from(options)
    lock = workflow.make_lock(request_from(options), site)
    text = wire.dumps(lock) if form == "lock" else locks.requirements_text(lock)
    if output == "-":
        click.echo(text, nl=False)
        return
    write_file(Path(output), text)
    size = sum(wheel.size for wheel in lock.wheels)
    site.console.say(f"{output}: {len(lock.wheels)} wheels, {size / 1e9:.2f} GB to download, as of {lock.stack.as_of}")
    if as_json:
        print_json({"ok": True, "file": output, "wheels": len(lock.wheels), "bytes": size, "stack": lock.stack.name})
