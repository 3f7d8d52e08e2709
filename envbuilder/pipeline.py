"""The whole way from a request to an accepted image: what `base`, `build` and `accept` do."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder import catalog, processes, serialize
from envbuilder.acceptance import compiled_wheels, receipts, shipped, suite
from envbuilder.acceptance.receipts import Store
from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.catalog.rows import Catalog
from envbuilder.console import Console, Row
from envbuilder.engine import bootstrap
from envbuilder.engine import build_process as builds
from envbuilder.engine.buildx import (
    LOAD,
    BuildOptions,
    BuildProgress,
    BuildStep,
    find_cause,
    wheel_sizes,
)
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, plan_gpu
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.mirrored import mirrored_base, mirrored_image
from envbuilder.engine.protocol import Engine
from envbuilder.engine.push_options import PushOptions, check_store, is_same_image
from envbuilder.engine.run_id import new_run_id, stamp
from envbuilder.errors import EngineError, NoStackError
from envbuilder.files import refuse_links, temporary_folder, write_file
from envbuilder.grammar import JsonObject, one_line
from envbuilder.lock import creation, wheel_links
from envbuilder.lock.cuda_refusal import CudaLinks
from envbuilder.lock.package_conflict import CommandFor, PackageOrigin
from envbuilder.lock.pin_lookup import PinnedPackages, look_up_pins
from envbuilder.lock.sources.workshop import SourceWorkshop
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_libraries import LinkReader
from envbuilder.model import (
    BASE_AUTO,
    BASE_BOOTSTRAP,
    REPOSITORY,
    Base,
    BaseSource,
    Context,
    Lock,
    Receipt,
    Request,
    Stack,
    Verdict,
)
from envbuilder.network import Network
from envbuilder.render.context import (
    COMPILED_LABEL,
    CUDA_LABEL,
    NO_CUDA,
    place_of,
    render_context,
    sources_place,
    toolkit_of,
)
from envbuilder.render.context_folder import write_context
from envbuilder.resolve import dated, resolve
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.command_line import check_day, command
from envbuilder.resolve.torch_ranges import ResolveAs, torch_ranges

_MOST_PYTHONS = 4  # that are tried if packages have no wheels for one
COMPILED = "COMPILED"
"""The argument of a Dockerfile that becomes the label of what was compiled."""
SKIP_LINKS = "ENVBUILDER_LINK_CHECK"
"""`off` in the environment: lock without looking at what the user's packages link to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a command runs with: the catalog, the way to the index, the environment, and where its files go."""

    catalog: Catalog
    network: Network
    environ: Mapping[str, str]
    uv: Uv
    console: Console
    today: date  # in UTC
    context: Path = Path("build")
    logs: Path = Path("build/logs")
    receipts: Path = Path(
        "receipts"
    )  # where they can be read; what spares a run is in the store
    store: Store | None = None
    said: tuple[
        str, ...
    ] = ()  # options of the command line besides the request, for suggested commands
    verb: str = "lock"  # of the command, for suggested ones
    workshop: SourceWorkshop | None = None  # for packages that are not on an index
    explain: bool = False  # all of uv's derivation, if packages clash
    in_project: bool = False  # in a repository that `envbuilder init` has set up


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """The settings of a build, besides its request."""

    options: BuildOptions = field(default_factory=BuildOptions)
    tag: str | None = None
    gpu_access: GpuAccess = GpuAccess.AUTO
    require_gpu: bool = False
    push: bool = False
    push_options: PushOptions = field(default_factory=PushOptions)
    fresh: bool = False  # run the suite even if this very image has passed it
    own: tuple[Path, ...] = ()  # custom checks


Fallback = Callable[[], Lock | None]
"""Gives the lock of the same torch on a base that is made here, if there can be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The result of a build."""

    lock: Lock
    image: str
    tag: str
    size: int  # bytes
    seconds: float
    cached: int
    steps: int
    receipt: Receipt
    digest: str = ""  # the registry's, if it was pushed


class NoBaseError(EngineError):
    """Neither the engine nor a registry has the base image: another base may be had."""


def resolve_lockable(request: Request, session: Session) -> Stack:
    """Request → a stack that can be locked and built; raises before anything is downloaded."""
    stack = _resolve(request, session)
    session.uv.index_for(stack)  # raises if nobody knows its address
    return stack


def _resolve(request: Request, session: Session) -> Stack:
    return resolve(request, session.catalog, verb=session.verb, flags=session.said)


def make_lock(
    request: Request,
    session: Session,
    find_digest: Callable[[Base], str | None] | None = None,
) -> Lock:
    """Request → Stack → Lock; `find_digest` gives the digest of its base image, if a registry can be asked."""
    stack = resolve_lockable(request, session)
    lock = lock_stack(request, stack, session)
    if find_digest is None:
        return lock
    digest = find_digest(stack.base)
    return replace(lock, base_digest=digest)


def lock_stack(
    request: Request, stack: Stack, session: Session, base_digest: str | None = None
) -> Lock:
    """Stack → Lock; the request is for the suggested command, if its packages clash."""
    pins = PinnedPackages()
    if request.as_of is None:
        pins = look_up_pins(session.uv, stack, request.packages)

    stack, notes = dated(stack, request, session.catalog, pins.spans)
    for text in (*notes, pins.note):
        if text:
            session.console.note(text)

    def resolve_as(changed: Request) -> tuple[str, Stack] | None:
        return _resolve_as(changed, request, session, pins)

    _check_day(request, stack, session)
    reader = _link_reader(stack, session)
    links = None
    if reader:
        links = CudaLinks(
            reader=reader,
            of_cuda=lambda major: _of_cuda(request, session, major),
        )
    return creation.create_lock(
        stack,
        uv=session.uv,
        catalog=session.catalog.date.isoformat(),
        command_for=_command_for(request, stack, session),
        base_digest=base_digest,
        origin=PackageOrigin(
            places=dict(request.places),
            ranges=lambda: torch_ranges(request, stack, session.catalog, resolve_as),
            any_python=lambda: _on_any_python(request, stack, session, resolve_as),
            explain=session.explain,
        ),
        note=session.console.note,
        on_locked=lambda lock, document: _note_links(lock, document, reader, session),
        workshop=_workshop_for(request, session),
        links=links,
    )


def _workshop_for(request: Request, session: Session) -> SourceWorkshop | None:
    """The workshop, which compiles for the GPU that is requested."""
    workshop = session.workshop
    if workshop is None or request.gpu is None:
        return workshop
    gpu = find_gpu(request.gpu, session.catalog)
    if gpu is None:
        return workshop
    return workshop.for_gpu(gpu.capability)


def render(lock: Lock, session: Session, *near: Path) -> Context:
    """Lock → Context, with the archives of the lock's sources; `near`: build contexts that may have them already."""
    workshop = session.workshop
    if workshop is None or not lock.sources:
        return render_context(lock)
    place = sources_place(lock.stack)
    folders = [folder / place for folder in near]
    archives = workshop.archives(lock, near=folders)
    return render_context(lock, archives)


def _resolve_as(
    changed: Request, request: Request, session: Session, pins: PinnedPackages
) -> tuple[str, Stack] | None:
    """The command for another request than the user's, and its stack; None if there is none."""
    again = command(changed, session.verb, instead_of=request, flags=session.said)
    try:
        stack = _resolve(changed, session)
    except NoStackError:
        return None
    stack, _ = dated(stack, changed, session.catalog, pins.spans)
    return again, stack


def _on_any_python(
    request: Request, stack: Stack, session: Session, resolve_as: ResolveAs
) -> Iterator[tuple[str, Stack]]:
    """The same torch on every other Python, the nearest first, and the command for each."""
    free = replace(request, python=None)
    for python in _other_pythons(free, stack, session):
        changed = replace(request, torch=stack.torch, python=python)
        if stack.cuda:
            changed = replace(changed, cuda=Version(stack.cuda_line))
        found = resolve_as(changed)
        if found:
            yield found


def _other_pythons(request: Request, stack: Stack, session: Session) -> list[Version]:
    """A few Pythons that the same torch and the request allow: older ones first, the nearest of them first."""
    index = index_for(session.catalog)
    mask = index.matching(request) & index.mask_for_packages(request)
    older = set()
    newer = set()
    for candidate in index.candidates_in(mask):
        cuda = None if candidate.cpu else candidate.build.cuda
        python = candidate.python
        if candidate.build.torch != stack.torch or cuda != stack.cuda:
            continue
        if python < stack.python:
            older.add(python)
        elif python > stack.python:
            newer.add(python)
    pythons = sorted(older, reverse=True) + sorted(newer)
    return pythons[:_MOST_PYTHONS]


def _of_cuda(
    request: Request, session: Session, major: int
) -> Iterator[tuple[str, Stack]]:
    """The same request with each CUDA of a major, and the command for it; the preferred one first."""
    free = replace(request, cuda=None, torch=None)
    index = index_for(session.catalog)
    mask = index.matching(free) & index.mask_for_packages(free)
    lines: dict[Version, None] = {}
    for candidate in index.candidates_in(mask):
        cuda = candidate.build.cuda
        if candidate.cpu or cuda is None or cuda.major != major:
            continue
        lines[Version(f"{cuda.major}.{cuda.minor}")] = None
    for line in lines:
        changed = replace(free, cuda=line)
        again = command(changed, session.verb, instead_of=request, flags=session.said)
        yield again, _resolve(changed, session)


def _link_reader(stack: Stack, session: Session) -> LinkReader | None:
    """How to find out what the user's packages link to; None if it is not wanted."""
    if not stack.extras or session.environ.get(SKIP_LINKS) == "off":
        return None
    folder = session.store.folder.with_name("links") if session.store else None
    return LinkReader(network=session.network, folder=folder)


def _note_links(
    lock: Lock, document: JsonObject, reader: LinkReader | None, session: Session
) -> None:
    """Say which libraries of the system the user's packages need and the image lacks."""
    if reader is None:
        return
    own = catalog.own_folder(session.catalog)
    libraries = catalog.read(catalog.SYSTEM_LIBRARIES, own=own)
    answer = reader.read(lock, document)
    for note in wheel_links.link_notes(lock, answer, libraries):
        session.console.note(note)


def _check_day(request: Request, stack: Stack, session: Session) -> None:
    """Warn if the index of the stack's day may still change. Raises `UsageError` for a day in the future."""
    check_day(request, session.today)
    days = session.catalog.policy.as_of.settle_days
    if stack.as_of > session.today - timedelta(days=days):
        session.console.note(
            f"{stack.as_of} is less than {days} days ago: the index of that day can still change, and the same request "
            "may lock other files later; `envbuilder lock --check` shows whether it did"
        )


def _command_for(request: Request, stack: Stack, session: Session) -> CommandFor:
    def again(packages: Sequence[str]) -> str:
        companions = []
        needed: set[str] = set()
        for companion in stack.companions:
            needed.update((companion.requirement, *companion.needs))
            if companion.requirement in packages:
                companions.append(companion.request)
        own = [package for package in packages if package not in needed]
        if _lost_of_files(request, (*own, *companions)):
            return ""
        return command(
            replace(request, packages=tuple(own), companions=tuple(companions)),
            session.verb,
            instead_of=request,
            flags=session.said,
        )

    return again


def _lost_of_files(request: Request, packages: Sequence[str]) -> bool:
    """Whether a package of the project's files is missing, and no other version of it is named.

    No command can leave it out: the files would be read again.
    """
    names = {canonicalize_name(Requirement(package).name) for package in packages}
    for package, _ in request.places:
        # Other lines are Debian's packages, and bounds of Python.
        if package not in request.packages or package in packages:
            continue
        name = canonicalize_name(Requirement(package).name)
        if name not in names:
            return True
    return False


# --- the base image ----------------------------------------------------------------------------------------------


def resolve_with_available_base(
    request: Request, stack: Stack, engine: Engine, session: Session
) -> tuple[Stack, ImageFacts]:
    """`stack`, or the one whose base is available here, and that base: engine store, registry, then bootstrap."""
    try:
        return stack, ensure_base(stack, engine, session)
    except NoBaseError as error:
        if request.base != BASE_AUTO:
            raise
        try:
            stack = _resolve(replace(request, base=BASE_BOOTSTRAP), session)
        except NoStackError as refusal:
            raise EngineError(
                error.message, problems=refusal.plain_reasons, hint=refusal.hint
            ) from refusal
        base = stack.base.reference
        session.console.say(
            f"{error.message}; continuing with {base}, built from Debian packages"
        )
    for note in stack.notes:
        session.console.note(note)
    return stack, ensure_base(stack, engine, session)


def ensure_locked_base(lock: Lock, engine: Engine, session: Session) -> ImageFacts:
    """The base image that a lock has decided: another base needs another lock."""
    stack = lock.stack
    hint = _lock_again(stack, session)
    return ensure_base(stack, engine, session, hint=hint, digest=lock.base_digest)


def _with_available_base(
    lock: Lock, engine: Engine, session: Session, fallback: Fallback | None
) -> Lock:
    """`lock` with its base in the engine's store; or, if no registry has that base, the lock to build instead."""
    try:
        image = ensure_locked_base(lock, engine, session)
        _note_unpinned(lock, image, session)
        return lock
    except NoBaseError as error:
        other = fallback() if fallback else None
        if other is None:
            raise
        session.console.say(
            f"{error.message}; building {other.stack.name} instead, on a base from Debian packages"
        )
    ensure_locked_base(other, engine, session)
    return other


def _note_unpinned(lock: Lock, image: ImageFacts, session: Session) -> None:
    """Say that a repository's lock does not pin a base which came from a registry."""
    base = lock.stack.base
    if lock.base_digest or base.source is not BaseSource.REGISTRY:
        return
    if image.digest and session.in_project:
        session.console.note(
            f"the lock does not pin {base.reference} by digest; to pin it: `envbuilder lock --upgrade-base`"
        )


def can_resolve(request: Request, session: Session) -> bool:
    """Whether a stack fits the request."""
    return index_for(session.catalog).best(request) is not None


def on_bootstrapped_base(request: Request, stack: Stack) -> Request:
    """The request for a stack's torch, CUDA and packages on a base from Debian packages.

    Not for its Python: Debian has one of its own in each release.
    """
    return replace(
        request,
        cuda=Version(stack.cuda_line) if stack.cuda else None,
        torch=stack.torch,
        flavour=stack.flavour,
        platform=stack.platform,
        python=None,
        base=BASE_BOOTSTRAP,
        os=None,
        packages=stack.own_extras,
        companions=stack.companion_requests,
        apt=stack.own_apt,
    )


def on_same_base(request: Request, stack: Stack) -> Request:
    """The request for a stack's torch, CUDA, Python and packages: settings may leave open what a lock has decided."""
    return replace(
        on_bootstrapped_base(request, stack),
        python=stack.python,
        base=request.base,
        os=request.os,
    )


def _lock_again(stack: Stack, session: Session) -> str:
    """The command that locks the same torch for the same CUDA on a base from Debian packages."""
    if session.in_project:
        flags = " ".join(["--base bootstrap --force", *session.said])
        return f"the lock has decided the base; lock another one: `envbuilder init {flags}`"
    request = on_bootstrapped_base(Request(), stack)
    if not can_resolve(request, session):
        return ""
    again = command(request, "lock", flags=session.said)
    return f"the lock has decided the base; lock another one: `{again}`"


def ensure_base(
    stack: Stack,
    engine: Engine,
    session: Session,
    hint: str = "build a base from Debian packages: `--base bootstrap`",
    digest: str | None = None,
) -> ImageFacts:
    """The base image of a stack in the engine's store; pulled or built if need be. `digest`: exactly that one."""
    base = stack.base
    if base.source is BaseSource.REGISTRY:
        base = mirrored_base(base, session.network.registry_mirror)
    reference = f"{base.reference}@{digest}" if digest else base.reference
    image = engine.image(reference)
    if image and _is_base_of(stack, image):
        if base.own:
            _check_custom_base(stack, image)
        return image
    other = (
        f" for {stack.platform}: the one there is for {image.platform}" if image else ""
    )
    if base.source is BaseSource.BOOTSTRAP:
        _check_platform(stack, engine)
        make_base(base, engine, session)
    else:
        session.console.say(f"pulling {reference}")
        failure = engine.pull(reference, stack.platform)
        if failure:
            raise NoBaseError(
                f"{reference} was not found in the engine's store nor on any reachable registry{other}",
                problems=[failure],
                hint=hint,
            )
    image = engine.image(reference)
    if image is None:
        raise EngineError(f"{reference} has vanished from the engine's store")
    if base.own:
        _check_custom_base(stack, image)
    return image


_USED_FOLDERS = ("/opt", "/opt/venv", "/opt/envbuilder", "/home", "/home/trainer")


def _check_custom_base(stack: Stack, image: ImageFacts) -> None:
    """Raise `EngineError` for what a Dockerfile cannot undo; what it can, docker/system/base.sh looks at."""
    reference = stack.base.reference
    hint = (
        "choose another base: `--base IMAGE`, or leave it to envbuilder: `--base auto`"
    )
    if not image.platform.startswith(stack.platform):
        raise EngineError(
            f"{reference} is for {image.platform}, and the stack for {stack.platform}",
            hint=hint,
        )
    if image.on_build:
        first = one_line(image.on_build[0])
        raise EngineError(
            f"{reference} runs instructions of its own in whatever is built on it (ONBUILD {first})",
            hint=hint,
        )
    for folder in image.volumes:
        if folder.rstrip("/") in _USED_FOLDERS:
            raise EngineError(
                f"{reference} has {one_line(folder)} as a volume: what a build writes there is lost",
                hint=hint,
            )


def _is_base_of(stack: Stack, image: ImageFacts) -> bool:
    """Whether an image with the base's name is that base: it may be another platform's, or an older envbuilder's."""
    if not image.platform.startswith(stack.platform):
        return False
    if stack.base.source is BaseSource.REGISTRY:
        return True
    return image.labels.get(bootstrap.LABEL) == bootstrap.contents(stack.base)


def _check_platform(stack: Stack, engine: Engine) -> None:
    if engine.platform() == stack.platform:
        return
    raise EngineError(
        f"{stack.base.reference} for {stack.platform} can only be built by an engine that runs on {stack.platform}",
        problems=[f"this engine runs on {engine.platform()}"],
        hint="run the same command there, or use a base from a registry: `--base IMAGE --python X.Y`",
    )


def make_base(base: Base, engine: Engine, session: Session) -> None:
    """Build a base image from Debian packages."""
    say = session.console.say
    say(
        f"building {base.reference} from Debian packages ({base.os}, about 90 MB to download)"
    )
    started = time.monotonic()
    with temporary_folder("base") as folder:
        tar = folder / "base.tar"
        _run_mmdebstrap(base, tar, session)
        changes = bootstrap.changes(base)
        engine.import_tar(tar, base.reference, changes)
    seconds = time.monotonic() - started
    say(f"built {base.reference} in {seconds:.0f} s")


def _run_mmdebstrap(base: Base, tar: Path, session: Session) -> None:
    """Write a base as a tar; the work is done in its folder."""
    network = session.network
    folder = tar.parent
    output: list[str] = []
    env = bootstrap.environment(session.environ, folder, network)
    command_line = bootstrap.bootstrap_argv(base, tar, network)
    argv = processes.contain(command_line, env=env)
    code = processes.stream(
        argv,
        output.append,
        env=env,
        timeout=bootstrap.LONGEST,
    )
    if code != 0:
        raise _bootstrap_error(base, code, output, network)


def _bootstrap_error(
    base: Base, code: int, output: Sequence[str], network: Network
) -> EngineError:
    """The error of an mmdebstrap that failed: its cause if that is known, and apt's own error lines."""
    lines = [line.strip() for line in output if line.startswith(("E:", "Err:"))]
    if not lines:
        lines = [line.strip() for line in output[-3:]]
    cause, hint = (
        f"mmdebstrap ended with exit code {code}",
        "check that apt works on this machine: `apt-get update`",
    )
    known = find_cause("".join(output))
    if known:
        cause, hint = known
        if network.apt_mirror is None:
            hint += "; or use a mirror of Debian: `--apt-mirror URL`"
    return EngineError(
        f"{base.reference} cannot be built: {cause}",
        problems=[network.hide_token(line) for line in lines[-4:]],
        hint=hint,
    )


# --- build ---------------------------------------------------------------------------------------------------------


def build(
    request: Request | Lock,
    connect: Callable[[], Engine],
    session: Session,
    settings: BuildSettings,
    fallback: Fallback | None = None,
) -> BuildResult:
    """The whole way to an accepted, tagged image; the engine is not contacted for an impossible request.

    `fallback` gives the lock to build if no registry has the base of this one. Raises `AcceptanceError`, and tags
    nothing, if it does not train.
    """
    stack = (
        request.stack
        if isinstance(request, Lock)
        else resolve_lockable(request, session)
    )
    _refuse_links(session.context, session.logs, session.receipts)
    with connect() as engine:
        engine.sweep()
        _check_required_gpu(stack, engine, settings)
        _check_push(engine, settings)
        if isinstance(request, Lock):
            lock = _with_available_base(request, engine, session, fallback)
            return build_lock(lock, engine, session, settings)
        stack, base = resolve_with_available_base(request, stack, engine, session)
        # A base that was built here has a new digest on every machine: only a registry's can be locked.
        digest = base.digest if stack.base.source is BaseSource.REGISTRY else None
        session.console.say(f"locking {stack.name} as of {stack.as_of}")
        lock = lock_stack(request, stack, session, digest)
        return build_lock(lock, engine, session, settings)


def _check_required_gpu(stack: Stack, engine: Engine, settings: BuildSettings) -> None:
    """Raise `AcceptanceError` if a GPU is required and the suite could not have one: before anything is built."""
    if not settings.require_gpu:
        return
    gpu = plan_gpu(engine.gpu_support(), settings.gpu_access)
    if stack.cuda is None and settings.gpu_access is GpuAccess.AUTO:
        gpu = _NO_CUDA_PLAN
    suite.check_gpu(suite.SuiteOptions(gpu=gpu, require_gpu=True))


def _check_push(engine: Engine, settings: BuildSettings) -> None:
    """Raise an error if the image could not be pushed as requested: before it is built."""
    if not settings.push_options.writes_again:
        return
    containerd = engine.has_containerd_store()
    builder = settings.options.builder
    check_store(settings.push_options, containerd=containerd, builder=builder)


def _refuse_links(*places: Path) -> None:
    """Raise `UsageError` if one of our folders in the working directory is a link out of it."""
    relative = [str(place) for place in places if not place.is_absolute()]
    refuse_links(Path(), *relative)


def build_lock(
    lock: Lock, engine: Engine, session: Session, settings: BuildSettings
) -> BuildResult:
    """Lock → Context → Image → Receipt → tag."""
    write_context(render(lock, session, session.context), session.context)
    built, seconds = build_context(lock, engine, session, settings.options)
    if lock.compiled:
        built, more = _with_label(built, lock, engine, session, settings.options)
        seconds += more
    receipt = require_acceptance(built.image, engine, session, settings)
    tag = settings.tag or f"{REPOSITORY}:{lock.stack.name}"
    engine.tag(built.image, tag)
    image = engine.image(built.image)
    digest = ""
    if settings.push:
        pushed = _for_registry(built.image, lock, engine, session, settings)
        if pushed != built.image:
            engine.tag(pushed, tag)
        digest = push(tag, engine, session)
    return BuildResult(
        lock=lock,
        image=built.image,
        tag=tag,
        size=image.size if image else 0,
        seconds=round(seconds, 1),
        cached=built.cached,
        steps=built.steps,
        receipt=receipt,
        digest=digest,
    )


def _with_label(
    built: builds.Built,
    lock: Lock,
    engine: Engine,
    session: Session,
    options: BuildOptions,
) -> tuple[builds.Built, float]:
    """The same image with a label that says what was compiled in it: nobody knows the wheels' hashes before."""
    files = engine.read_folder(built.image, shipped.FOLDER)
    wheels = compiled_wheels.read_report(files.get(compiled_wheels.REPORT))
    for wheel in wheels:
        session.console.say(f"compiled {wheel.wheel}: sha256 {wheel.sha256}")
    # All of it is in the cache.
    again = replace(options, no_cache=False)
    label = compiled_wheels.label_of(wheels)
    labelled, seconds = build_context(
        lock, engine, session, again, arguments={COMPILED: label}
    )
    return replace(labelled, cached=built.cached), seconds


def push(tag: str, engine: Engine, session: Session) -> str:
    """Push a tag of an accepted image; returns the digest by which it can be pulled, even if the tag moves on."""
    session.console.say(f"pushing {tag}")
    started = time.monotonic()
    digest = engine.push(tag)
    repository = tag.rpartition(":")[0]
    session.console.say(
        f"pushed {repository}@{digest} in {time.monotonic() - started:.0f} s"
    )
    return digest


def _for_registry(
    accepted: str, lock: Lock, engine: Engine, session: Session, settings: BuildSettings
) -> str:
    """The accepted image in the form in which it is pushed.

    BuildKit writes it again from its cache. If layers and configuration are those of the accepted image, it is that
    image; if not (estargz adds a table to each layer), it has to pass the suite itself.
    """
    options = settings.push_options
    if not options.writes_again:
        return accepted
    session.console.say(f"writing the image again, with {options.describe()}")
    build_options = replace(
        settings.options, no_cache=False, cache_to=(), cache_from=()
    )
    before = suite.find_image(engine, accepted)
    written, _ = build_context(
        lock,
        engine,
        session,
        build_options,
        output=options.output_words(),
        arguments={COMPILED: before.labels.get(COMPILED_LABEL, "")},
    )
    after = suite.find_image(engine, written.image)
    if is_same_image(before, after):
        session.console.say(
            "its layers and configuration are those of the accepted image"
        )
    else:
        session.console.say("its layers are not those of the accepted image")
        require_acceptance(written.image, engine, session, settings)
    return written.image


def build_context(
    lock: Lock,
    engine: Engine,
    session: Session,
    options: BuildOptions,
    *,
    output: Sequence[str] = LOAD,
    arguments: Mapping[str, str] | None = None,
) -> tuple[builds.Built, float]:
    """Build a rendered lock with a display of its steps; returns the image and the seconds it took."""
    log = builds.log_path(
        session.logs, lock.stack.name, stamp(new_run_id(), datetime.now(UTC))
    )
    started = time.monotonic()
    with session.console.rows() as show:

        def on_change(progress: BuildProgress) -> None:
            rows = [step_row(step) for step in progress.steps.values() if step.title]
            show(rows)

        built = builds.build(
            session.context,
            dockerfile=f"{place_of(lock.stack)}/Dockerfile",
            log=log,
            options=options,
            network=session.network,
            environ=dict(session.environ),
            on_change=on_change,
            sizes=wheel_sizes(lock),
            arguments=_arguments(lock, session, arguments or {}),
            check=engine.pulse.check,
            output=output,
        )
    return built, time.monotonic() - started


def _arguments(lock: Lock, session: Session, more: Mapping[str, str]) -> dict[str, str]:
    arguments = build_arguments(
        lock.stack,
        session.network,
        lock.base_digest,
        toolkit=toolkit_of(lock),
    )
    for name, value in more.items():
        if value:
            arguments[name] = value
    return arguments


def build_arguments(
    stack: Stack,
    network: Network,
    base_digest: str | None = None,
    *,
    toolkit: str | None = None,
) -> dict[str, str]:
    """The arguments of a Dockerfile that a mirror replaces: its base, and the image with nvcc, by their names there."""
    mirror = network.registry_mirror
    arguments = {}
    base = mirrored_base(stack.base, mirror)
    if base != stack.base:
        digest = f"@{base_digest}" if base_digest else ""
        arguments["BASE"] = base.reference + digest
    if toolkit and mirror:
        arguments["TOOLKIT"] = mirrored_image(toolkit, mirror)
    return arguments


def step_row(step: BuildStep) -> Row:
    """One build step as a line of the display."""
    state = "waiting"
    if step.error:
        state = "failed"
    elif step.done:
        state = "cached" if step.cached else "done"
    elif step.started:
        state = "running"
    # The title of a layer of wheels names its size already: the amount is for the time of the download.
    shows_amount = state == "running" or not step.wheels
    return Row(
        title=step.title,
        state=state,
        seconds=step.seconds if step.done else None,
        current=step.current,
        total=step.total if shows_amount else 0,
        unit="B",
        note=step.log[-1].strip() if step.log and state == "running" else "",
    )


# --- accept --------------------------------------------------------------------------------------------------------


_NO_CUDA_PLAN = GpuPlan(access=GpuAccess.NONE, reason="no GPU: the image has no CUDA")


def require_acceptance(
    image: str, engine: Engine, session: Session, settings: BuildSettings
) -> Receipt:
    """The receipt that lets an image have its tag; raises `AcceptanceError` if it does not get one."""
    suite_options = suite_options_for(
        engine,
        image,
        settings.gpu_access,
        require_gpu=settings.require_gpu,
        own=settings.own,
    )
    receipt = accept(image, engine, session, suite_options, fresh=settings.fresh)
    if receipt.verdict is not Verdict.PASSED:
        raise receipts.acceptance_error(receipt)
    return receipt


def suite_options_for(
    engine: Engine, image: str, gpu_access: GpuAccess, **options: Any
) -> suite.SuiteOptions:
    """How an image is tried on this engine; one of ours without CUDA gets no GPU unless it is requested."""
    suite_options = suite.SuiteOptions(
        gpu=plan_gpu(engine.gpu_support(), gpu_access), **options
    )
    suite.validate(suite_options)
    facts = engine.image(image)
    without_cuda = facts is not None and facts.labels.get(CUDA_LABEL) == NO_CUDA
    if without_cuda and gpu_access is GpuAccess.AUTO:
        return replace(suite_options, gpu=_NO_CUDA_PLAN)
    return suite_options


def accept(
    image: str,
    engine: Engine,
    session: Session,
    suite_options: suite.SuiteOptions,
    *,
    fresh: bool = False,
) -> Receipt:
    """Run the suite with a display of its checks and keep the receipt; or return the one that the image already has."""
    _refuse_links(session.receipts)
    facts = suite.find_image(engine, image)
    if session.store and not fresh:
        earlier = session.store.find(
            facts.id,
            suite.suite_hash(suite_options),
            suite.host_facts(engine, suite_options),
        )
        if earlier:
            session.console.say(
                f"already accepted on {earlier.started} (same image, suite and host); `--rerun` runs it again"
            )
            _export(earlier, session)
            return earlier
    session.console.say(suite_options.gpu.reason)
    with session.console.rows() as show:
        receipt = suite.accept(engine, image, suite_options, on_change=show)
    if suite_options.only:
        return receipt
    problem = session.store.keep(receipt) if session.store else ""
    if problem:
        session.console.note(f"this receipt will not spare a run: {problem}")
    _export(receipt, session)
    return receipt


def _export(receipt: Receipt, session: Session) -> None:
    """Write a receipt where people and programs look for it."""
    path = session.receipts / receipts.file_name(receipt)
    write_file(path, serialize.dumps(receipt))
    session.console.say(f"receipt: {path}")
