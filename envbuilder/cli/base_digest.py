"""The digest of a lock's base image: asked when a lock is made, and renewed by `envbuilder lock --upgrade-base`.

The engine asks the registry, because it knows the mirrors, the logins and the proxy with which the base will be pulled.
"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder.cli.session import new_engine, print_json, read_lock
from envbuilder.cli.settings import find_settings, settings
from envbuilder.engine.mirrored import mirrored_base
from envbuilder.errors import EngineError, UsageError
from envbuilder.model import Base, BaseSource
from envbuilder.network import find_network_cause

if TYPE_CHECKING:
    from envbuilder.model import Lock, Stack
    from envbuilder.pipeline import Session

PATIENCE = 15.0
"""Seconds in which the engine must have learned a digest: a lock can do without."""


def find_digest(session: "Session", base: Base, file: str = "") -> str | None:
    """The digest that a registry gives a base now; None, with a note, if it cannot be learned.

    `file`: that of the lock, if the command that adds it later has to name it.
    """
    if not _has_digest(base):
        return None
    digest, failure = ask_digest(_reference(base, session))
    if failure is None:
        return digest
    known = find_network_cause(failure)
    reason = f"its registry cannot be reached: {known[0]}" if known else failure
    words = ["envbuilder", "lock", "--upgrade-base"]
    if file:
        words += ["--output", file]
    session.console.note(
        f"the lock does not pin {base.reference} by digest: {reason}; "
        f"`{shlex.join(words)}` adds it later"
    )
    return None


def _has_digest(base: Base) -> bool:
    """Whether a registry can have a digest for it that its name does not say already."""
    return base.source is BaseSource.REGISTRY and "@" not in base.reference


def _reference(base: Base, session: "Session") -> str:
    """The base by its name where it is pulled from, which a mirror of the registry may be."""
    return mirrored_base(base, session.network.registry_mirror).reference


def ask_digest(reference: str) -> tuple[str, str | None]:
    """The digest that a registry gives a tag now, and None; or "" and why it cannot be learned."""
    try:
        with new_engine(PATIENCE) as engine:
            return engine.registry_digest(reference, within=PATIENCE)
    except EngineError:
        return "", "no container engine answers"


def upgrade_base(name: str, session: "Session", *, as_json: bool) -> None:
    """Give a lock the digest that the tag of its base has now; the wheels stay.

    Raises `UsageError` for a base that is on no registry, `EngineError` if the registry cannot be asked.
    """
    from envbuilder import serialize
    from envbuilder.files import write_file

    lock = read_lock(name, hint="name the file of a lock: `--output FILE`")
    base = lock.stack.base
    if base.source is not BaseSource.REGISTRY:
        raise UsageError(
            f"{name}: {base.reference} is made here from Debian packages, so that it has no digest to renew",
            hint=f"make it again: `docker image rm {base.reference}`, then `envbuilder build`",
        )
    if not _has_digest(base):
        raise UsageError(
            f"{name}: the name of the base has its digest: {base.reference}"
        )
    digest, failure = ask_digest(_reference(base, session))
    if failure is not None:
        raise EngineError(
            f"the digest of {base.reference} cannot be learned; {name} stays as it is",
            problems=[failure],
            hint="check the registry and the engine: `envbuilder doctor`",
        )
    stack = _with_current_facts(lock.stack, session)
    renewed = replace(lock, stack=stack, base_digest=digest)
    if renewed != lock:
        write_file(Path(name), serialize.dumps(renewed))
    _report(name, lock, renewed, session)
    if as_json:
        print_json(
            {
                "ok": True,
                "file": name,
                "wheels": len(lock.wheels),
                "stack": stack.name,
                "base": base.reference,
                "before": lock.base_digest or "",
                "digest": digest,
            }
        )


def _with_current_facts(stack: "Stack", session: "Session") -> "Stack":
    """The stack with what the catalog knows today of its base, as when its support ends."""
    from envbuilder.resolve.candidates import known_base

    if stack.base.own:
        return stack
    known = known_base(stack.base.reference, stack.python, session.catalog)
    return replace(stack, base=known or stack.base)


def _report(name: str, before: "Lock", after: "Lock", session: "Session") -> None:
    say = session.console.say
    reference = after.stack.base.reference
    new = after.base_digest
    if new == before.base_digest:
        say(f"{name}: {reference} is still {new}")
        return
    old = before.base_digest or "no digest"
    say(f"{name}: {reference}: {old} → {new}")
    if "render" in settings():
        say("next: `envbuilder render`, then `envbuilder build`")


def lock_of_repository(session: "Session") -> str | None:
    """The file of the lock that the settings of a repository request; None outside of a repository."""
    from envbuilder.cli.request import request_from
    from envbuilder.lock.lock_file import LOCK_FILE
    from envbuilder.render import project

    found = find_settings()
    if found is None or "render" not in settings():
        return None
    folder = found[0].parent
    request = request_from({}, host=False)
    stack = settings()["render"].get("stack")
    lock = project.find_lock(folder, request, stack, session.catalog)
    if lock is None:
        return None
    path = folder / project.IMAGES / lock.stack.name / LOCK_FILE
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
