"""`envbuilder accept`: Image → Receipt."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from envbuilder.cli.shared_options import (
    check_option,
    json_option,
    network_options,
    new_engine,
    own_checks,
    print_json,
    setting,
    site_from,
)
from envbuilder.engine.gpu_access import GpuAccess

_MOST_SECONDS = 7 * 24 * 3600


class _Seconds(click.FloatRange):
    """A number of seconds; NaN is between any two numbers for click."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


def _matching(pattern: str, words: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """What checks an option's value, which becomes a word of the engine's."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r} is not {words}", ctx, param)
        return value

    return check


_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?"
_MEMORY = r"[0-9]{1,15}[bkmgBKMG]?"


@click.command(name="accept")
@click.argument("image")
@network_options
@check_option
@click.option("--fresh", is_flag=True, help="Run it even if this image has a receipt of this suite on this host.")
@click.option("--report", multiple=True, metavar="FILE", help="Write .html, .xml (JUnit), .md or .json; repeatable.")
@click.option("--only", metavar="ID[,ID]", help="Run these checks alone; never enough to pass.")
@click.option("--gpu-access", type=click.Choice([x.value for x in GpuAccess]), help="How the suite gets GPUs [auto].")
@click.option("--require-gpu", is_flag=True, help="Fail where no GPU is seen, rather than run on the CPU.")
@click.option(
    "--deadline", type=_Seconds(1, _MOST_SECONDS), default=3600, show_default=True, help="Seconds it may take."
)
@click.option(
    "--user", metavar="UID[:GID]", callback=_matching(_USER, "a user, as 1000:1000"), help="Run as this user."
)
@click.option(
    "--memory", metavar="SIZE", callback=_matching(_MEMORY, "a size, as 2g"), help="Run with so much memory, as 2g."
)
@json_option
def command(image: str, as_json: bool, fresh: bool, report: tuple[str, ...], **options: Any) -> int:
    """Run the acceptance suite on IMAGE, a name or an id; ours or anybody's."""
    from envbuilder import pipeline, serialize
    from envbuilder.acceptance import receipts
    from envbuilder.acceptance import report as reports
    from envbuilder.console import answer
    from envbuilder.files import sweep_temporary_folders, write_file
    from envbuilder.format.stack_text import receipt_text
    from envbuilder.model import Verdict

    forms = [(Path(name), reports.form_of(Path(name).suffix)) for name in report]
    site = site_from(options)
    with new_engine() as engine:
        engine.sweep()
        sweep_temporary_folders()
        trial = pipeline.make_trial(
            engine,
            image,
            GpuAccess(setting(options, "gpu_access") or GpuAccess.AUTO),
            require_gpu=options["require_gpu"],
            user=options["user"],
            memory=options["memory"],
            only=tuple(options["only"].split(",")) if options["only"] else (),
            own=own_checks(options),
            deadline=options["deadline"],
        )
        receipt = pipeline.accept(image, engine, site, trial, fresh=fresh)
    for path, form in forms:
        write_file(path, form(receipt))
    if as_json:
        print_json(serialize.plain(receipt))
    else:
        answer(receipt_text(receipt))
    if receipt.verdict is Verdict.PASSED:
        return 0
    error = receipts.acceptance_error(receipt)
    site.console.error(error)
    return error.exit_code
