"""`envbuilder accept`: Image → Receipt."""

from typing import Any

import click

from envbuilder.cli.options import json_option, network_options, new_engine, print_json, setting, site_from
from envbuilder.gpu import GpuAccess


@click.command(name="accept")
@click.argument("image")
@network_options
@click.option("--gpu-access", type=click.Choice([x.value for x in GpuAccess]), help="How the suite gets GPUs [auto].")
@click.option("--require-gpu", is_flag=True, help="Fail where no GPU is seen, rather than run on the CPU.")
@click.option("--deadline", type=click.FloatRange(min=1), default=900, show_default=True, help="Seconds it may take.")
@click.option("--user", metavar="UID[:GID]", help="Run as this user.")
@json_option
def command(image: str, require_gpu: bool, user: str | None, deadline: float, as_json: bool, **options: Any) -> int:
    """Run the acceptance suite in IMAGE, a name or an id."""
    from envbuilder import wire, workflow
    from envbuilder.model import Verdict

    site = site_from(options)
    access = GpuAccess(setting(options, "gpu_access") or GpuAccess.AUTO)
    with new_engine() as engine:
        engine.sweep()
        receipt = workflow.accept(
            image, engine, site, gpu_access=access, require_gpu=require_gpu, user=user, deadline=deadline
        )
    if as_json:
        print_json(wire.plain(receipt))
    if receipt.verdict is Verdict.PASSED:
        site.console.say("accepted")
        return 0
    error = workflow.refusal(receipt)
    site.console.error(error)
    return error.exit_code
