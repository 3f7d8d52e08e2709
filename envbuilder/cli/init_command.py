"""`envbuilder init`: a repository gets its lock, the build context docker/ and the files of its tools."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
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
)
from envbuilder.cli.request import refuse_request_options, request_from
from envbuilder.cli.requirement_files import (
    FOLDER_OF_INIT,
    answers_document,
    files_for_settings,
    say_answers,
)
from envbuilder.cli.session import archives_of, print_json, read_lock, session_from
from envbuilder.cli.settings import (
    Options,
    find_settings,
    setting,
    settings,
    targets_of,
    working_folder,
)
from envbuilder.cli.shared_options import (
    json_option,
    lock_option,
    network_options,
    request_options,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock, Request
    from envbuilder.pipeline import Session
    from envbuilder.render.project import Files
    from envbuilder.render.targets import Project

_WORKFLOWS = ".github/workflows/"
_OTHER_TARGETS = ", choose other targets with `--target NAME`"


@click.command(name="init")
@click.option(
    "--from",
    "--requirements",
    "-r",
    "requirements",
    multiple=True,
    metavar="FILE",
    help="Take packages and versions from a file of the project: requirements.txt, pyproject.toml, uv.lock, "
    "environment.yml, Dockerfile, …; repeatable. The settings refer to it.",
)
@request_options
@lock_option
@network_options
@click.option(
    "--target",
    "names",
    multiple=True,
    metavar="NAME",
    help="Files to write: compose, devcontainer, workflow (default: these three), …; repeatable.",
    shell_complete=completion.targets,
)
@click.option(
    "--source",
    metavar="SPEC",
    help="Source that pip installs envbuilder from in CI, at a fixed commit.",
)
@click.option(
    "--force", is_flag=True, help="Change the request that envbuilder.toml has already."
)
@overwrite_option
@json_option
def command(
    names: tuple[str, ...],
    source: str | None,
    force: bool,
    overwrite: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Set up this repository for one stack: envbuilder.toml, a locked build context, compose, dev container and CI.

    In a repository that is set up already, it adds what is missing.
    """
    from envbuilder.render import project

    refuse_request_options(options)
    session = session_from(options)
    if not options["lock_file"]:
        _mention_files(options, session)
    if _own_settings() is not None:
        # What is suggested changes the settings.
        session = replace(session, said=(*session.said, "--force"))
    request = None
    if not options["lock_file"]:
        request = request_from({**options, FOLDER_OF_INIT: Path().absolute()})
        if force:
            request = _without_conflicting_pins(request, options, session)
    targets = _targets(names)

    def check(lock: "Lock") -> Checked:
        _refuse_python(lock, request, session)
        _refuse_outside(lock, options)
        described = _describe(lock, source, options, session)
        archives = archives_of(lock, session)
        files = project.render_files(described, targets, archives)
        return check_files(files, Path(), overwrite, way_out=_OTHER_TARGETS)

    lock = _lock(request, options, session, check)
    described = _describe(lock, source, options, session)
    # Again: between this and the first time may lie a download, and what others did meanwhile.
    checked = check(lock)
    files = checked.files
    say_answers(lock.stack)
    more = _settings_file(
        described, request, targets, options, force=force, session=session
    )
    unignored = _unignored(more)
    changes = _settings_changes(more)
    python_problem = _python_problem(lock)
    if python_problem:
        session.console.note(python_problem)
    note_clashes(checked.clashes, [*files.names, *more], Path(), session)
    written = project.write(files, Path(), more)
    for name in checked.lost:
        if name not in written:
            session.console.say(f"overwrote {name}")
    for name, verb in written.items():
        for line in changes.get(name) or [f"{verb} {name}"]:
            session.console.say(line)
    _warn_below_the_top(files, session)
    if unignored:
        session.console.say(
            f"consider adding to your {project.IGNORE_FILE}: {' '.join(unignored)}"
        )
    commands = _next_commands(targets)
    session.console.say("next: " + ", then ".join(f"`{line}`" for line in commands))
    if as_json:
        document = {
            "ok": True,
            "stack": lock.stack.name,
            "targets": targets,
            "written": list(written),
            "next": commands,
        }
        print_json({**document, **answers_document(lock.stack)})


def _mention_files(options: Options, session: "Session") -> None:
    """Say which files of the project `init` could start from, if none is named."""
    from envbuilder.files import is_file
    from envbuilder.resolve.project_files.kinds import PROJECT_FILES

    if options["requirements"] or find_settings() is not None:
        return
    names = [name for name in PROJECT_FILES if is_file(Path(name))]
    if names:
        session.console.say(
            f"{' and '.join(names)} found here: `envbuilder init --from {names[0]}` reads its packages and versions"
        )


def _without_conflicting_pins(
    request: "Request", options: Options, session: "Session"
) -> "Request":
    """The request without the fewest pins of an earlier `init` that clash with the options of this one."""
    from envbuilder.resolve.candidate_index import index_for

    index = index_for(session.catalog)
    pins = _pins(options)
    if index.best(request) is not None:
        return request
    for count in range(1, len(pins) + 1):
        for dropped in combinations(pins, count):
            changed = request_from(options, host=False, without=dropped)
            if index.best(changed) is not None:
                return changed
    return request


def _pins(options: Options) -> list[str]:
    """The settings that an earlier `init` wrote for its lock and that no option replaces."""
    from envbuilder.render import project
    from envbuilder.render.settings_file import request_settings

    path = _own_settings()
    if path is None or "render" not in settings():
        return []
    pins: dict[str, None] = {}
    for lock in project.read_locks(Path()).values():
        for key, value in request_settings(lock).items():
            name = key.replace("-", "_")
            if settings().get(name) == value and options.get(name) is None:
                pins[name] = None
    # What follows from a request goes before what may have been requested.
    return sorted(pins, key=lambda name: name not in ("torch", "python"))


def _python_problem(lock: "Lock") -> str:
    """How the image's Python contradicts the project here; empty if it does not."""
    from envbuilder.render.requires_python import allows, requires_python

    required = requires_python(Path())
    python = lock.stack.python
    if required is None or allows(required, python):
        return ""
    return f"the image has Python {python}, and pyproject.toml requires {required}"


def _refuse_python(lock: "Lock", request: "Request | None", session: "Session") -> None:
    """Raise `UsageError` for a Python that the project here cannot run on, unless a person chose it."""
    problem = _python_problem(lock)
    if not problem or request is None or request.python is not None:
        return
    hint = _python_hint(request, session)
    raise UsageError(f"{problem}; nothing was written", hint=hint)


def _refuse_outside(lock: "Lock", options: Options) -> None:
    """Raise `UsageError` for a package that is on this machine alone: the repository's settings could not name it."""
    from envbuilder.config import is_outside

    of_files = files_for_settings(options).packages
    for text in lock.stack.own_extras:
        if text not in of_files and is_outside(text):
            raise UsageError(
                f"the package {text} is not in this folder, so the repository would lack it; nothing was written",
                hint="copy it into this folder, or name a git repository that others reach",
            )


def _python_hint(request: "Request", session: "Session") -> str:
    """The newest Python that the project allows and that a stack exists for."""
    from envbuilder.catalog.lookup import known_pythons
    from envbuilder.render.requires_python import allows, requires_python
    from envbuilder.resolve.candidate_index import index_for

    required = requires_python(Path())
    index = index_for(session.catalog)
    for python in sorted(known_pythons(session.catalog), reverse=True):
        changed = replace(request, python=python)
        if required and allows(required, python) and index.best(changed) is not None:
            return f"choose another with `--python {python}`, or change requires-python"
    return "change requires-python, or request another stack"


def _lock(
    request: "Request | None",
    options: Options,
    session: "Session",
    check: Callable[["Lock"], object],
) -> "Lock":
    """The lock that is named; the one that a repository has already, if it matches; or a new one."""
    from envbuilder.render import project

    if request is None:
        return read_lock(options["lock_file"])
    table = settings().get("render")
    if table is not None:
        lock = project.find_lock(Path(), request, table.get("stack"), session.catalog)
        if lock:
            return lock
    return make_checked_lock(request, session, check)


def _targets(names: Sequence[str]) -> list[str]:
    """The targets that the repository has already, and those of this command."""
    from envbuilder.render import project

    existing = targets_of(_own_table())
    return list(dict.fromkeys([*existing, *(names or project.STANDARD)]))


def _own_table() -> Mapping[str, Any]:
    """`[render]` of this repository; one in a folder above belongs to another set of files."""
    table: Mapping[str, Any] = {}
    if _own_settings() is not None:
        table = settings().get("render", table)
    return table


def _describe(
    lock: "Lock", source: str | None, options: Options, session: "Session"
) -> "Project":
    from envbuilder import config
    from envbuilder.render import project

    target_settings = dict(_own_table().get("settings", {}))
    if source:
        target_settings["envbuilder"] = source
    return project.describe(
        lock,
        tag=setting(options, "tag"),
        settings=target_settings,
        images=project.read_locks(Path()),
        capabilities=[gpu.capability for gpu in session.catalog.gpus],
        mirrors=config.public_mirrors(settings()),
    )


def _settings_file(
    described: "Project",
    request: "Request | None",
    targets: Sequence[str],
    options: Options,
    *,
    force: bool,
    session: "Session",
) -> dict[str, str]:
    """The file of settings and its text: a new one, or the repository's own with what it lacks.

    Raises `UsageError` if its own settings request another stack.
    """
    from envbuilder import config
    from envbuilder.files import read_text
    from envbuilder.render import settings_file
    from envbuilder.resolve import objections as objections_to

    lock = described.lock
    as_of = request.as_of if request else None
    from_files = files_for_settings(options)
    path = _own_settings()
    if path is None:
        return {
            config.FILE: settings_file.settings_text(
                lock, targets, described.settings, as_of, from_files
            )
        }
    objections = objections_to(
        request_from({"requirements": from_files.paths}, host=False),
        lock.stack,
        session.catalog,
    )
    if objections and not force:
        raise UsageError(
            f"{path} requests another stack than {lock.stack.name}; nothing was written",
            problems=objections,
            hint=f"change {path} first, or let `--force` change it",
        )
    text = settings_file.extended_settings(
        read_text(path),
        targets=targets,
        settings=described.settings,
        request={
            **settings_file.request_settings(lock, as_of, from_files),
            **settings_file.system_package_settings(lock, from_files),
        },
        replace=lock.stack.name if objections else "",
        table=config.TABLES.get(path.name, ()),
    )
    return {path.name: text}


def _own_settings() -> Path | None:
    """The file in this folder that holds the repository's settings, if it has one."""
    found = find_settings()
    if found is None:
        return None
    path = found[0]
    return Path(path.name) if path.parent.resolve() == Path().resolve() else None


def _settings_changes(more: dict[str, str]) -> dict[str, list[str]]:
    """Name of a file of settings that exists → what will be added to it or changed in it, one line each."""
    from envbuilder import config
    from envbuilder.files import read_text
    from envbuilder.render.settings_file import change_lines

    path = _own_settings()
    if path is None or path.name not in more:
        return {}
    table = config.TABLES.get(path.name, ())
    return {path.name: change_lines(path.name, read_text(path), more[path.name], table)}


def _warn_below_the_top(files: "Files", session: "Session") -> None:
    """Warn of workflows in a folder below the top of a repository: GitHub would not read them."""
    from envbuilder.files import exists

    workflows = [name for name in files.names if name.startswith(_WORKFLOWS)]
    folder = working_folder()
    if not workflows or exists(folder / ".git"):
        return
    for parent in folder.parents:
        if exists(parent / ".git"):
            session.console.note(
                f"GitHub does not read {workflows[0]} here, only workflows at the top of the repository, {parent}"
            )
            return


def _unignored(more: dict[str, str]) -> list[str]:
    """What the repository's own .gitignore lacks; without one, `more` gets a new one."""
    from envbuilder.files import exists
    from envbuilder.render import project

    path = Path(project.IGNORE_FILE)
    if exists(path):
        return project.unignored(Path())
    more[project.IGNORE_FILE] = project.ignore_text()
    return []


def _next_commands(targets: Sequence[str]) -> list[str]:
    build = "envbuilder build"
    if "compose" in targets:
        return [build, _compose_command()]
    return [build, "envbuilder render --check"]


def _compose_command() -> str:
    """How training is started here: `docker compose` may be set to read other files."""
    from envbuilder.render.clashes import is_own_file_read, own_compose_command

    if is_own_file_read(Path()):
        return "docker compose up train"
    return own_compose_command()
