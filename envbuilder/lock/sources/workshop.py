"""Packages of sources for a lock: fetched, packed, built and kept; and their archives again for a build context."""

import copy
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from envbuilder import grammar, processes, resources
from envbuilder.errors import EngineError, EnvbuilderError, LockError, UsageError
from envbuilder.files import (
    exists,
    file_digest,
    is_file,
    is_folder,
    move_file,
    temporary_folder,
)
from envbuilder.lock.known_sources import NO_SOURCES, KnownSources
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.lock.sources.builds import SourceBuilds
from envbuilder.lock.sources.compiled import CompileSettings, must_compile
from envbuilder.lock.sources.folder_files import folder_files
from envbuilder.lock.sources.for_image import plan_for_image
from envbuilder.lock.sources.git_repository import (
    LONGEST,
    GitRepository,
    described_version,
    git_environment,
)
from envbuilder.lock.sources.location import Location, is_located, parse_location
from envbuilder.lock.sources.sdist_file import SdistFile, change_of_sdist, find_sdist
from envbuilder.lock.sources.source_archive import SourceArchive, pack
from envbuilder.lock.sources.source_build import (
    PROGRAM,
    VERSION_FROM_GIT,
    Offline,
    build_system_of,
    build_wheel,
)
from envbuilder.lock.sources.source_cache import SourceCache, key_of
from envbuilder.lock.sources.source_download import download
from envbuilder.lock.sources.static_metadata import stub_wheel
from envbuilder.lock.toolchain import with_toolchain
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_selection import TORCH_FAMILY
from envbuilder.model import BaseSource, Layer, Lock, Source, SourceKind, Stack, Wheel
from envbuilder.network import Network
from envbuilder.processes import Completed

_NOT_BUILT = Version("0")  # of a package that is not built yet
_LARGEST_SDIST = 256 << 20  # bytes
_LARGEST_WHEEL = 8 << 30
_SHORT = 12  # digits of a commit or a hash, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A source with its wheel, which lies at `path`.

    Of what is compiled in the image there is no wheel yet; what lies at `path` has its metadata alone.
    """

    source: Source
    wheel: Wheel | None
    path: Path


class SourceWorkshop:
    """Makes wheels of sources. `project`: where relative paths begin; `say` and `note` tell a person."""

    def __init__(
        self,
        *,
        uv: Uv,
        network: Network,
        environ: Mapping[str, str],
        cache: Callable[[], Path],
        project: Path,
        say: Callable[[str], None],
        note: Callable[[str], None],
        builds: SourceBuilds | None = SourceBuilds.ALL,
        compiling: CompileSettings | None = None,
    ) -> None:
        self._uv = uv
        self._network = network
        self._environ = environ
        self._cache_folder = cache
        self._roots = [project]
        self._say = say
        self._note = note
        self._builds = builds
        self._compiling = compiling or CompileSettings()
        self._offline = Offline(environ, note)

    @property
    def _cache(self) -> SourceCache:
        return SourceCache(self._cache_folder())

    def _run_git(self, argv: Sequence[str]) -> Completed:
        env = git_environment(self._environ, self._network)
        return processes.run(argv, env=env, timeout=LONGEST)

    # --- for a new lock ----------------------------------------------------------------------------------------

    def prepare(self, stack: Stack) -> list[Prepared]:
        """The packages of the user's that say where they come from."""
        places: dict[str, Location] = {}
        for line in stack.extras:
            if not is_located(line):
                continue
            location = parse_location(line)
            _refuse_second(location, places)
            places[location.name] = location
        return [self._prepare_one(location, stack) for location in places.values()]

    def _prepare_one(self, location: Location, stack: Stack) -> Prepared:
        if not location.name:
            raise UsageError(
                f"--package {location.text}: the name of its package is missing",
                hint=f"write it in front: `--package 'NAME @ {location.text}'`",
            )
        if location.kind is SourceKind.GIT:
            source, archive = self._fetch_commit(location)
        elif location.kind is SourceKind.URL:
            source, archive = self._fetch_address(location)
        else:
            source, archive = self._pack_local(location)
        return self._finish(
            source,
            archive,
            stack,
        )

    def _fetch_commit(self, location: Location) -> tuple[Source, Path]:
        repository = GitRepository(location.origin, self._run_git)
        commit = repository.find_commit(location.ref)
        if commit != location.ref:
            ref = location.ref or "its default branch"
            self._say(f"{location.name}: {ref} of {location.origin} is commit {commit}")
        source = Source(
            name=location.name,
            version=_NOT_BUILT,
            kind=SourceKind.GIT,
            origin=location.origin,
            archive=f"{location.name}-{commit[:_SHORT]}.tar",
            sha256="0" * 64,
            commit=commit,
            subdirectory=location.subdirectory,
        )
        content = repository.check_out(commit).archive
        return self._with_archive(source, content)

    def _fetch_address(self, location: Location) -> tuple[Source, Path]:
        name = unquote(location.file)
        if not grammar.matches(grammar.ArchiveFile, name):
            raise UsageError(f"{name!r} is not {grammar.words(grammar.ArchiveFile)}")
        digest, path = self._download(location.origin, name)
        source = Source(
            name=location.name,
            version=_NOT_BUILT,
            kind=SourceKind.URL,
            origin=location.origin,
            archive=name,
            sha256=digest,
        )
        return source, path

    def _download(self, url: str, name: str) -> tuple[str, Path]:
        most = _LARGEST_SDIST
        if name.endswith(".whl"):
            most = _LARGEST_WHEEL
        with temporary_folder("download") as folder:
            path = folder / name
            digest = download(
                url,
                path,
                self._network,
                most=most,
            )
            kept = self._cache.place_for(digest, name)
            move_file(path, kept)
        return digest, kept

    def _pack_local(self, location: Location) -> tuple[Source, Path]:
        path = self._roots[0] / location.origin
        source = Source(
            name=location.name,
            version=_NOT_BUILT,
            kind=SourceKind.LOCAL,
            origin=location.origin,
            archive=location.file or f"{location.name}.tar",
            sha256="0" * 64,
        )
        return self._with_archive(source, self._local_content(path, source))

    def _local_content(self, path: Path, source: Source) -> bytes:
        if source.archive != f"{source.name}.tar":
            return self._cache.read(path)
        if not is_folder(path):
            raise UsageError(
                f"{path} is not a folder: the package {source.name} was there"
                if not exists(path)
                else f"{path} is not a folder"
            )
        return pack(folder_files(path, self._run_git))

    def _with_archive(self, source: Source, content: bytes) -> tuple[Source, Path]:
        path = self._cache.add_archive(source.archive, content)
        digest = sha256(content).hexdigest()
        return replace(source, sha256=digest), path

    def prepare_sdist(self, sdist: SdistFile, stack: Stack) -> Prepared:
        """A source package of the index, of a release that has no wheel."""
        # What is compiled in the image runs nothing here.
        is_permitted = sdist.name in self._compiling.allowed
        if self._builds is not SourceBuilds.ALL and not is_permitted:
            raise _not_allowed(f"{sdist.name} {sdist.version}", self._builds)
        if not grammar.matches(grammar.ArchiveFile, sdist.file):
            raise LockError(
                f"{sdist.file[:60]!r} is not {grammar.words(grammar.ArchiveFile)}"
            )
        path = self._cache.archive(sdist.sha256, sdist.file)
        if path is None:
            digest, path = self._download(sdist.url, sdist.file)
            if digest != sdist.sha256:
                raise LockError(
                    f"{sdist.file} does not have the sha256 that the index gives",
                    hint="try again; if it persists, a proxy or the mirror modifies files",
                )
        source = Source(
            name=sdist.name,
            version=sdist.version,
            kind=SourceKind.SDIST,
            origin=sdist.file,
            archive=sdist.file,
            sha256=sdist.sha256,
        )
        self._say(
            f"{sdist.name} {sdist.version} has no wheel: taking its source package, {sdist.file}"
        )
        prepared = self._finish(
            source,
            path,
            stack,
        )
        version = prepared.source.version
        if version != sdist.version:
            raise LockError(
                f"{sdist.file} is built to version {version} of {sdist.name}"
            )
        advice = self._compiling.advice_of(sdist.name)
        if advice:
            self._note(f"{sdist.name} {version}: {advice}")
        return prepared

    def _finish(self, source: Source, archive: Path, stack: Stack) -> Prepared:
        if source.archive.endswith(".whl"):
            return self._as_wheel(source, archive)
        contents = SourceArchive(archive)
        if source.compiled or must_compile(
            contents, source.name, stack, self._compiling
        ):
            return self._for_image(source, contents, stack)
        if not source.environment:
            environment = self._compiling.environment_of(source.name)
            source = replace(source, environment=environment)
        key = _build_key(source, stack)
        built = self._cache.built(key)
        if built:
            old, wheel, path = built
            kept = replace(
                source,
                version=wheel.version,
                backend=old.backend,
                backend_path=old.backend_path,
                tools=old.tools,
            )
            return Prepared(
                source=kept,
                wheel=wheel,
                path=path,
            )
        return self._build(
            source,
            archive,
            stack,
            key,
        )

    def _for_image(
        self, source: Source, contents: SourceArchive, stack: Stack
    ) -> Prepared:
        """A package that is compiled while the image is built: nothing of it runs here."""
        planned, metadata = plan_for_image(source, contents, stack, self._compiling)
        file, stub = stub_wheel(source.name, metadata)
        path = self._cache.add_archive(file, stub)
        return Prepared(source=planned, wheel=None, path=path)

    def with_toolchain(self, lock: Lock) -> Lock:
        """The lock with what compiles its sources; they were just prepared, so that their archives are here."""
        requires: list[str] = []
        for source in lock.compiled:
            path = self._cache.place_for(source.sha256, source.archive)
            system = build_system_of(SourceArchive(path), source.subdirectory)
            requires += system.requires
            self._say(
                f"{source.name} {source.version} is compiled while the image is built: the lock has its source and its "
                "tools by hash, its wheel is made there"
            )
        settings = self._compiling
        return with_toolchain(
            lock, requires, self._uv, settings.devel, settings.capability
        )

    def for_gpu(self, capability: Version | None) -> "SourceWorkshop":
        """The same, which compiles for one GPU."""
        other = copy.copy(self)
        other._compiling = replace(self._compiling, capability=capability)
        return other

    @property
    def allowed(self) -> frozenset[str]:
        """The packages that may be compiled."""
        return self._compiling.allowed

    def _as_wheel(self, source: Source, archive: Path) -> Prepared:
        wheel = _wheel_row(source, archive)
        found = replace(source, version=wheel.version)
        return Prepared(source=found, wheel=wheel, path=archive)

    def _build(self, source: Source, archive: Path, stack: Stack, key: str) -> Prepared:
        if self._builds not in (SourceBuilds.ALL, SourceBuilds.NAMED):
            raise _not_allowed(source.name, self._builds)
        contents = SourceArchive(archive)
        try:
            system = build_system_of(contents, source.subdirectory)
        except LockError as error:
            raise LockError(
                f"{_place(source)} cannot be built: {error.message}", hint=error.hint
            ) from error
        self._say(f"building {source.name} from {_place(source)} with {system.backend}")
        if ".gitmodules" in contents.names_below_top:
            self._note(
                f"{_place(source)} has submodules, which are not fetched: they are empty folders in its build"
            )
        version = source.version
        if any(tool in VERSION_FROM_GIT for tool in system.required_names):
            version = self._version_by_git(source)
        planned = replace(
            source,
            version=version,
            backend=system.backend,
            backend_path=system.backend_path,
        )
        folder = self._cache.folder_of(key)
        made = build_wheel(
            planned,
            archive,
            system.requires,
            folder,
            uv=self._uv,
            stack=stack,
            offline=self._offline,
        )
        wheel = _wheel_row(source, made.path)
        built = replace(planned, version=wheel.version, tools=made.tools)
        self._cache.keep(key, built, wheel)
        return Prepared(source=built, wheel=wheel, path=made.path)

    def _version_by_git(self, source: Source) -> Version:
        """For a package that asks git for its version, of which its archive knows nothing."""
        if source.kind is SourceKind.GIT:
            repository = GitRepository(source.origin, self._run_git)
            described = repository.describe(source.commit)
            return Version(described or f"0+g{source.commit[:_SHORT]}")
        if source.kind is not SourceKind.LOCAL:
            return source.version
        folder = self._local_path(source)
        described = described_version(
            folder,
            "HEAD",
            self._run_git,
        )
        return Version(described or "0")

    # --- for a lock that exists --------------------------------------------------------------------------------

    def archives(self, lock: Lock, *, near: Sequence[Path] = ()) -> dict[str, bytes]:
        """The archives of a lock's sources, by file name, from the cache or from where they came from.

        `near`: folders that may have them, as those of a build context. Raises an error for one that is not available.
        """
        found = {}
        for source in lock.sources:
            self._note_change(source, lock.stack, near)
            if source.in_context:
                found[source.archive] = self._archive(
                    source,
                    lock.stack,
                    near,
                )
        return found

    def _note_change(self, source: Source, stack: Stack, near: Sequence[Path]) -> None:
        """Say that a local package is not as it was locked: what was locked is built all the same."""
        path = self._local_path(source)
        if source.kind is not SourceKind.LOCAL or not exists(path):
            return
        digest = self._digest_now(source)
        if digest != source.sha256:
            self._note(
                f"{source.origin} has changed since {source.name} {source.version} was locked: "
                f"what was locked is built; {commands_for_change(near, stack)} takes the change"
            )

    def beside(self, lock_file: Path) -> "SourceWorkshop":
        """The same, which looks for folders next to a lock too, or next to the repository's docker/."""
        other = copy.copy(self)
        folders = lock_file.absolute().parents
        other._roots = [*self._roots, *folders[:1], *folders[3:4]]
        return other

    def _local_path(self, source: Source) -> Path:
        """Where a local source is now: in the project, or next to the lock."""
        for root in self._roots:
            if exists(root / source.origin):
                return root / source.origin
        return self._roots[0] / source.origin

    def _archive(self, source: Source, stack: Stack, near: Sequence[Path]) -> bytes:
        for folder in near:
            path = folder / source.archive
            if source.compiled:
                path = folder.with_name("compiled") / source.name / source.archive
            if is_file(path) and file_digest(path)[0] == source.sha256:
                return self._cache.read(path)
        path_in_cache = self._cache.archive(source.sha256, source.archive)
        if path_in_cache:
            return self._cache.read(path_in_cache)
        content = self._fetch_again(source, stack)
        if sha256(content).hexdigest() != source.sha256:
            raise UsageError(
                f"{_place(source)} has changed since {source.name} {source.version} was locked",
                hint="lock it again: `envbuilder lock`",
            )
        self._cache.add_archive(source.archive, content)
        return content

    def _fetch_again(self, source: Source, stack: Stack) -> bytes:
        try:
            if source.kind is SourceKind.GIT:
                repository = GitRepository(source.origin, self._run_git)
                return repository.check_out(source.commit).archive
            if source.kind is SourceKind.LOCAL:
                return self._local_content(self._local_path(source), source)
            url = source.origin
            if source.kind is SourceKind.SDIST:
                sdist = find_sdist(
                    source,
                    self._uv,
                    stack,
                )
                url = sdist.url
            _, path = self._download(url, source.archive)
            return self._cache.read(path)
        except EnvbuilderError as error:
            raise type(error)(
                f"the source of {source.name} {source.version} is not available: {error.message}",
                hint=error.hint,
                problems=error.problems,
            ) from error

    def known(self, lock: Lock) -> KnownSources | None:
        """The wheels of a lock's sources, for uv; built again where the cache lacks them, if that is allowed."""
        known = known_of(lock.stack)
        for source in lock.sources:
            content = self._archive(source, lock.stack, ())
            path = self._cache.add_archive(source.archive, content)
            plain = replace(source, tools=(), backend="", backend_path=())
            key = _build_key(plain, lock.stack)
            is_built = self._cache.built(key) is not None
            if (
                source.is_built
                and not source.compiled
                and not is_built
                and self._builds is not SourceBuilds.ALL
            ):
                self._note(
                    f"what {source.name} depends on is not compared: its wheel would have to be built; "
                    "if you trust it: `--build-sources all`"
                )
                return None
            prepared = self._finish(plain, path, lock.stack)
            known = known.with_wheel(source.name, prepared.path)
        return known

    def changes(self, lock: Lock) -> Iterator[tuple[str, str]]:
        """What became of the places that a lock's sources come from: package and sentence, for those that changed."""
        for source in lock.sources:
            sentence = self._change(source, lock.stack)
            if not sentence:
                continue
            name = source.name
            yield name, f"{name} {source.version}: {sentence}"

    def _change(self, source: Source, stack: Stack) -> str:
        if source.kind is SourceKind.SDIST:
            return change_of_sdist(
                source,
                self._uv,
                stack,
            )
        if source.kind is SourceKind.GIT:
            repository = GitRepository(source.origin, self._run_git)
            has_commit = repository.has_commit(source.commit)
            lost = f"{source.origin} no longer has commit {source.commit[:_SHORT]}"
            return "" if has_commit else lost
        try:
            digest = self._digest_now(source)
        except (UsageError, EngineError) as error:
            return error.message
        if digest != source.sha256:
            return f"{_place(source)} has changed since it was locked"
        return ""

    def _digest_now(self, source: Source) -> str:
        if source.kind is SourceKind.URL:
            digest, _ = self._download(source.origin, source.archive)
            return digest
        path = self._local_path(source)
        content = self._local_content(path, source)
        return sha256(content).hexdigest()


def known_of(stack: Stack) -> KnownSources:
    """How the user's located packages are named to uv, whose wheels are given by constraints."""
    lines = {}
    for line in stack.extras:
        if is_located(line):
            location = parse_location(line)
            extras = f"[{','.join(location.extras)}]" if location.extras else ""
            lines[line] = f"{location.name}{extras}"
    return replace(NO_SOURCES, lines=lines)


def _refuse_second(location: Location, places: Mapping[str, Location]) -> None:
    """Raise `UsageError` for a second place of a package, and for the place of one that the stack decides."""
    name = location.name
    if name in TORCH_FAMILY:
        raise UsageError(
            f"--package {location.text}: the stack decides {name}",
            hint="choose its version: `--torch X.Y`; another build of torch needs another base image",
        )
    other = places.get(name)
    # A file of requirements may name a package twice, once for each of its extras.
    if other and replace(other, extras=location.extras) != location:
        raise UsageError(
            f"{name} is requested from two places",
            problems=[other.text, location.text],
            hint="name one of them",
        )


def _place(source: Source) -> str:
    if source.commit:
        return f"{source.origin} at {source.commit[:_SHORT]}"
    return source.origin


def _located(source: Source, name: str) -> str:
    """The requirement that names a source."""
    location = Location(
        name=name,
        kind=source.kind,
        origin=source.origin,
        ref=source.commit,
        subdirectory=source.subdirectory,
    )
    return location.text


def _wheel_row(source: Source, path: Path) -> Wheel:
    """The row of a wheel; raises `UsageError` if it is another package's."""
    file = path.name
    digest, size = file_digest(path)
    name, version, _, _ = parse_wheel_filename(file)
    if name != source.name:
        raise UsageError(
            f"the package of {_place(source)} is called {name}, not {source.name}",
            hint=f"write it with its name, with `--package '{_located(source, name)}'` or in the file that has it",
        )
    return Wheel(
        name=canonicalize_name(name),
        version=version,
        file=file,
        size=size,
        sha256=digest,
        layer=Layer.STACK,
    )


def _not_allowed(name: str, builds: SourceBuilds | None) -> LockError:
    reason = f"--build-sources is {builds}"
    if builds is None:
        reason = "the command line does not request it"
    return LockError(
        f"{name} has no wheel, and its source package is not built: {reason}",
        hint="a build runs the package's own program on this machine; if you trust it: `--build-sources all`",
    )


def _build_key(source: Source, stack: Stack) -> str:
    """All that a build depends on: its tools follow from the day, the Python and the archive."""
    return key_of(
        source.sha256,
        source.kind,
        source.name,
        source.subdirectory,
        stack.python,
        stack.as_of,
        stack.platform,
        _program_digest(),
        *source.environment,
    )


@cache
def _program_digest() -> str:
    return sha256(resources.text("sources", PROGRAM).encode()).hexdigest()


def commands_for_change(near: Sequence[Path], stack: Stack) -> str:
    """What locks again what lies in the folders of a build context, or in this folder."""
    command = "envbuilder lock --build-sources all"
    for folder in near:
        path = folder.parent / LOCK_FILE
        if not is_file(path):
            continue
        lock = shlex.quote(str(path))
        render = "envbuilder render"
        if stack.base.source is BaseSource.BOOTSTRAP:
            # The settings may request the same on a registry's base, and `render` alone is for that one.
            command += f" --base bootstrap --python {stack.python}"
            context = shlex.quote(str(path.parents[2]))
            render += f" --lock {lock} --output {context}"
        return f"`{command} --output {lock}`, then `{render}`,"
    return f"`{command}`"
