"""`envbuilder render`: Lock → Context."""

from pathlib import Path
from typing import Any

import click

from envbuilder.cli.options import (
    json_option,
    lock_option,
    network_options,
    print_json,
    read_lock,
    request_from,
    request_options,
    site_from,
)


@click.command(name="render")
@request_options
@lock_option
@network_options
@click.option("--output", "-o", metavar="DIR", help="Where to; build/<name> if not given.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the folder is not what would be written.")
@json_option
def command(lock_file: str | None, output: str | None, check: bool, as_json: bool, **options: Any) -> int:
    """Write a build context: Dockerfile, lock, requirements, installer and payload."""
    from envbuilder import render, workflow

    site = site_from(options)
    lock = read_lock(lock_file) if lock_file else workflow.make_lock(request_from(options), site)
    context = render.render(lock)
    folder = Path(output) if output else Path("build") / lock.stack.name
    differing = list(render.differences(context, folder)) if check else []
    if not check:
        render.write(context, folder)
        site.console.say(f"{folder}: {len(context.files)} files; build it with `docker buildx build {folder}`")
    for line in differing:
        site.console.say(f"{folder}: {line}")
    if as_json:
        print_json({"ok": not differing, "folder": str(folder), "files": sorted(context.files), "differing": differing})
    return 1 if differing else 0
