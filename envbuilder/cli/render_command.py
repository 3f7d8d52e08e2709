"""`envbuilder render`: Lock → Context, or the files of targets."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli import completion
from envbuilder.cli.protection import (
    Checked,
    check_files,
    make_checked_lock,
    note_clashes,
    overwrite_option,
    refuse_full_or_read_only,
    refuse_overwriting,
)
from envbuilder.cli.request import refuse_request_options, request_from
from envbuilder.cli.session import (
    archives_of,
    print_json,
    read_lock,
    session_beside,
    session_from,
)
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    find_settings,
    setting,
    settings,
    targets_of,
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
    from envbuilder.model import Context, Lock
    from envbuilder.pipeline import Session
    from envbuilder.render.project import Files
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
@overwrite_option
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit with 1 if a file is missing or stale.",
)
@json_option
def command(
    output: str | None,
    check: bool,
    overwrite: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Write a build context: payload, installer, and images/<stack>/ with its Dockerfile; or files for other tools.

    The lock is the one that is named, else envbuilder.lock in this directory if no stack is requested, else a new one.

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
            options, check=check, overwrite=overwrite, as_json=as_json, session=session
        )
    if options["targets"]:
        return _write_targets(
            options,
            Path(output or "."),
            check=check,
            overwrite=overwrite,
            session=session,
        )
    return _write_build_context(
        options,
        output,
        check=check,
        overwrite=overwrite,
        as_json=as_json,
        session=session,
    )


def _write_build_context(
    options: Options,
    output: str | None,
    *,
    check: bool,
    overwrite: Sequence[str],
    as_json: bool,
    session: "Session",
) -> int:
    from envbuilder import pipeline
    from envbuilder.files import refuse_links
    from envbuilder.render.context import place_of
    from envbuilder.render.context_folder import differences, write_context

    folder = Path(output or "build")
    session = session_beside(session, options["lock_file"])

    def refuse(lock: "Lock") -> None:
        if not check:
            context = pipeline.render(lock, session, folder)
            _refuse_in_context(context, folder, overwrite)

    lock = _named_lock(options, session)
    if lock is None:
        lock = make_checked_lock(request_from(options), session, refuse)
    refuse(lock)
    context = pipeline.render(lock, session, folder)
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
            f"{folder}: {len(context.names)} files; build it with `{line}`"
        )
    for line in differing:
        session.console.say(f"{folder}: {line}")
    if as_json:
        print_json(
            {
                "ok": not differing,
                "folder": str(folder),
                "dockerfile": dockerfile,
                "files": sorted(context.names),
                "differing": differing,
            }
        )
    return 1 if differing else 0


def _named_lock(options: Options, session: "Session") -> "Lock | None":
    """The lock that is named; else the one that `envbuilder lock` has written here, if no stack is requested.

    Raises `UsageError` if the settings or the environment request another stack than that one.
    """
    from envbuilder.files import exists
    from envbuilder.lock.lock_file import LOCK_FILE
    from envbuilder.resolve import objections

    if options["lock_file"]:
        return read_lock(options["lock_file"])
    if was_given(options, "packages", *REQUEST_OPTIONS) or not exists(Path(LOCK_FILE)):
        return None
    lock = read_lock(LOCK_FILE)
    request = request_from(options, host=False)
    problems = objections(request, lock.stack, session.catalog)
    if problems:
        raise UsageError(
            f"{LOCK_FILE} does not match the settings",
            problems=problems,
            hint=f"lock again with `envbuilder lock`, or use it as it is with `--lock {LOCK_FILE}`",
        )
    session.console.say(f"lock: {LOCK_FILE}")
    return lock


def _refuse_in_context(
    context: "Context", folder: Path, overwrite: Sequence[str]
) -> None:
    """Raise `UsageError` for files in a build context that are not envbuilder's and that nobody has named."""
    from envbuilder.files import exists, is_folder
    from envbuilder.render.context_folder import (
        foreign_files,
        foreign_places,
        stale_files,
    )

    if exists(folder) and not is_folder(folder):
        raise UsageError(
            f"{folder} is a file, not a directory", hint="move it elsewhere"
        )
    place = folder if exists(folder) else folder.parent

    def texts() -> list[str]:
        stale = [line.split(": ", 1)[1] for line in stale_files(context, folder)]
        return [context.files[name] for name in stale]

    refuse_full_or_read_only(place, texts)
    foreign = [str(folder / name) for name in foreign_files(context, folder)]
    places = [str(folder / place) for place in foreign_places(context, folder)]
    refuse_overwriting(foreign, overwrite, folders=places)


# --- targets -------------------------------------------------------------------------------------------------------


def _write_targets(
    options: Options,
    folder: Path,
    *,
    check: bool,
    overwrite: Sequence[str],
    session: "Session",
) -> int:
    """Write the files of targets into a project, or say which are stale."""
    from envbuilder.files import write_file
    from envbuilder.render.context_folder import stale_files
    from envbuilder.render.targets import render_targets

    names = options["targets"]
    changes = _changes(options["changes"])

    def render(lock: "Lock") -> "Context":
        described = _described(lock, names, changes, folder, session)
        return render_targets(described, *names)

    def refuse(lock: "Lock") -> Checked | None:
        return None if check else _check_targets(render(lock), folder, overwrite)

    lock = _lock_for_targets(options, folder, session, refuse)
    context = render(lock)
    if check:
        return _report(list(stale_files(context, folder)), session)
    checked = _check_targets(context, folder, overwrite)
    note_clashes(checked.clashes, list(context.files), folder, session)
    for name, text in context.files.items():
        write_file(folder / name, text, executable=name in context.executable)
        session.console.say(f"wrote {folder / name}")
    if _belong_to_project(names, lock, folder, session):
        _enrol(names, changes, folder, session)
    step = _next_step(options, lock, folder, session)
    if step:
        session.console.say(f"next: {step}")
    return 0


def _check_targets(
    context: "Context", folder: Path, overwrite: Sequence[str]
) -> Checked:
    """Raises `UsageError` if files of targets would replace or hide what is not envbuilder's."""
    from envbuilder.model import Context
    from envbuilder.render.project import Files

    files = Files(context=Context(files={}), others=context)
    return check_files(files, folder, overwrite)


def _next_step(options: Options, lock: "Lock", folder: Path, session: "Session") -> str:
    """What adds the lock and the build context that files of Compose or a dev container need; "" if they are there."""
    from envbuilder.files import exists
    from envbuilder.render import project
    from envbuilder.render.context import place_of
    from envbuilder.resolve.command_line import command as command_for

    names = options["targets"]
    if not {"compose", "devcontainer"} & set(names):
        return ""
    if exists(folder / project.CONTEXT / place_of(lock.stack)):
        return ""
    flags = [*session.said]
    for name in names:
        flags += ["--target", name]
    if options["lock_file"]:
        path = str(Path(options["lock_file"]).absolute())
        init = shlex.join(["envbuilder", "init", "--lock", path, *flags])
    else:
        request = request_from(options, host=False)
        init = command_for(request, "init", flags=flags)
    if folder != Path():
        init = f"cd {shlex.quote(str(folder))} && {init}"
    steps = [init, "envbuilder build"]
    if "compose" in names:
        steps.append("docker compose up train")
    return ", then ".join(f"`{step}`" for step in steps)


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


def _lock_for_targets(
    options: Options,
    folder: Path,
    session: "Session",
    check: Callable[["Lock"], object],
) -> "Lock":
    """The lock that is named; the repository's or the one here, if no stack is requested; or a new one."""
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
        lock = None if _is_project(folder) else _named_lock(options, session)
        if lock:
            return lock
    return make_checked_lock(request_from(options), session, check)


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
    overwrite: Sequence[str],
    as_json: bool,
    session: "Session",
) -> int:
    """Update every file that `[render]` of envbuilder.toml names, or say which are stale."""
    from envbuilder import config
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

    def render(lock: "Lock") -> "Files":
        described = project.describe(
            lock,
            tag=setting(options, "tag"),
            settings=table.get("settings"),
            images=project.read_locks(folder),
            capabilities=[gpu.capability for gpu in session.catalog.gpus],
            mirrors=config.public_mirrors(settings()),
        )
        archives = archives_of(lock, session, folder)
        return project.render_files(described, targets_of(table), archives)

    def refuse(lock: "Lock") -> Checked:
        return check_files(render(lock), folder, overwrite)

    if lock is None:
        # Where the settings contradict each other, `init` can change them.
        said = (*session.said, "--force")
        changed = replace(session, verb="init", said=said)
        lock = make_checked_lock(request, changed, refuse)
    outdated = _outdated_fallbacks(lock, folder)
    if check:
        differing = [*project.differences(render(lock), folder)]
        differing += [f"stale: {line}" for line in outdated]
        return _report(differing, session, as_json=as_json)
    checked = refuse(lock)
    for line in outdated:
        session.console.note(f"{line}; `envbuilder lock` locks it again")
    note_clashes(checked.clashes, checked.files.names, folder, session)
    written = project.write(checked.files, folder, {})
    for name, verb in written.items():
        session.console.say(f"{verb} {name}")
    for name in checked.lost:
        if name not in written:
            session.console.say(f"overwrote {name}")
    return _report([], session, as_json=as_json)


def _outdated_fallbacks(lock: "Lock", folder: Path) -> list[str]:
    """The locks that `BASE` can select and that were made for other packages, one line each."""
    from envbuilder.render import base_variable, project
    from envbuilder.render.context import place_of

    lines = []
    for other in base_variable.outdated_fallbacks(lock, project.read_locks(folder)):
        place = f"{project.CONTEXT}/{place_of(other.stack)}"
        lines.append(f"{place}: locked for other packages than {lock.stack.name}")
    return lines


def _report(
    differing: Sequence[str], session: "Session", *, as_json: bool = False
) -> int:
    for line in differing:
        session.console.say(line)
    if as_json:
        print_json({"ok": not differing, "differing": list(differing)})
    return 1 if differing else 0
