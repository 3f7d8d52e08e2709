"""`envbuilder build`: Request or Lock → Image → Receipt → tag."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.command_group import SuggestingChoice
from envbuilder.cli.project_build import project_build
from envbuilder.cli.request import refuse_request_options, request_from
from envbuilder.cli.requirement_files import say_answers
from envbuilder.cli.session import (
    new_engine,
    print_json,
    read_lock,
    session_beside,
    session_from,
)
from envbuilder.cli.settings import Options, caches, own_checks, setting
from envbuilder.cli.shared_options import (
    check_option,
    gpu_access_option,
    json_option,
    lock_option,
    network_options,
    request_options,
    require_gpu_option,
    requirements_option,
    rerun_option,
    tag_option,
    value_option,
)
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.engine.push_options import (
    COMPRESSIONS,
    PushOptions,
    parse_attestation,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock, Request
    from envbuilder.pipeline import BuildSettings, Session


@click.command(name="build")
@request_options
@requirements_option
@lock_option
@network_options
@tag_option
@click.option("--push", is_flag=True, help="Push the tag once the image is accepted.")
@click.option(
    "--compression",
    type=SuggestingChoice(COMPRESSIONS),
    help="With --push: compression of the layers in the registry (default: the engine's, gzip).",
)
@click.option(
    "--attest",
    "attestations",
    multiple=True,
    metavar="SPEC",
    help="With --push: attestation as for `docker buildx build --attest`, e.g. type=provenance,mode=max; repeatable.",
)
@value_option("--builder", metavar="NAME", help="buildx builder to use.")
@click.option(
    "--cache-to",
    multiple=True,
    metavar="SPEC",
    help="Cache destination, passed to `docker buildx build --cache-to`; repeatable.",
)
@click.option(
    "--cache-from",
    multiple=True,
    metavar="SPEC",
    help="Cache source, passed to `docker buildx build --cache-from`; repeatable.",
)
@click.option("--no-cache", is_flag=True, help="Build every step again.")
@gpu_access_option
@require_gpu_option
@check_option
@rerun_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan without contacting the engine or the package index.",
)
@json_option
def command(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Build an image, run the acceptance suite in it, and tag it only if it passes.

    In a repository that `envbuilder init` has set up: without options, build the image of its lock.
    """
    from envbuilder import pipeline
    from envbuilder.console import answer
    from envbuilder.format.build_text import outcome_document, outcome_text

    # The builder takes the platform, too.
    refuse_request_options(options, allowed={"platform"})
    settings = build_settings_from(options)
    session = session_beside(session_from(options), options["lock_file"])
    own = project_build(options, session)
    fallback = partial(own.fallback, session) if own else None
    if dry_run:
        planned = own.planned() if own else _request(options)
        _answer_plan(planned, session, settings, as_json=as_json)
        return
    request = own.required(session) if own else _request(options)
    outcome = pipeline.build(request, new_engine, session, settings, fallback)
    if own:
        own.record(outcome.lock, session)
    if as_json:
        print_json({"ok": True, **outcome_document(outcome)})
    else:
        answer(outcome_text(outcome))


def _request(options: Options) -> "Request | Lock":
    lock_file = options["lock_file"]
    if lock_file:
        return read_lock(lock_file)
    request = request_from(options)
    say_answers(only_left_out=True)
    return request


def _answer_plan(
    request: "Request | Lock",
    session: "Session",
    settings: "BuildSettings",
    *,
    as_json: bool,
) -> None:
    """Print the plan of a build; neither the engine nor the index is contacted."""
    from envbuilder import pipeline
    from envbuilder.console import answer
    from envbuilder.engine.buildx import build_argv
    from envbuilder.format.build_text import plan_document, plan_text
    from envbuilder.model import Lock
    from envbuilder.render.context import place_of, toolkit_of

    lock = request if isinstance(request, Lock) else None
    stack = (
        request.stack
        if isinstance(request, Lock)
        else pipeline.resolve_lockable(request, session)
    )
    dockerfile = f"{place_of(stack)}/Dockerfile"
    argv = build_argv(
        session.context,
        dockerfile=dockerfile,
        iidfile=Path("IIDFILE"),
        metadata=Path("METADATA"),
        options=settings.options,
        network=session.network,
        arguments=pipeline.build_arguments(
            stack,
            session.network,
            lock.base_digest if lock else None,
            toolkit=toolkit_of(lock) if lock else stack.toolkit,
        ),
    )
    places: dict[str, Any] = {"context": session.context, "dockerfile": dockerfile}
    if as_json:
        document = plan_document(stack, lock, settings, **places, argv=argv)
        print_json({"ok": True, **document})
    else:
        answer(plan_text(stack, lock, settings, **places, argv=argv))


def _push_options(options: Options) -> PushOptions:
    """Compression and attestations, checked: they change what is pushed, and nothing else."""
    from envbuilder.resolve.command_line import quoted

    for text in options["attestations"]:
        try:
            parse_attestation(text)
        except ValueError as error:
            raise UsageError(f"--attest {quoted(text)}: {error}") from error
    push_options = PushOptions(
        compression=options["compression"] or "", attestations=options["attestations"]
    )
    if push_options.writes_again and not options["push"]:
        raise UsageError(
            "--compression and --attest have no effect without --push",
            hint="add --push, or leave them out",
        )
    return push_options


def build_settings_from(options: Options) -> "BuildSettings":
    """The options of a build, checked before the engine is contacted."""
    from envbuilder import pipeline
    from envbuilder.engine.buildx import BuildOptions
    from envbuilder.resolve.command_line import quoted
    from envbuilder.resolve.parsers import parse_platform, parse_tag

    tag = setting(options, "tag") or None
    platform = setting(options, "platform") or BuildOptions().platform
    try:
        if tag:
            tag = parse_tag(tag)
        platform = parse_platform(platform)
    except ValueError as error:
        raise UsageError(f"{quoted(tag or platform)}: {error}") from error
    if options["push"] and tag is None:
        raise UsageError(
            "--push needs --tag",
            hint="include the registry: `--tag registry.example/team/train:1`",
        )
    access = GpuAccess(setting(options, "gpu_access") or GpuAccess.AUTO)
    if options["require_gpu"] and access is GpuAccess.NONE:
        raise UsageError("--require-gpu and --gpu-access none contradict each other")
    push_options = _push_options(options)
    return pipeline.BuildSettings(
        options=BuildOptions(
            platform=platform,
            builder=setting(options, "builder"),
            cache_to=caches(options, "cache_to"),
            cache_from=caches(options, "cache_from"),
            no_cache=options["no_cache"],
        ),
        tag=tag,
        gpu_access=access,
        require_gpu=options["require_gpu"],
        push=options["push"],
        push_options=push_options,
        fresh=options["fresh"],
        own=own_checks(options),
    )
