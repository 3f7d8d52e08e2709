"""A repository and the files that envbuilder keeps in it: a build context with its locks, and the files of targets.

All of them come from `envbuilder.toml` and the lock, so that each can be renewed, and one that is stale be named.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from envbuilder import config
from envbuilder import lock as locks
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import UsageError
from envbuilder.files import exists, read_text, refuse_links, write_file
from envbuilder.model import BASE_BOOTSTRAP, REPOSITORY, BaseSource, Context, Flavour, Lock, Request
from envbuilder.render import context as render
from envbuilder.render import targets
from envbuilder.render.targets import Project
from envbuilder.resolve import objections
from envbuilder.resolve.candidates import CUSTOM_OS

CONTEXT = "docker"
IMAGES = f"{CONTEXT}/{render.IMAGES}"
STANDARD = ("compose", "devcontainer", "workflow")
"""What `init` gives a repository, as far as there is such a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Everything that a repository holds of envbuilder's, but `envbuilder.toml`."""

    context: Context  # of the build, in docker/
    others: Context  # of the targets


def describe(
    lock: Lock,
    *,
    tag: str | None = None,
    settings: Mapping[str, str] | None = None,
    images: Mapping[str, Lock] | None = None,
) -> Project:
    """What targets are rendered from; `tag` is the image's, if it is not the one that `build` gives."""
    return Project(
        lock=lock,
        image=tag or f"{REPOSITORY}:{lock.stack.name}",
        context=CONTEXT,
        settings=dict(settings or {}),
        images=dict(images or {}),
    )


def read_locks(folder: Path, stack: str | None = None) -> dict[str, Lock]:
    """The locks under docker/images/, all or that of one stack, by its name.

    Raises `UsageError` for a folder of another name: the Dockerfile in it would not find its files.
    """
    found = {}
    for path in sorted((folder / IMAGES).glob(f"{stack or '*'}/{locks.FILE}")):
        lock = locks.parse_lock(read_text(path), source=str(path))
        if lock.stack.name != path.parent.name:
            raise UsageError(f"{path.parent} holds the lock of {lock.stack.name}", hint="give the folder that name")
        found[lock.stack.name] = lock
    return found


def render_files(project: Project, names: Sequence[str]) -> Files:
    """Everything that is to lie in the repository. Raises `UsageError` for a target or a setting that there is not."""
    unknown = targets.unknown_settings(project.settings, *names)
    if unknown:
        raise UsageError("[render.settings] has settings that mean nothing", problems=unknown, hint="mend them")
    return Files(context=render.render(project.lock), others=targets.render(project, *names))


def find_lock(folder: Path, request: Request, stack: str | None, catalog: Catalog) -> Lock | None:
    """The lock under docker/images/ that answers the request. Raises `UsageError` if several do."""
    there = read_locks(folder, stack).values()
    found = [lock for lock in there if not objections(request, lock.stack, catalog)]
    if len(found) > 1:
        names = [lock.stack.name for lock in found]
        raise UsageError(
            f"several locks in {IMAGES}/ answer the request",
            problems=names,
            hint=f'name one in {config.FILE}: `[render]`, then `stack = "{names[0]}"`',
        )
    return found[0] if found else None


def differences(files: Files, folder: Path) -> list[str]:
    """How the repository differs from what would be written, one line a file."""
    found = (line.split(": ", 1) for line in render.differences(files.context, folder / CONTEXT))
    return [*(f"{kind}: {CONTEXT}/{name}" for kind, name in found), *render.stale(files.others, folder)]


def in_the_way(files: Files, folder: Path, more: Mapping[str, str]) -> list[str]:
    """The files that are not envbuilder's to replace; `more` are to be written beside those of the targets.

    Raises `UsageError` if one of them is reached through a link out of the repository.
    """
    _refuse_links(files, folder, more)
    context = [f"{CONTEXT}/{name}" for name in render.strangers(files.context, folder / CONTEXT)]
    return context + targets.strangers(Context(files={**more, **files.others.files}), folder)


def write(files: Files, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Write what differs; returns what was written, relative to the repository, and `wrote` or `replaced` for each."""
    _refuse_links(files, folder, more)
    done = {}
    for place, names in render.differing(files.context, folder / CONTEXT).items():
        done[f"{CONTEXT}/{place}/ ({len(names)} files)"] = _verb(folder / CONTEXT / place)
    render.write(files.context, folder / CONTEXT)
    others = Context(files={**more, **files.others.files}, executable=files.others.executable)
    for line in list(render.stale(others, folder)):
        name = line.split(": ", 1)[1]
        done[name] = _verb(folder / name)
        write_file(folder / name, others.files[name], executable=name in others.executable)
    return done


def _refuse_links(files: Files, folder: Path, more: Mapping[str, str]) -> None:
    refuse_links(folder, *(f"{CONTEXT}/{name}" for name in files.context.files), *files.others.files, *more)


IGNORE_FILE = ".gitignore"
IGNORED = ("/runs/", "/build/", "/receipts/", "/.env")


def ignore_text() -> str:
    """`.gitignore` for a repository that has none: what envbuilder, Compose and the job make there."""
    return "".join(f"{pattern}\n" for pattern in IGNORED)


def unignored(folder: Path) -> list[str]:
    """What the repository's own `.gitignore` does not name, in the ways that people write it."""
    lines = {line.strip().strip("/") for line in read_text(folder / IGNORE_FILE, errors="replace").splitlines()}
    return [pattern for pattern in IGNORED if pattern.strip("/") not in lines]


def _verb(path: Path) -> str:
    return "replaced" if exists(path) else "wrote"


def settings_text(lock: Lock, names: Sequence[str], settings: Mapping[str, str], as_of: date | None = None) -> str:
    """`envbuilder.toml` for a repository that uses this lock; `as_of` is the day that was requested for it, if any."""
    stack = lock.stack
    request = {} if stack.flavour is Flavour.RUNTIME else {"flavour": stack.flavour.value}
    request |= {"cuda": stack.cuda_line} if stack.cuda else {}
    request |= {"torch": str(stack.torch), "python": str(stack.python)}
    if stack.base.own:
        request["base"] = stack.base.reference
        request |= {"os": stack.base.os} if stack.base.os != CUSTOM_OS else {}
    elif stack.base.source is BaseSource.BOOTSTRAP:
        request["base"] = BASE_BOOTSTRAP
    if stack.platform != Request().platform:
        request["platform"] = stack.platform
    if as_of:
        request["as-of"] = as_of.isoformat()
    lines = ["# What this repository's image is made of. After a change: `envbuilder render`, then `envbuilder build`."]
    lines += [f"{name} = {_quoted(value)}" for name, value in request.items()]
    lines += [f"package = {_list(stack.extras)}"] if stack.extras else []
    lines += ["", "[render]  # the files that `envbuilder render` renews and `envbuilder render --check` looks at"]
    lines += [f"targets = {_list(names)}"]
    lines += ["", "[render.settings]"] if settings else []
    lines += [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML string


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"
