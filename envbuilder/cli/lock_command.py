"""`envbuilder lock`: Stack → Lock, and whether an earlier lock still holds."""

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.base_digest import (
    find_digest,
    lock_of_repository,
    upgrade_base,
)
from envbuilder.cli.command_group import SuggestingChoice
from envbuilder.cli.project_build import project_build
from envbuilder.cli.request import request_from
from envbuilder.cli.requirement_files import answers_document, say_answers
from envbuilder.cli.session import print_json, read_lock, session_beside, session_from
from envbuilder.cli.settings import REQUEST_OPTIONS, Options, was_given
from envbuilder.cli.shared_options import (
    json_option,
    network_options,
    request_options,
    requirements_option,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.cli.project_build import ProjectBuild
    from envbuilder.model import Lock
    from envbuilder.pipeline import Session

DEFAULT_OUTPUT = "envbuilder.lock"


@click.command(name="lock")
@request_options
@requirements_option
@network_options
@click.option(
    "--output",
    "-o",
    default=DEFAULT_OUTPUT,
    show_default="envbuilder.lock; a requirements file goes to stdout",
    metavar="FILE",
    help="File to write; - for stdout.",
)
@click.option(
    "--format",
    "form",
    type=SuggestingChoice(["lock", "requirements"]),
    default="lock",
    show_default=True,
    help="envbuilder's lock, or a hashed requirements file for uv and pip.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; fail if FILE is stale or the index has changed.",
)
@click.option(
    "--upgrade-base",
    "upgrade",
    is_flag=True,
    help="Change only the digest of the base image in FILE: to that of its tag today.",
)
@click.option(
    "--explain", is_flag=True, help="If packages clash, print all of uv's derivation."
)
@json_option
def command(
    output: str, form: str, check: bool, upgrade: bool, as_json: bool, **options: Any
) -> None:
    """Pin every wheel of a stack by hash, as the index stood when its torch was current.

    In a repository that `envbuilder init` has set up: without options, lock again what it builds, in its own files.
    """
    from envbuilder import pipeline, serialize
    from envbuilder.console import answer
    from envbuilder.files import is_folder, write_file
    from envbuilder.format.stack_text import download_text
    from envbuilder.lock.requirements import requirements_text

    session = replace(session_from(options), explain=options["explain"])
    if check and upgrade:
        raise UsageError("--check and --upgrade-base contradict each other")
    in_repository = _is_for_repository(output, form, options)
    own = project_build(options, session) if in_repository else None
    if check:
        name = (lock_of_repository(session) if own else None) or output
        check_lock(name, session, options, as_json=as_json)
        return
    if upgrade:
        _refuse_with_upgrade(output, form, options)
        name = (lock_of_repository(session) if own else None) or output
        upgrade_base(name, session, as_json=as_json)
        return
    if own:
        _renew(own, session, as_json=as_json)
        return
    if form != "lock" and output == DEFAULT_OUTPUT:
        output = "-"  # under the name of a lock, other commands would take it for one
    if output != "-" and is_folder(Path(output)):
        raise UsageError(f"{output} is a folder", hint="name a file: `--output FILE`")
    # A requirements file has no base.
    file = "" if output in ("-", DEFAULT_OUTPUT) else output
    ask = partial(find_digest, session, file=file) if form == "lock" else None
    request = request_from(options)
    lock = pipeline.make_lock(request, session, ask)
    say_answers(lock.stack, only_left_out=True)
    text = serialize.dumps(lock) if form == "lock" else requirements_text(lock)
    if output == "-":
        answer(text, end="")
        return
    write_file(Path(output), text)
    count = len(lock.wheels)
    session.console.say(
        f"{output}: {count} wheels, {download_text(lock)}, as of {lock.stack.as_of}"
    )
    if as_json:
        print_json(_document(output, lock))


def _is_for_repository(output: str, form: str, options: Options) -> bool:
    """Whether no file is named, none is here and nothing is requested: then a repository's own lock is meant."""
    from envbuilder.files import exists

    if output != DEFAULT_OUTPUT or form != "lock" or exists(Path(output)):
        return False
    return not was_given(options, "packages", "apt", "requirements", *REQUEST_OPTIONS)


def _renew(own: "ProjectBuild", session: "Session", *, as_json: bool) -> None:
    """Lock again what a repository builds, in its own files."""
    from envbuilder import serialize
    from envbuilder.files import refuse_links, write_file
    from envbuilder.format.stack_text import download_text
    from envbuilder.lock.lock_file import LOCK_FILE
    from envbuilder.render import project

    locks = own.renewed(session)
    say_answers(locks[0].stack, only_left_out=True)
    names = [f"{project.IMAGES}/{lock.stack.name}/{LOCK_FILE}" for lock in locks]
    refuse_links(own.folder, *names)
    for lock in locks[1:]:
        # `envbuilder render` writes the context of the first one only.
        own.write_context(lock, session)
    for name, lock in zip(names, locks, strict=True):
        write_file(own.folder / name, serialize.dumps(lock))
        count = len(lock.wheels)
        session.console.say(
            f"{name}: {count} wheels, {download_text(lock)}, as of {lock.stack.as_of}"
        )
    session.console.say("next: `envbuilder render`, then `envbuilder build`")
    if as_json:
        print_json(_document(names[0], locks[0]))


def _document(name: str, lock: "Lock") -> dict[str, Any]:
    document = {
        "ok": True,
        "file": name,
        "wheels": len(lock.wheels),
        "bytes": lock.download_size,
        "stack": lock.stack.name,
    }
    return {**document, **answers_document(lock.stack)}


def _refuse_with_upgrade(output: str, form: str, options: Options) -> None:
    """Raise `UsageError` for what would make another lock: only the digest of the base is renewed."""
    if output == "-" or form != "lock":
        raise UsageError(
            "--upgrade-base changes a lock in its file",
            hint="name the file: `--output FILE`",
        )
    if was_given(options, "packages", "apt", "requirements", *REQUEST_OPTIONS):
        raise UsageError(
            "--upgrade-base takes no request: the lock has decided it",
            hint="leave the other options out, or leave out --upgrade-base to make another lock",
        )


def check_lock(
    name: str, session: "Session", options: Options, *, as_json: bool
) -> None:
    """Compare a lock with the request and with the index. Raises `LockError` naming every difference."""
    from envbuilder.errors import LockError
    from envbuilder.lock.drift import find_drift
    from envbuilder.model import Request
    from envbuilder.resolve import objections
    from envbuilder.resolve.command_line import command as command_for

    request = request_from(options, host=False)
    output = [] if name == DEFAULT_OUTPUT else [f"--output {shlex.quote(name)}"]
    again = command_for(request, "lock", flags=[*output, *session.said])
    lock = read_lock(name, hint=f"create it: `{again}`")
    stale = (
        [] if request == Request() else objections(request, lock.stack, session.catalog)
    )
    if stale:
        raise LockError(
            f"{name} does not match the request",
            problems=stale,
            hint=f"create it again: `{again}`",
        )
    workshop = session_beside(session, name).workshop
    drift = find_drift(lock, session.uv, workshop)
    if drift:
        raise LockError(
            f"the index no longer gives {name} (packages that differ: {len(drift)})",
            problems=[difference.problem for difference in drift],
            hint=f"the lock still builds while its files can be downloaded; to use what the index has now: `{again}`",
        )
    count = len(lock.wheels)
    session.console.say(
        f"{name}: {count} wheels, and the index gives the same as of {lock.stack.as_of}"
    )
    if as_json:
        print_json(
            {"ok": True, "file": name, "wheels": count, "stack": lock.stack.name}
        )
