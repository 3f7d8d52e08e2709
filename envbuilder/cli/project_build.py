"""`envbuilder build` in a repository that `envbuilder init` has set up: which of its locks, and what `.env` says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder.cli.base_digest import find_digest
from envbuilder.cli.protection import refuse_overwriting
from envbuilder.cli.request import request_from
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    find_settings,
    settings,
    was_given,
)
from envbuilder.errors import UsageError
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP

if TYPE_CHECKING:
    from envbuilder.model import Base, Lock, Request
    from envbuilder.pipeline import Session


_REQUESTS = ("lock_file", "packages", "apt", "requirements")
"""The parameters, besides `REQUEST_OPTIONS`, with which the command line requests something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBuild:
    """What to build in a repository: the lock of its settings, or that on the base which a person has chosen."""

    folder: Path
    request: "Request"  # of the settings
    main: "Lock"
    locks: Mapping[str, "Lock"]
    base_name: str  # the value of BASE that a person has given: nothing replaces it

    def lock(self) -> "Lock | None":
        """The lock to build; None if the base from Debian packages is requested and has no current lock."""
        from envbuilder.render import base_variable

        if not self.base_name:
            return self.main
        if self.base_name == BASE_BOOTSTRAP:
            return self._current_fallback()
        lock = base_variable.find_lock(self.base_name, self.main, self.locks)
        outdated = base_variable.outdated_fallbacks(self.main, self.locks)
        return None if lock in outdated else lock

    def _current_fallback(self) -> "Lock | None":
        from envbuilder.render import base_variable

        lock = base_variable.fallback_of(self.main, self.locks)
        outdated = base_variable.outdated_fallbacks(self.main, self.locks)
        return None if lock in outdated else lock

    def new_lock(self, session: "Session") -> "Lock | None":
        """Lock the same on a base from Debian packages, and write its build context next to the others."""
        from envbuilder import pipeline

        request = pipeline.on_bootstrapped_base(self.request, self.main.stack)
        if not pipeline.can_resolve(request, session):
            return None
        lock = pipeline.make_lock(request, session)
        self.write_context(lock, session)
        return lock

    def write_context(self, lock: "Lock", session: "Session") -> None:
        """Write the build context of a lock next to the others. Raises `UsageError` if foreign files would be lost."""
        from envbuilder import pipeline
        from envbuilder.files import refuse_links
        from envbuilder.render import context_folder, project
        from envbuilder.render.context import place_of

        folder = self.folder / project.CONTEXT
        context = pipeline.render(lock, session, folder)
        names = [f"{project.CONTEXT}/{name}" for name in context.names]
        refuse_links(self.folder, *names)
        foreign = context_folder.foreign_files(context, folder)
        foreign = [f"{project.CONTEXT}/{name}" for name in foreign]
        refuse_overwriting(foreign, (), folders=foreign)
        context_folder.write_context(context, folder)
        session.console.say(f"wrote {project.CONTEXT}/{place_of(lock.stack)}/")

    def renewed(self, session: "Session") -> "list[Lock]":
        """The same stacks locked again: the repository's, and that on a base from Debian packages if it has one.

        Raises `UsageError` if the settings decide another stack by now.
        """
        from envbuilder import pipeline
        from envbuilder.render import base_variable

        requests = [pipeline.on_same_base(self.request, self.main.stack)]
        before = [self.main]
        fallback = base_variable.fallback_of(self.main, self.locks)
        if fallback and fallback != self.main:
            request = pipeline.on_bootstrapped_base(self.request, self.main.stack)
            requests.append(request)
            before.append(fallback)
        locks = []
        for request, old in zip(requests, before, strict=True):
            lock = pipeline.make_lock(request, session, partial(_digest, old, session))
            if lock.stack.name != old.stack.name:
                raise UsageError(
                    f"the settings are for {lock.stack.name}, and the lock of this repository is {old.stack.name}",
                    hint="follow the settings: `envbuilder init --force`",
                )
            locks.append(lock)
        return locks

    def planned(self) -> "Lock | Request":
        """What `--dry-run` shows: nothing is locked for it."""
        from envbuilder import pipeline

        lock = self.lock()
        return lock or pipeline.on_bootstrapped_base(self.request, self.main.stack)

    def required(self, session: "Session") -> "Lock":
        """The lock to build. Raises `UsageError` if there can be none on a base from Debian packages."""
        lock = self.lock() or self.new_lock(session)
        if lock is None:
            raise UsageError(
                f"no base from Debian packages suits {self.main.stack.name}",
                hint="leave out BASE and --base",
            )
        return lock

    def fallback(self, session: "Session") -> "Lock | None":
        """The lock to build if no registry has the base; None if a person has chosen that base."""
        is_chosen = self.request.base not in (BASE_AUTO, BASE_BOOTSTRAP)
        if self.base_name or is_chosen or self.main.stack.base.own:
            return None
        return self._current_fallback() or self.new_lock(session)

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

    found = find_settings()
    if found is None or "render" not in settings() or _requests_other(options):
        return None
    folder = found[0].parent
    request = request_from({**options, "base": None}, host=False)
    stack = settings()["render"].get("stack")
    main = project.find_lock(folder, request, stack, session.catalog)
    if main is None:
        raise UsageError(
            f"no lock in {project.IMAGES}/ matches {config.FILE}",
            hint="create it: `envbuilder render`",
        )
    base_name = options.get("base") or base_variable.chosen(os.environ, folder)
    return ProjectBuild(
        folder=folder,
        request=request,
        main=main,
        locks=project.read_locks(folder),
        base_name=base_name,
    )


def _digest(before: "Lock", session: "Session", base: "Base") -> str | None:
    """The digest that a lock has stays: `--upgrade-base` renews it."""
    if before.base_digest and before.stack.base.reference == base.reference:
        return before.base_digest
    return find_digest(session, base)


def _requests_other(options: Options) -> bool:
    """Whether the command line requests something else than the repository's image, on one of its bases."""
    others = [name for name in REQUEST_OPTIONS if name != "base"]
    if was_given(options, *_REQUESTS, *others):
        return True
    return options.get("base") not in (None, BASE_BOOTSTRAP)
