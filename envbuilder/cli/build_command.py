"""`envbuilder build`: Request or Lock → Image → Receipt → tag."""

from typing import Any

import click

from envbuilder.cli.shared_options import (
    caches,
    check_option,
    json_option,
    lock_option,
    network_options,
    new_engine,
    own_checks,
    print_json,
    read_lock,
    request_from,
    request_options,
    setting,
    site_from,
)
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.errors import UsageError


@click.command(name="build")
@request_options
@lock_option
@network_options
@click.option("--tag", metavar="NAME:TAG", help="What to call the image; envbuilder:<stack> if not given.")
@click.option("--push", is_flag=True, help="Push the tag once the image is accepted.")
@click.option("--builder", metavar="NAME", help="The buildx builder.")
@click.option("--cache-to", multiple=True, metavar="SPEC", help="As buildx takes it.")
@click.option("--cache-from", multiple=True, metavar="SPEC", help="As buildx takes it.")
@click.option("--no-cache", is_flag=True, help="Build every step again.")
@click.option("--gpu-access", type=click.Choice([x.value for x in GpuAccess]), help="How the suite gets GPUs [auto].")
@click.option("--require-gpu", is_flag=True, help="Fail where no GPU is seen, rather than run on the CPU.")
@check_option
@click.option("--fresh", is_flag=True, help="Run the suite even if this very image has passed it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; ask no engine and no index.")
@json_option
def command(lock_file: str | None, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Build an image, prove that it trains, and only then give it its tag."""
    from envbuilder import pipeline
    from envbuilder.console import answer
    from envbuilder.format.stack_text import outcome_document, outcome_text, plan_text

    request = read_lock(lock_file) if lock_file else request_from(options)
    wishes = wishes_from(options)
    site = site_from(options)
    if dry_run:
        answer(plan_text(request, site, wishes))
        return
    outcome = pipeline.build(request, new_engine, site, wishes)
    if as_json:
        print_json({"ok": True, **outcome_document(outcome)})
    else:
        answer(outcome_text(outcome))


def wishes_from(options: dict[str, Any]) -> Any:
    """The options of a build, checked before any engine is asked."""
    from envbuilder import pipeline
    from envbuilder.engine.buildx import BuildOptions
    from envbuilder.resolve.command_line import quoted
    from envbuilder.resolve.parsers import parse_platform, parse_tag

    tag = setting(options, "tag")
    platform = setting(options, "platform") or BuildOptions().platform
    try:
        tag = parse_tag(tag) if tag else None
        platform = parse_platform(platform)
    except ValueError as error:
        raise UsageError(f"{quoted(tag or platform)}: {error}") from error
    if options["push"] and tag is None:
        raise UsageError("--push needs --tag", hint="name the registry: `--tag registry.example/team/train:1`")
    access = GpuAccess(setting(options, "gpu_access") or GpuAccess.AUTO)
    if options["require_gpu"] and access is GpuAccess.NONE:
        raise UsageError("--require-gpu and --gpu-access none exclude each other")
    return pipeline.Wishes(
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
        fresh=options["fresh"],
        own=own_checks(options),
    )
