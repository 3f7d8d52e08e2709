"""`envbuilder build` in a repository that `envbuilder init` has set up: which of its locks, and what `.env` says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder.cli.request import request_from
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    find_settings,
    settings,
    was_given,
)
from envbuilder.errors import UsageError
from envbuilder.model import BASE_BOOTSTRAP

if TYPE_CHECKING:
    from envbuilder.model import Lock
    from envbuilder.pipeline import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBuild:
    """What to build in a repository: `lock`, which is `main` unless `BASE` selects another base."""

    folder: Path
    main: "Lock"
    lock: "Lock"
    locks: Mapping[str, "Lock"]
    is_chosen: bool  # a person has chosen the base: nothing replaces it

    def fallback(self, session: "Session") -> "Lock | None":
        """The lock to build if no registry has the base; a new one is written next to the others."""
        from envbuilder.render import base_variable

        if self.is_chosen:
            return None
        lock = base_variable.fallback_of(self.main, self.locks)
        return lock or _new_fallback(self.main, self.folder, session)

    def record(self, built: "Lock", session: "Session") -> None:
        """Make `.env` select what was built, and say so."""
        from envbuilder.render import base_variable

        try:
            change = base_variable.record(self.main, built, self.folder)
        except UsageError as error:
            name = built.stack.base_name
            session.console.note(
                f"{error.message}; for Compose set {base_variable.NAME}={name}"
            )
            return
        if change:
            session.console.say(change)


def project_build(options: Options, session: "Session") -> ProjectBuild | None:
    """What `build` without a request builds in a repository; None for any other request, and outside of one.

    Raises `UsageError` if the repository has no lock that its settings request.
    """
    from envbuilder import config
    from envbuilder.render import base_variable, project

    others = [name for name in REQUEST_OPTIONS if name != "base"]
    bootstrap = options.get("base") == BASE_BOOTSTRAP
    found = find_settings()
    if found is None or "render" not in settings():
        return None
    if was_given(options, "lock_file", "packages", *others):
        return None
    if was_given(options, "base") and not bootstrap:
        return None
    folder = found[0].parent
    locks = project.read_locks(folder)
    request = request_from({**options, "base": None}, host=False)
    stack = settings()["render"].get("stack")
    main = project.find_lock(folder, request, stack, session.catalog)
    if main is None:
        raise UsageError(
            f"no lock in {project.IMAGES}/ matches {config.FILE}",
            hint="create it: `envbuilder render`",
        )
    value = base_variable.chosen(os.environ, folder)
    if bootstrap:
        value = BASE_BOOTSTRAP
    lock = main
    if value == BASE_BOOTSTRAP and not base_variable.fallback_of(main, locks):
        lock = _new_fallback(main, folder, session) or main
    elif value:
        lock = base_variable.find_lock(value, main, locks)
    return ProjectBuild(
        folder=folder, main=main, lock=lock, locks=locks, is_chosen=bool(value)
    )


def _new_fallback(main: "Lock", folder: Path, session: "Session") -> "Lock | None":
    """Lock the same on a base from Debian packages and write its build context next to the others."""
    from envbuilder import pipeline
    from envbuilder.files import refuse_links
    from envbuilder.render import project
    from envbuilder.render.context import place_of, render_context
    from envbuilder.render.context_folder import write_context

    quiet = replace(session, said=())
    lock = pipeline.lock_on_bootstrapped_base(main.stack, quiet)
    if lock is None:
        return None
    context = render_context(lock)
    refuse_links(folder, *(f"{project.CONTEXT}/{name}" for name in context.files))
    write_context(context, folder / project.CONTEXT)
    session.console.say(f"wrote {project.CONTEXT}/{place_of(lock.stack)}/")
    return lock
