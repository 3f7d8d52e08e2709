"""`envbuilder accept`: Image → Receipt."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from envbuilder.cli.session import new_engine, print_json, session_from
from envbuilder.cli.settings import own_checks, setting
from envbuilder.cli.shared_options import (
    check_option,
    gpu_access_option,
    json_option,
    network_options,
    require_gpu_option,
    rerun_option,
)
from envbuilder.engine.gpu_access import GpuAccess

_MOST_SECONDS = 7 * 24 * 3600


class _Seconds(click.FloatRange):
    """A number of seconds. click takes NaN for a number within any bounds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            message = f"{value!r} is not a number of seconds"
            self.fail(message, param, ctx)
        return seconds


Callback = Callable[[click.Context, click.Parameter, str | None], str | None]


def _matching(pattern: str, words: str) -> Callback:
    """Checks an option's value, which becomes an argument of the engine."""

    def check(
        ctx: click.Context, param: click.Parameter, value: str | None
    ) -> str | None:
        if value is None or re.fullmatch(pattern, value):
            return value
        raise click.BadParameter(f"{value!r} is not {words}", ctx, param)

    return check


_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?"
_MEMORY = r"[0-9]{1,15}[bkmgBKMG]?"


@click.command(name="accept")
@click.argument("image")
@network_options
@check_option
@rerun_option
@click.option(
    "--report",
    multiple=True,
    metavar="FILE",
    help="Write .html, .xml (JUnit), .md or .json; repeatable.",
)
@click.option(
    "--only", metavar="ID[,ID]", help="Run only these checks; never enough to pass."
)
@gpu_access_option
@require_gpu_option
@click.option(
    "--deadline",
    type=_Seconds(1, _MOST_SECONDS),
    default=3600,
    show_default=True,
    help="Time limit in seconds.",
)
@click.option(
    "--user",
    metavar="UID[:GID]",
    callback=_matching(_USER, "a user, e.g. 1000:1000"),
    help="Run as this user.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    callback=_matching(_MEMORY, "a size, e.g. 2g"),
    help="Memory limit, e.g. 2g.",
)
@json_option
def command(
    image: str, as_json: bool, fresh: bool, report: tuple[str, ...], **options: Any
) -> int:
    """Run the acceptance suite on IMAGE, a name or an id, whoever built it."""
    from envbuilder import pipeline, serialize
    from envbuilder.acceptance import receipts, suite
    from envbuilder.acceptance import report as reports
    from envbuilder.console import answer
    from envbuilder.files import sweep_temporary_folders, write_file
    from envbuilder.format.receipt_text import receipt_text
    from envbuilder.model import Verdict

    # An unknown format is an error before the suite runs, not after.
    forms = [(Path(name), reports.form_of(Path(name).suffix)) for name in report]
    session = session_from(options)
    with new_engine() as engine:
        engine.sweep()
        sweep_temporary_folders()
        suite_options = pipeline.suite_options_for(
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
        suite.check_gpu(suite_options)
        receipt = pipeline.accept(image, engine, session, suite_options, fresh=fresh)
    for path, form in forms:
        write_file(path, form(receipt))
    if as_json:
        print_json(serialize.plain(receipt))
    else:
        answer(receipt_text(receipt))
    if receipt.verdict is Verdict.PASSED:
        return 0
    error = receipts.acceptance_error(receipt)
    session.console.error(error)
    return error.exit_code
