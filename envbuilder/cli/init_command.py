"""`envbuilder init`: a repository gets its lock, the build context docker/ and the files of its tools."""

from pathlib import Path
from typing import Any

import click

from envbuilder.cli.shared_options import (
    json_option,
    lock_option,
    network_options,
    print_json,
    read_lock,
    request_from,
    request_options,
    setting,
    site_from,
)
from envbuilder.errors import UsageError


@click.command(name="init")
@request_options
@lock_option
@network_options
@click.option(
    "--target", "names", multiple=True, metavar="NAME", help="compose, devcontainer, workflow (all if none is named) …"
)
@click.option("--source", metavar="SPEC", help="What pip installs envbuilder from in CI, at a fixed commit.")
@click.option("--force", is_flag=True, help="Replace files that are not envbuilder's.")
@json_option
def command(names: tuple[str, ...], source: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """Give this repository envbuilder.toml, a locked build context, compose, dev container and CI for one stack."""
    from envbuilder import config, pipeline
    from envbuilder.files import exists
    from envbuilder.model import Context
    from envbuilder.render import project, targets

    site = site_from(options)
    request = None if options["lock_file"] else request_from(options)
    lock = pipeline.make_lock(request, site) if request else read_lock(options["lock_file"])
    names = names or tuple(name for name in project.STANDARD if name in targets.TARGETS)
    settings = {"envbuilder": source} if source else {}
    what = project.describe(lock, tag=setting(options, "tag"), settings=settings, images=project.read_locks(Path()))
    files = project.render_files(what, names)
    more = {config.FILE: project.settings_text(lock, names, settings, request.as_of if request else None)}
    strange = [*project.foreign_files(files, Path()), *project.unmarked_files(Context(files=more), Path())]
    if strange and not force:
        raise UsageError(
            "files that are not envbuilder's stand in the way; nothing was written",
            problems=strange,
            hint="move them, choose others by `--target NAME`, or replace them by `--force`",
        )
    ignores = Path(project.IGNORE_FILE)
    missing = project.unignored(Path()) if exists(ignores) else []
    if not exists(ignores):
        more[project.IGNORE_FILE] = project.ignore_text()
    written = project.write(files, Path(), more)
    for name, verb in written.items():
        site.console.say(f"{verb} {name}")
    if missing:
        site.console.say(f"your {ignores} may want: {' '.join(missing)}")
    commands = [f"envbuilder build --lock {what.lock_file}", "envbuilder render --check"]
    if "compose" in names:
        commands[1] = "docker compose up train"
    site.console.say("next: " + ", then ".join(f"`{line}`" for line in commands))
    if as_json:
        print_json(
            {"ok": True, "stack": lock.stack.name, "targets": list(names), "written": list(written), "next": commands}
        )
