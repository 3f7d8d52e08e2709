"""`envbuilder render`: Lock → Context."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock
    from envbuilder.workflow import Site


@click.command(name="render")
@request_options
@lock_option
@network_options
@click.option("--output", "-o", metavar="DIR", help="Where to; build/<name> if not given.")
@click.option(
    "--target", "targets", multiple=True, metavar="NAME", help="Files for a tool, into DIR or here; repeatable."
)
@click.option("--force", is_flag=True, help="Replace files that are not envbuilder's.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the folder is not what would be written.")
@json_option
def command(output: str | None, check: bool, force: bool, as_json: bool, **options: Any) -> int:
    """Write a build context: Dockerfile, lock, requirements, installer and payload; or the files of other targets."""
    from envbuilder import render, workflow

    site = site_from(options)
    lock = read_lock(options["lock_file"]) if options["lock_file"] else workflow.make_lock(request_from(options), site)
    if options["targets"]:
        return _targets(lock, options["targets"], Path(output or "."), check=check, force=force, site=site)
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


def _targets(lock: "Lock", names: Sequence[str], folder: Path, *, check: bool, force: bool, site: "Site") -> int:
    """Write the files of targets into a project, or say which are stale."""
    from envbuilder import targets, workflow

    project = targets.Project(
        lock=lock, image=f"{workflow.REPOSITORY}:{lock.stack.name}", context=f"docker/images/{lock.stack.name}"
    )
    context = targets.render(project, *names)
    if check:
        differing = targets.stale(context, folder)
        for line in differing:
            site.console.say(line)
        return 1 if differing else 0
    strange = [] if force else targets.strangers(context, folder)
    if strange:
        raise UsageError(
            "files that are not envbuilder's stand in the way", problems=strange, hint="move them, or use `--force`"
        )
    for name, text in context.files.items():
        workflow.write_file(folder / name, text, executable=name in context.executable)
        site.console.say(f"wrote {folder / name}")
    return 0
