"""`envbuilder render`: Lock → Context, or the files of targets."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli import completion
from envbuilder.cli.request import refuse_request_options, request_from
from envbuilder.cli.session import print_json, read_lock, session_from
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    find_settings,
    setting,
    settings,
    was_given,
)
from envbuilder.cli.shared_options import (
    json_option,
    lock_option,
    network_options,
    request_options,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock
    from envbuilder.pipeline import Session
    from envbuilder.render.targets import Project


@click.command(name="render")
@request_options
@lock_option
@network_options
@click.option(
    "--output", "-o", metavar="DIR", help="Directory to write (default: build/)."
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Files for a tool, e.g. compose, kubernetes or slurm, into DIR or here; repeatable.",
    shell_complete=completion.targets,
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting of a target, e.g. nodes=4; repeatable.",
)
@click.option(
    "--force", is_flag=True, help="Overwrite files not created by envbuilder."
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit with 1 if a file is missing or stale.",
)
@json_option
def command(
    output: str | None, check: bool, force: bool, as_json: bool, **options: Any
) -> int:
    """Write a build context: payload, installer, and images/<stack>/ with its Dockerfile; or files for other tools.

    In a repository that `envbuilder init` has set up: without options, update all its files; with --target, add the
    files of a target to them.
    """
    refuse_request_options(options)
    session = session_from(options)
    is_specific = output or was_given(
        options, "lock_file", "targets", "packages", "apt", *REQUEST_OPTIONS
    )
    if "render" in settings() and not is_specific:
        return _update_project(
            options, check=check, force=force, as_json=as_json, session=session
        )
    if options["targets"]:
        return _write_targets(
            options, Path(output or "."), check=check, force=force, session=session
        )
    return _write_build_context(
        options, output, check=check, as_json=as_json, session=session
    )


def _write_build_context(
    options: Options,
    output: str | None,
    *,
    check: bool,
    as_json: bool,
    session: "Session",
) -> int:
    from envbuilder import pipeline
    from envbuilder.files import refuse_links
    from envbuilder.render.context import place_of, render_context
    from envbuilder.render.context_folder import differences, write_context

    lock_file = options["lock_file"]
    lock = (
        read_lock(lock_file)
        if lock_file
        else pipeline.make_lock(request_from(options), session)
    )
    context = render_context(lock)
    folder = Path(output or "build")
    dockerfile = f"{place_of(lock.stack)}/Dockerfile"
    differing: list[str] = []
    if check:
        differing = list(differences(context, folder))
    else:
        if output is None:
            refuse_links(Path(), "build")
        write_context(context, folder)
        words = ["docker", "buildx", "build", "--load"]
        words += ["--file", str(folder / dockerfile), "--tag", "my-image", str(folder)]
        line = shlex.join(words)
        session.console.say(
            f"{folder}: {len(context.files)} files; build it with `{line}`"
        )
    for line in differing:
        session.console.say(f"{folder}: {line}")
    if as_json:
        print_json(
            {
                "ok": not differing,
                "folder": str(folder),
                "dockerfile": dockerfile,
                "files": sorted(context.files),
                "differing": differing,
            }
        )
    return 1 if differing else 0


# --- targets -------------------------------------------------------------------------------------------------------


def _write_targets(
    options: Options,
    folder: Path,
    *,
    check: bool,
    force: bool,
    session: "Session",
) -> int:
    """Write the files of targets into a project, or say which are stale."""
    from envbuilder.files import refuse_links, write_file
    from envbuilder.render import project
    from envbuilder.render.context_folder import stale_files
    from envbuilder.render.targets import render_targets

    names = options["targets"]
    changes = _changes(options["changes"])
    lock = _lock_for_targets(options, folder, session)
    context = render_targets(_described(lock, names, changes, folder, session), *names)
    if check:
        return _report(list(stale_files(context, folder)), session)
    refuse_links(folder, *context.files)
    foreign = project.unmarked_files(context, folder)
    if foreign and not force:
        raise _foreign_error(foreign)
    for name, text in context.files.items():
        write_file(folder / name, text, executable=name in context.executable)
        session.console.say(f"wrote {folder / name}")
    if _belong_to_project(names, lock, folder, session):
        _enrol(names, changes, folder, session)
    return 0


def _changes(pairs: Sequence[str]) -> dict[str, str]:
    """`nodes=4` → {"nodes": "4"}."""
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(
                f"`--set {pair}` has no value", hint="write it as `--set NAME=VALUE`"
            )
        changes[name] = value
    return changes


def _lock_for_targets(options: Options, folder: Path, session: "Session") -> "Lock":
    """The lock that is named; the repository's, if no stack is requested; or a new one."""
    from envbuilder import pipeline
    from envbuilder.render import project, targets

    if options["lock_file"]:
        return read_lock(options["lock_file"])
    if not was_given(options, "packages", "apt", *REQUEST_OPTIONS):
        if targets.are_whole(*options["targets"]):
            lock = next(iter(project.read_locks(folder).values()), None)
        else:
            lock = _lock_of_project(options, folder, session)
        if lock:
            return lock
    return pipeline.make_lock(request_from(options), session)


def _lock_of_project(
    options: Options, folder: Path, session: "Session"
) -> "Lock | None":
    """The lock of the repository in `folder`, if `envbuilder init` has set it up."""
    from envbuilder.render import project

    table = settings().get("render")
    if table is None or not _is_project(folder):
        return None
    request = request_from(options, host=False)
    stack = table.get("stack")
    return project.find_lock(folder, request, stack, session.catalog)


def _belong_to_project(
    names: Sequence[str], lock: "Lock", folder: Path, session: "Session"
) -> bool:
    """Whether the files of these targets, made from this lock, are what `render --check` would compare."""
    from envbuilder.render import targets

    if "render" not in settings() or not _is_project(folder):
        return False
    if targets.are_whole(*names):
        return True
    try:
        return lock == _lock_of_project({}, folder, session)
    except (
        UsageError
    ):  # several locks match: which one is the repository's is not settled
        return False


def _is_project(folder: Path) -> bool:
    """Whether the settings of this command lie in this folder."""
    found = find_settings()
    return found is not None and found[0].parent.resolve() == folder.resolve()


def _described(
    lock: "Lock",
    names: Sequence[str],
    changes: Mapping[str, str],
    folder: Path,
    session: "Session",
) -> "Project":
    """The project, with those of its settings that these targets have, and the changes."""
    from envbuilder import config
    from envbuilder.render import project, targets

    table = settings()
    chosen = {}
    for name, value in table.get("render", {}).get("settings", {}).items():
        if not targets.unknown_settings({name: value}, *names):
            chosen[name] = value
    chosen |= changes
    return project.describe(
        lock,
        tag=table.get("tag"),
        settings=chosen,
        images=project.read_locks(folder),
        capabilities=[gpu.capability for gpu in session.catalog.gpus],
        mirrors=config.public_mirrors(settings()),
    )


def _enrol(
    names: Sequence[str], changes: Mapping[str, str], folder: Path, session: "Session"
) -> None:
    """Add targets and their settings to the repository's settings, so that `render --check` compares their files."""
    from envbuilder import config
    from envbuilder.files import read_text, write_file
    from envbuilder.render.settings_file import extended_settings

    found = find_settings()
    assert found is not None  # noqa: S101 - there is a project
    path = folder / found[0].name
    text = read_text(path)
    extended = extended_settings(
        text, targets=names, settings=changes, table=config.TABLES.get(path.name, ())
    )
    if extended != text:
        write_file(path, extended)
        session.console.say(f"added {', '.join(names)} to {path.name}")


# --- a repository --------------------------------------------------------------------------------------------------


def _update_project(
    options: Options,
    *,
    check: bool,
    force: bool,
    as_json: bool,
    session: "Session",
) -> int:
    """Update every file that `[render]` of envbuilder.toml names, or say which are stale."""
    from envbuilder import config, pipeline
    from envbuilder.render import project

    table = settings()["render"]
    found = find_settings()
    folder = found[0].parent if found else Path()
    # The files of a repository are the same on every host.
    request = request_from(options, host=False)
    lock = project.find_lock(folder, request, table.get("stack"), session.catalog)
    if lock is None and check:
        return _report(
            [f"missing: a lock in {project.IMAGES}/ that matches {config.FILE}"],
            session,
            as_json=as_json,
        )
    if lock is None:
        # Where the settings contradict each other, `init` can change them.
        said = (*session.said, "--force")
        lock = pipeline.make_lock(request, replace(session, verb="init", said=said))
    described = project.describe(
        lock,
        tag=setting(options, "tag"),
        settings=table.get("settings"),
        images=project.read_locks(folder),
        capabilities=[gpu.capability for gpu in session.catalog.gpus],
        mirrors=config.public_mirrors(settings()),
    )
    files = project.render_files(described, table.get("targets", ()))
    if check:
        return _report(project.differences(files, folder), session, as_json=as_json)
    foreign = project.foreign_files(files, folder)
    if foreign and not force:
        raise _foreign_error(foreign)
    for name, verb in project.write(files, folder, {}).items():
        session.console.say(f"{verb} {name}")
    return _report([], session, as_json=as_json)


def _report(
    differing: Sequence[str], session: "Session", *, as_json: bool = False
) -> int:
    for line in differing:
        session.console.say(line)
    if as_json:
        print_json({"ok": not differing, "differing": list(differing)})
    return 1 if differing else 0


def _foreign_error(names: Sequence[str]) -> UsageError:
    return UsageError(
        "refusing to overwrite files not created by envbuilder",
        problems=names,
        hint="move them, or overwrite them with `--force`",
    )
