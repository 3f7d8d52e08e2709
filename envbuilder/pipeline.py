"""The whole way, room after room: what `base`, `build` and `accept` do between parsing and printing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from envbuilder import lock as locks
from envbuilder import processes, serialize
from envbuilder.acceptance import receipts, suite
from envbuilder.acceptance.receipts import Store
from envbuilder.catalog.rows import Catalog
from envbuilder.console import Console, Row
from envbuilder.engine import bootstrap
from envbuilder.engine import build_process as builds
from envbuilder.engine.buildx import BuildOptions, Progress, Step, find_cause, wheel_sizes
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan, plan_gpu
from envbuilder.engine.image import ImageFacts
from envbuilder.engine.protocol import Engine
from envbuilder.engine.run_id import new_run_id, stamp
from envbuilder.errors import EngineError, NoStackError, UsageError
from envbuilder.files import refuse_links, temporary_folder, write_file
from envbuilder.model import (
    BASE_AUTO,
    BASE_BOOTSTRAP,
    REPOSITORY,
    Base,
    BaseSource,
    Lock,
    Receipt,
    Request,
    Stack,
    Verdict,
)
from envbuilder.network import Network
from envbuilder.render import context as render
from envbuilder.resolve import resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a command works with: the way to the index, the surroundings, and where its files go."""

    catalog: Catalog
    network: Network
    environ: Mapping[str, str]
    uv: locks.Uv
    console: Console
    today: date  # in UTC
    context: Path = Path("build")
    logs: Path = Path("build/logs")
    receipts: Path = Path("receipts")  # where they can be read; what spares a run is in the store
    store: Store | None = None
    said: tuple[str, ...] = ()  # what the command line said beside the request, for commands to try: "--catalog own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user wants of a build beside the request."""

    options: BuildOptions = field(default_factory=BuildOptions)
    tag: str | None = None
    gpu_access: GpuAccess = GpuAccess.AUTO
    require_gpu: bool = False
    push: bool = False
    fresh: bool = False  # run the suite even if this very image has passed it
    own: tuple[Path, ...] = ()  # checks of the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a build came to."""

    image: str
    tag: str
    size: int  # bytes
    seconds: float
    cached: int
    steps: int
    receipt: Receipt
    digest: str = ""  # the registry's, if it was pushed


def decide(request: Request, site: Site) -> Stack:
    """Request → a stack that can be locked and built; raises before anything is asked."""
    stack = resolver.resolve(request, site.catalog)
    locks.refuse(stack, index_url=site.uv.index_url, again=_again(request, site))
    return stack


def make_lock(request: Request, site: Site) -> Lock:
    """Request → Stack → Lock, without asking an engine."""
    return lock_stack(request, decide(request, site), site)


def lock_stack(request: Request, stack: Stack, site: Site, base_digest: str | None = None) -> Lock:
    """Stack → Lock; the request is what to ask again with other packages, if these clash."""
    _check_day(request, stack, site)
    return locks.make_lock(
        stack,
        uv=site.uv,
        catalog=site.catalog.date.isoformat(),
        again=_again(request, site),
        base_digest=base_digest,
    )


def _check_day(request: Request, stack: Stack, site: Site) -> None:
    """Say so if the index of the stack's day may still change. Raises `UsageError` for a day that has not come."""
    if request.as_of and request.as_of > site.today:
        raise UsageError(f"--as-of {request.as_of} is in the future", hint="give a day that has passed")
    settled = site.today - timedelta(days=site.catalog.policy.as_of.settle_days)
    if stack.as_of > settled:
        site.console.note(
            f"{stack.as_of} is less than {site.catalog.policy.as_of.settle_days} days ago: the index of that day can "
            "still change, and the same request may lock other files later; `envbuilder lock --check` tells"
        )


def _again(request: Request, site: Site) -> locks.Again:
    return lambda packages: resolver.command(replace(request, packages=tuple(packages)), "lock", beside=site.said)


# --- the base at hand ----------------------------------------------------------------------------------------------


def choose_stack(request: Request, stack: Stack, engine: Engine, site: Site) -> tuple[Stack, ImageFacts]:
    """`stack`, or the one whose base can be had here, and that base: the engine's store, a registry, then bootstrap."""
    try:
        return stack, have_base(stack, engine, site)
    except EngineError as error:
        if request.base != BASE_AUTO or stack.base.source is BaseSource.BOOTSTRAP:
            raise
        try:
            stack = resolver.resolve(replace(request, base=BASE_BOOTSTRAP), site.catalog)
        except NoStackError as refusal:
            raise EngineError(error.message, problems=refusal.reasons, hint=refusal.hint) from refusal
        site.console.say(f"{error.message}; going on with {stack.base.reference}, made here from Debian's packages")
    for note in stack.notes:
        site.console.note(note)
    return stack, have_base(stack, engine, site)


def have_base(stack: Stack, engine: Engine, site: Site) -> ImageFacts:
    """The base image of a stack in the engine's store; fetched or made if need be."""
    base = stack.base
    found = engine.image(base.reference)
    if (
        found
        and found.platform.startswith(stack.platform)  # one name is one image: it may be there for another machine
        and (base.source is BaseSource.REGISTRY or found.labels.get(bootstrap.LABEL) == bootstrap.contents(base))
    ):
        return found
    if base.source is BaseSource.BOOTSTRAP:
        if engine.platform() != stack.platform:
            raise EngineError(
                f"{base.reference} for {stack.platform} can be made only where an engine runs on {stack.platform}",
                problems=[f"this engine runs on {engine.platform()}"],
                hint="run the same command there, or name a base that is on a registry: `--base IMAGE --python X.Y`",
            )
        make_base(base, engine, site)
    else:
        refusal = engine.pull(base.reference, stack.platform)
        if refusal:
            raise EngineError(
                f"{base.reference} is neither in the engine's store nor on a registry that can be reached",
                problems=[refusal],
                hint="make a base here: `--base bootstrap`",
            )
    made = engine.image(base.reference)
    if made is None:
        raise EngineError(f"{base.reference} has vanished from the engine's store")
    return made


def make_base(base: Base, engine: Engine, site: Site) -> None:
    """Bootstrap a base image from Debian's packages."""
    said: list[str] = []
    site.console.say(f"making {base.reference} from Debian's packages ({base.os}, about 90 MB to download)")
    started = time.monotonic()
    with temporary_folder("base") as folder:
        tar = folder / "base.tar"
        argv, env = bootstrap.bootstrap_argv(base, tar), bootstrap.environment(site.environ, folder)
        code = processes.stream(processes.contain(argv, env=env), said.append, env=env, timeout=bootstrap.LONGEST)
        if code != 0:
            errors = [line.strip() for line in said if line.startswith(("E:", "Err:"))] or said[-3:]
            cause = find_cause("".join(said))
            raise EngineError(
                f"{base.reference} cannot be made: {cause[0] if cause else f'mmdebstrap ended with exit code {code}'}",
                problems=[line.strip() for line in errors[-4:]],
                hint=cause[1] if cause else "see that apt works on this machine: `apt-get update`",
            )
        engine.import_tar(tar, base.reference, bootstrap.changes(base))
    site.console.say(f"made {base.reference} in {time.monotonic() - started:.0f} s")


# --- build ---------------------------------------------------------------------------------------------------------


def build(request: Request | Lock, connect: Callable[[], Engine], site: Site, wishes: Wishes) -> Outcome:
    """The whole way to an accepted, tagged image; no engine is asked before the request makes sense.

    Raises `AcceptanceError`, and tags nothing, if it does not train.
    """
    stack = request.stack if isinstance(request, Lock) else decide(request, site)
    _refuse_links(site.context, site.logs, site.receipts)
    with connect() as engine:
        engine.sweep()
        if isinstance(request, Lock):
            have_base(stack, engine, site)
            return build_lock(request, engine, site, wishes)
        stack, base = choose_stack(request, stack, engine, site)
        site.console.say(f"locking {stack.name} as of {stack.as_of}")
        lock = lock_stack(request, stack, site, base.digest if stack.base.source is BaseSource.REGISTRY else None)
        return build_lock(lock, engine, site, wishes)


def _refuse_links(*places: Path) -> None:
    """Raise `UsageError` if one of our folders in the working directory is a link out of it."""
    refuse_links(Path(), *(str(place) for place in places if not place.is_absolute()))


def build_lock(lock: Lock, engine: Engine, site: Site, wishes: Wishes) -> Outcome:
    """Lock → Context → Image → Receipt → tag."""
    render.write(render.render(lock), site.context)
    built, seconds = build_context(lock, engine, site, wishes.options)
    receipt = earn(built.image, engine, site, wishes)
    tag = wishes.tag or f"{REPOSITORY}:{lock.stack.name}"
    engine.tag(built.image, tag)
    facts = engine.image(built.image)
    return Outcome(
        image=built.image,
        tag=tag,
        size=facts.size if facts else 0,
        seconds=round(seconds, 1),
        cached=built.cached,
        steps=built.steps,
        receipt=receipt,
        digest=push(tag, engine, site) if wishes.push else "",
    )


def push(tag: str, engine: Engine, site: Site) -> str:
    """Push a tag that has been earned; returns the digest by which it can be pulled, whatever becomes of the tag."""
    site.console.say(f"pushing {tag}")
    started = time.monotonic()
    digest = engine.push(tag)
    site.console.say(f"pushed {tag.rpartition(':')[0]}@{digest} in {time.monotonic() - started:.0f} s")
    return digest


def build_context(lock: Lock, engine: Engine, site: Site, options: BuildOptions) -> tuple[builds.Built, float]:
    """Build a rendered lock with a display of its steps; returns the image and the seconds it took."""
    log = builds.log_path(site.logs, lock.stack.name, stamp(new_run_id(), datetime.now(UTC)))
    started = time.monotonic()
    with site.console.rows() as show:

        def on_change(progress: Progress) -> None:
            show([step_row(step) for step in progress.steps.values() if step.title])

        built = builds.build(
            site.context,
            dockerfile=f"{render.place_of(lock.stack)}/Dockerfile",
            log=log,
            options=options,
            network=site.network,
            environ=dict(site.environ),
            on_change=on_change,
            sizes=wheel_sizes(lock),
            check=engine.pulse.check,
        )
    return built, time.monotonic() - started


def step_row(step: Step) -> Row:
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


def earn(image: str, engine: Engine, site: Site, wishes: Wishes) -> Receipt:
    """The receipt that lets an image have its tag; raises `AcceptanceError` if it does not get one."""
    trial = make_trial(engine, image, wishes.gpu_access, require_gpu=wishes.require_gpu, own=wishes.own)
    receipt = accept(image, engine, site, trial, fresh=wishes.fresh)
    if receipt.verdict is not Verdict.PASSED:
        raise receipts.acceptance_error(receipt)
    return receipt


def make_trial(engine: Engine, image: str, gpu_access: GpuAccess, **options: Any) -> suite.Trial:
    """How an image is tried on this engine; one of ours without CUDA asks for no GPU by itself."""
    trial = suite.Trial(gpu=plan_gpu(engine.offers(), gpu_access), **options)
    suite.validate(trial)
    found = engine.image(image)
    if gpu_access is GpuAccess.AUTO and found and found.labels.get(render.CUDA_LABEL) == render.NO_CUDA:
        trial = replace(trial, gpu=GpuPlan(access=GpuAccess.NONE, reason="no GPU: the image is made without CUDA"))
    return trial


def accept(image: str, engine: Engine, site: Site, trial: suite.Trial, *, fresh: bool = False) -> Receipt:
    """Run the suite with a display of its checks, and keep the receipt; or give the one that the image already has."""
    _refuse_links(site.receipts)
    found = suite.find_image(engine, image)
    wanted = suite.suite_hash(trial)
    host = suite.host_facts(engine, trial)
    earlier = site.store.find(found.id, wanted, host) if site.store and not fresh else None
    if earlier:
        site.console.say(f"accepted on {earlier.started}; image, suite and host are the same: not run again")
        _export(earlier, site)
        return earlier
    site.console.say(trial.gpu.reason)
    with site.console.rows() as show:
        receipt = suite.accept(engine, image, trial, on_change=show)
    if trial.only:
        return receipt
    problem = site.store.keep(receipt) if site.store else ""
    if problem:
        site.console.note(f"this receipt will spare no run: {problem}")
    _export(receipt, site)
    return receipt


def _export(receipt: Receipt, site: Site) -> None:
    """Put a receipt where people and programs look for it."""
    path = site.receipts / receipts.file_name(receipt)
    write_file(path, serialize.dumps(receipt))
    site.console.say(f"receipt: {path}")
