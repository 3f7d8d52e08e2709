"""A repository and the files that envbuilder keeps in it: a build context with its locks, and the files of targets.

All of them come from `envbuilder.toml` and the lock, so that each can be renewed, and stale ones can be listed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from envbuilder import config
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import UsageError
from envbuilder.files import exists, read_text, refuse_links, write_file
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import REPOSITORY, SCHEMA, Context, Lock, Request, Stack
from envbuilder.render import base_variable, context_folder
from envbuilder.render.context import IMAGES as CONTEXT_IMAGES
from envbuilder.render.context import NO_ARCHIVES, render_context
from envbuilder.render.git_ignore import ignored_files
from envbuilder.render.targets import (
    Project,
    is_marked,
    render_targets,
    unknown_settings,
)
from envbuilder.resolve import objections

CONTEXT = "docker"
IMAGES = f"{CONTEXT}/{CONTEXT_IMAGES}"
STANDARD = ("compose", "devcontainer", "workflow")
"""The targets that `init` gives a repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Every file of envbuilder's in a repository, except `envbuilder.toml`."""

    context: Context  # of the build, in docker/
    others: Context  # of the targets

    @property
    def names(self) -> list[str]:
        """All paths, relative to the repository."""
        return [
            *(f"{CONTEXT}/{name}" for name in self.context.names),
            *self.others.files,
        ]

    @property
    def texts(self) -> dict[str, str]:
        """Path, relative to the repository → text."""
        texts = dict(self.others.files)
        for name, text in self.context.files.items():
            texts[f"{CONTEXT}/{name}"] = text
        return texts


def describe(
    lock: Lock,
    *,
    tag: str | None = None,
    settings: Mapping[str, str] | None = None,
    images: Mapping[str, Lock] | None = None,
    capabilities: Sequence[Version] = (),
    mirrors: Mapping[str, str] | None = None,
) -> Project:
    """What targets are rendered from; `tag` is the image's, if it is not the one that `build` gives.

    `capabilities`: the compute capabilities of the GPUs in the catalog; `mirrors`: the public ones of the settings.
    """
    return Project(
        lock=lock,
        image=tag or f"{REPOSITORY}:{lock.stack.name}",
        context=CONTEXT,
        settings=dict(settings or {}),
        images=dict(images or {}),
        capabilities=tuple(capabilities),
        mirrors=dict(mirrors or {}),
    )


def read_locks(folder: Path, stack: str | None = None) -> dict[str, Lock]:
    """The locks under docker/images/, all or that of one stack, by its name.

    Raises `UsageError` for a folder of another name: the Dockerfile in it would not find its files.
    """
    locks = {}
    pattern = f"{stack or '*'}/{LOCK_FILE}"
    for path in sorted((folder / IMAGES).glob(pattern)):
        text = read_text(path)
        lock = parse_lock(text, source=str(path))
        name = lock.stack.name
        place = path.parent
        if place.name != name:
            raise UsageError(
                f"{place} holds the lock of {name}", hint=f"rename the folder to {name}"
            )
        locks[name] = lock
    return locks


def render_files(
    project: Project,
    names: Sequence[str],
    archives: Mapping[str, bytes] = NO_ARCHIVES,
) -> Files:
    """Everything that belongs in the repository; `archives` are those of the lock's sources.

    Raises `UsageError` for a target or a setting that does not exist.
    """
    unknown = unknown_settings(project.settings, *names)
    if unknown:
        raise UsageError(
            "[render.settings] contains invalid settings",
            problems=unknown,
            hint=f"fix them in {config.FILE} and try again",
        )
    return Files(
        context=render_context(project.lock, archives),
        others=render_targets(project, *names),
    )


def find_lock(
    folder: Path, request: Request, stack: str | None, catalog: Catalog
) -> Lock | None:
    """The lock under docker/images/ that matches the request. Raises `UsageError` if several do."""
    matching = []
    for lock in read_locks(folder, stack).values():
        if not objections(request, lock.stack, catalog):
            matching.append(lock)
    matching = base_variable.without_fallbacks(matching)
    if len(matching) > 1:
        names = [lock.stack.name for lock in matching]
        raise UsageError(
            f"several locks in {IMAGES}/ match the request",
            problems=names,
            hint=f'select one in {config.FILE}: `[render]`, then `stack = "{names[0]}"`',
        )
    return matching[0] if matching else None


def differences(files: Files, folder: Path) -> list[str]:
    """How the repository differs from what would be written, one line a file."""
    lines = []
    context = files.context
    for line in context_folder.differences(context, folder / CONTEXT):
        kind, name = line.split(": ", 1)
        lines.append(f"{kind}: {CONTEXT}/{name}")
    lines.extend(context_folder.stale_files(files.others, folder))
    return lines


def foreign_files(files: Files, folder: Path) -> list[str]:
    """The files that would be replaced and were not created by envbuilder.

    Raises `UsageError` if one of them is reached through a link out of the repository.
    """
    refuse_links(folder, *files.names)
    names = []
    for name in context_folder.foreign_files(files.context, folder / CONTEXT):
        names.append(f"{CONTEXT}/{name}")
    names += unmarked_files(files.others, folder)
    return names


def foreign_folders(files: Files, folder: Path) -> list[str]:
    """The folders of the build context that hold none of envbuilder's files: they are never replaced."""
    places = context_folder.foreign_places(files.context, folder / CONTEXT)
    return [f"{CONTEXT}/{place}" for place in places]


def sketch(stack: Stack, day: str) -> Lock:
    """A lock without wheels: it gives the files of a stack their names before anything is downloaded."""
    return Lock(schema=SCHEMA, catalog=day, stack=stack, base_digest=None, wheels=())


def unmarked_files(context: Context, folder: Path) -> list[str]:
    """The files of targets that exist, differ, and do not carry envbuilder's mark."""
    names = []
    for name, text in context.files.items():
        if not exists(folder / name):
            continue
        current = read_text(folder / name)
        if current != text and not is_marked(current):
            names.append(name)
    return names


def write(files: Files, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Write the files that differ, and `more` next to those of the targets.

    Returns their paths, relative to the repository, with `wrote` or `replaced` for each.
    """
    refuse_links(folder, *files.names, *more)
    written = _write_build_context(files.context, folder / CONTEXT)
    texts = dict(more)
    texts.update(files.others.files)
    others = replace(files.others, files=texts)
    names = []
    for line in context_folder.stale_files(others, folder):
        _, name = line.split(": ", 1)
        names.append(name)
    for name in names:
        path = folder / name
        executable = name in others.executable
        written[name] = _verb(path)
        write_file(path, texts[name], executable=executable)
    return written


def _write_build_context(context: Context, folder: Path) -> dict[str, str]:
    written = {}
    places = context_folder.differing_places(context, folder)
    for place, names in places.items():
        title = f"{CONTEXT}/{place}/ ({len(names)} files)"
        written[title] = _verb(folder / place)
    context_folder.write_context(context, folder)
    return written


IGNORE_FILE = ".gitignore"
IGNORED = ("/runs/", "/build/", "/receipts/", "/.env")


def ignore_text() -> str:
    """`.gitignore` for a repository that has none: what envbuilder, Compose and the job create there."""
    return "".join(f"{pattern}\n" for pattern in IGNORED)


def unignored(folder: Path) -> list[str]:
    """The patterns of `IGNORED` that the repository's own patterns do not make needless."""
    probes = {}
    for pattern in IGNORED:
        name = pattern.strip("/")
        probes[pattern] = f"{name}/x" if pattern.endswith("/") else name
    hidden: set[str] = set()
    for ignored in ignored_files(folder, list(probes.values())):
        hidden.update(ignored.names)
    return [pattern for pattern, probe in probes.items() if probe not in hidden]


def _verb(path: Path) -> str:
    return "replaced" if exists(path) else "wrote"
