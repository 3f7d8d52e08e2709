"""The request that this host makes when the command line makes none: its driver, its GPUs, its platform."""

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.stack_rules import best_for, for_host, with_capabilities
from envbuilder.host import local_probe
from envbuilder.host.collect import collect_gpus
from envbuilder.host.records import Host
from envbuilder.model import Request
from envbuilder.network import Network
from envbuilder.resolve.command_line import texts_of_set_options


def ask(catalog: Catalog) -> Host:
    """This host's GPUs as the doctor sees them; no network and no engine is asked."""
    return with_capabilities(
        collect_gpus(local_probe.new_probe(Network(), catalog)), catalog
    )


def request_options_for(host: Host, catalog: Catalog) -> tuple[dict[str, str], str]:
    """The options of a request for this host, and the sentence that tells the user about them.

    The request is for what runs on all of its GPUs, if anything does; else for what runs on the oldest.
    """
    best = best_for(Request(), host, catalog)
    if best:
        request = best[0]
    else:
        request = min(for_host(Request(), host, catalog), key=_capability)
    options = texts_of_set_options(request)
    flags = [
        f"--{name} {options[name]}"
        for name in ("driver", "gpu", "platform")
        if name in options
    ]
    chosen = " and ".join(flags)
    if "driver" in options or "gpu" in options:
        message = f"no options given; using the best stack for this host: {chosen}"
        return options, message + _about_other_gpus(host, all_run=best is not None)
    message = "no options given and no NVIDIA driver found; using the default stack"
    return options, f"{message} for {chosen}" if chosen else message


def _capability(request: Request) -> Version:
    return Version(request.gpu or "0")


def _about_other_gpus(host: Host, *, all_run: bool) -> str:
    """What the user of a host with different GPUs has to know."""
    if len(host.gpu.capabilities) <= 1:
        return ""
    capabilities = ", ".join(
        str(capability) for capability in sorted(host.gpu.capabilities)
    )
    for_which = "all of them run this" if all_run else "this is for the oldest"
    return f"; its GPUs differ ({capabilities}): {for_which}, use `--gpu` to choose another"
