"""What this host asks of a stack where nobody asks for anything: its driver, its GPUs, its platform."""

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.stack_rules import best_for, for_host, with_capabilities
from envbuilder.host import local_probe
from envbuilder.host.collect import ask_gpus
from envbuilder.host.records import Host
from envbuilder.model import Request
from envbuilder.network import Network
from envbuilder.resolve.conflict import given


def ask(catalog: Catalog) -> Host:
    """This host's GPUs as the doctor sees them; no network and no engine is asked."""
    return with_capabilities(ask_gpus(local_probe.new_probe(Network(), catalog)), catalog)


def request_options_for(host: Host, catalog: Catalog) -> tuple[dict[str, str], str]:
    """The options of a request that this host makes, and the sentence that says so.

    What runs on all of its GPUs, if anything does; else what runs on the oldest.
    """
    best = best_for(Request(), host, catalog)
    request = best[0] if best else min(for_host(Request(), host), key=lambda wanted: Version(wanted.gpu or "0"))
    found = dict(given(request))
    told = " and ".join(f"--{name} {found[name]}" for name in ("driver", "gpu", "platform") if name in found)
    if not {"driver", "gpu"} & found.keys():
        seen = "nothing is asked for, and no NVIDIA driver is seen here: the best stack by policy"
        return found, f"{seen}, by {told}" if told else seen
    return found, f"nothing is asked for: the best stack for this host, by {told}{_others(host, all_run=bool(best))}"


def _others(host: Host, *, all_run: bool) -> str:
    """What a host with GPUs of several kinds has to know."""
    if len(host.capabilities) <= 1:
        return ""
    for_whom = "all of them run this" if all_run else "this is for the oldest"
    return f"; its GPUs differ ({', '.join(map(str, sorted(host.capabilities)))}): {for_whom}, `--gpu` chooses another"
