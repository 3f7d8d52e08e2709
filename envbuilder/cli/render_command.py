"""`envbuilder render`: Lock → Context."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.shared_options import (
    REQUEST_OPTIONS,
    find_settings,
    json_option,
    lock_option,
    network_options,
    print_json,
    read_lock,
    request_from,
    request_options,
    setting,
    settings,
    site_from,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock
    from envbuilder.pipeline import Site


@click.command(name="render")
@request_options
@lock_option
@network_options
@click.option("--output", "-o", metavar="DIR", help="Where to; build/ if not given.")
@click.option(
    "--target", "targets", multiple=True, metavar="NAME", help="Files for a tool, into DIR or here; repeatable."
)
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting of the targets, as nodes=4; repeatable."
)
@click.option("--force", is_flag=True, help="Replace files that are not envbuilder's.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the folder is not what would be written.")
@json_option
def command(output: str | None, check: bool, force: bool, as_json: bool, **options: Any) -> int:
    """Write a build context: payload, installer and images/<stack>/ with its Dockerfile; or the files of other targets.

    Without options in a repository whose envbuilder.toml has a table [render]: all files that are named there.
    """
    from envbuilder.files import refuse_links
    from envbuilder.render.context import place_of, render_context
    from envbuilder.render.context_folder import differences, write_context

    site = site_from(options)
    asked = [options["lock_file"], options["targets"], output, options["packages"], *map(options.get, REQUEST_OPTIONS)]
    if "render" in settings() and not any(asked):
        return _project(options, settings()["render"], check=check, force=force, as_json=as_json, site=site)
    lock = _lock(options, Path(output or "."), site)
    if options["targets"]:
        changes = _changes(options["changes"])
        return _targets(
            lock, options["targets"], Path(output or "."), changes=changes, check=check, force=force, site=site
        )
    context = render_context(lock)
    folder, dockerfile = Path(output or "build"), f"{place_of(lock.stack)}/Dockerfile"
    differing = list(differences(context, folder)) if check else []
    if not check:
        if output is None:
            refuse_links(Path(), "build")
        write_context(context, folder)
        words = f"docker buildx build --load --file {folder / dockerfile} --tag my-image {folder}"
        site.console.say(f"{folder}: {len(context.files)} files; build it with `{words}`")
    for line in differing:
        site.console.say(f"{folder}: {line}")
    if as_json:
        found = {"folder": str(folder), "dockerfile": dockerfile, "files": sorted(context.files)}
        print_json({"ok": not differing, **found, "differing": differing})
    return 1 if differing else 0


def _lock(options: Mapping[str, Any], folder: Path, site: "Site") -> "Lock":
    """The lock that was named; one of the repository's, if nothing was asked for and any will do; or a new one."""
    from envbuilder import pipeline
    from envbuilder.render import project, targets

    if options["lock_file"]:
        return read_lock(options["lock_file"])
    names, asked = options["targets"], [options["packages"], *map(options.get, REQUEST_OPTIONS)]
    there = project.read_locks(folder) if names and targets.are_whole(*names) and not any(asked) else {}
    return next(iter(there.values()), None) or pipeline.make_lock(request_from(options), site)


def _changes(said: Sequence[str]) -> dict[str, str]:
    """`nodes=4` → {"nodes": "4"}."""
    for pair in said:
        if "=" not in pair:
            raise UsageError(f"`--set {pair}` sets nothing", hint="write it as `--set NAME=VALUE`")
    return dict(pair.split("=", 1) for pair in said)


def _targets(
    lock: "Lock",
    names: Sequence[str],
    folder: Path,
    *,
    changes: Mapping[str, str],
    check: bool,
    force: bool,
    site: "Site",
) -> int:
    """Write the files of targets into a project, or say which are stale."""
    from envbuilder.files import refuse_links, write_file
    from envbuilder.render import project, targets
    from envbuilder.render.context_folder import stale_files
    from envbuilder.render.targets import render_targets

    found = settings()
    own = found.get("render", {}).get("settings", {})  # of all targets of the repository, of which these are some
    wanted = {name: value for name, value in own.items() if not targets.unknown_settings({name: value}, *names)}
    wanted |= changes
    described = project.describe(lock, tag=found.get("tag"), settings=wanted, images=project.read_locks(folder))
    context = render_targets(described, *names)
    if check:
        differing = list(stale_files(context, folder))
        for line in differing:
            site.console.say(line)
        return 1 if differing else 0
    refuse_links(folder, *context.files)
    strange = [] if force else project.unmarked_files(context, folder)
    if strange:
        raise _strangers(strange)
    for name, text in context.files.items():
        write_file(folder / name, text, executable=name in context.executable)
        site.console.say(f"wrote {folder / name}")
    return 0


def _project(
    options: Mapping[str, Any], table: Mapping[str, Any], *, check: bool, force: bool, as_json: bool, site: "Site"
) -> int:
    """Renew every file that `[render]` of envbuilder.toml names, or say which are stale."""
    from envbuilder import config, pipeline
    from envbuilder.render import project

    found = find_settings()
    folder = found[0].parent if found else Path()
    request = request_from(options, host=False)  # the files of a repository are the same everywhere
    lock = project.find_lock(folder, request, table.get("stack"), site.catalog)
    if lock is None and check:
        return _tell(site, as_json, [f"missing: a lock in {project.IMAGES}/ that answers {config.FILE}"])
    lock = lock or pipeline.make_lock(request, site)
    described = project.describe(
        lock, tag=setting(options, "tag"), settings=table.get("settings"), images=project.read_locks(folder)
    )
    files = project.render_files(described, table.get("targets", ()))
    if check:
        return _tell(site, as_json, project.differences(files, folder))
    strange = [] if force else project.foreign_files(files, folder)
    if strange:
        raise _strangers(strange)
    for name, verb in project.write(files, folder, {}).items():
        site.console.say(f"{verb} {name}")
    return _tell(site, as_json, [])


def _tell(site: "Site", as_json: bool, differing: Sequence[str]) -> int:
    for line in differing:
        site.console.say(line)
    if as_json:
        print_json({"ok": not differing, "differing": list(differing)})
    return 1 if differing else 0


def _strangers(names: Sequence[str]) -> UsageError:
    return UsageError(
        "files that are not envbuilder's stand in the way", problems=names, hint="move them, or use `--force`"
    )
