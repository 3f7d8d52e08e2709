"""Rules about the network: clock, proxy, CA, index and registry."""

from datetime import UTC, datetime, timedelta

from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, ours, unknown, warning
from envbuilder.doctor.remedies import Remedy
from envbuilder.host.records import Host, Reach, Trouble

_TOLERANCE = 120  # seconds between two clocks that are asked one after the other
_EARLIER = timedelta(days=1)  # the catalog's date is a day, in some time zone


def clock_is_right(case: Case) -> Finding | None:
    host = case.host
    remedy = remedies.SET_WSL_CLOCK if host.wsl else remedies.SET_CLOCK
    why = "TLS takes every certificate for expired or not yet valid: nothing can be downloaded"
    if host.clock is None:
        return unknown("clock", "what time this machine believes in is unknown")
    now = datetime.fromtimestamp(host.clock, UTC)
    if now < datetime(*case.catalog.date.timetuple()[:3], tzinfo=UTC) - _EARLIER:
        message = f"the clock says {now:%Y-%m-%d}, and this envbuilder knows facts of {case.catalog.date}"
        return error("clock", message, why, remedy)
    if any(reach and reach.trouble is Trouble.CLOCK for reach in (host.index, host.registry)):
        return error("clock", f"the clock says {now:%Y-%m-%d %H:%M} UTC, and certificates do not agree", why, remedy)
    if host.engine and host.engine.clock is not None and abs(host.engine.clock - host.clock) > _TOLERANCE:
        apart = abs(host.engine.clock - host.clock)
        why = "its containers get the wrong time: TLS and apt refuse what is not yet valid"
        return error("clock", f"the engine's clock is {apart:.0f} s from this machine's", why, remedy)
    return fine("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def network_is_there(case: Case) -> Finding | None:
    if not _is_offline(case.host):
        return None
    return error(
        "network",
        "there is no network",
        "neither an index nor a registry answers; with a lock, a base image and a warm cache builds still work",
        remedies.SHOW_ROUTES if case.host.route is False else remedies.SHOW_NAMES,
    )


def _is_offline(host: Host) -> bool:
    cut = (Trouble.NAME, Trouble.CONNECT)
    both = all(reach is not None and reach.trouble in cut for reach in (host.index, host.registry))
    return both or (host.route is False and host.index is not None and host.index.trouble in cut)


def proxy_reaches_the_engine(case: Case) -> Finding | None:
    host = case.host
    if not host.proxies or host.engine is None:
        return None
    names = " and ".join(host.proxies)
    set_here = f"{names} {'is' if len(host.proxies) == 1 else 'are'} set here"
    if host.engine.proxied:
        return fine("proxy", f"{names} here, and the engine has a proxy of its own")
    if host.registry and host.registry.trouble:
        why = f"it pulls without one, and fails: {host.registry.said}"
        return error("proxy", f"{set_here}, and the engine has no proxy", why, remedies.ENGINE_PROXY)
    why = "the engine pulls by itself; a shell's proxy does not reach it"
    return warning("proxy", f"{set_here}, and the engine has no proxy", why, remedies.ENGINE_PROXY)


def index_answers(case: Case) -> Finding | None:
    host = case.host
    if host.index is None:
        return unknown("index", "whether a package index answers is unknown")
    if host.index.trouble is None:
        return fine("index", "the package index answers")
    if host.index.trouble is Trouble.CLOCK or _is_offline(host):
        return None  # the clock, or the network, is what to mend
    message, remedy = _index_trouble(host.index)
    return error("index", message, f"`lock` and `build` take wheels from it; it says: {host.index.said}", remedy)


def _index_trouble(reach: Reach) -> tuple[str, Remedy]:
    match reach.trouble:
        case Trouble.ISSUER:
            message = "the package index shows a certificate of a CA that is not trusted here"
            return message, ours("doctor --ca-bundle FILE")
        case Trouble.PROXY:
            return "the proxy does not let us to the package index", ours("doctor --index-url URL")
        case Trouble.DENIED:
            return "the package index refuses us", ours("doctor --index-url URL")
    return "the package index does not answer", ours("doctor --index-url URL")


def registry_answers(case: Case) -> Finding | None:
    host = case.host
    if host.registry is None or host.engine is None:
        return unknown("registry", "whether a registry answers the engine is unknown")
    if host.registry.trouble is None:
        return fine("registry", "the registry answers the engine")
    if host.registry.trouble is Trouble.CLOCK or _is_offline(host) or (host.proxies and not _proxied(host)):
        return None
    message, remedy = _registry_trouble(host, host.registry)
    said = f"it says: {host.registry.said}"
    if host.mmdebstrap:
        return note("registry", message, f"bases are made from Debian's packages instead; {said}", remedy)
    return error("registry", message, f"base images come from it; {said}", remedy)


def _proxied(host: Host) -> bool:
    return bool(host.engine and host.engine.proxied)


def _registry_trouble(host: Host, reach: Reach) -> tuple[str, Remedy]:
    match reach.trouble:
        case Trouble.ISSUER:
            remedy = remedies.by_distribution(host, remedies.ENGINE_CA, remedies.ENGINE_CA_DNF)
            return "the engine does not trust the CA of what answers for the registry", remedy
        case Trouble.DENIED:
            return "the registry refuses the engine", remedies.LOGIN
    remedy = ours("build --base bootstrap") if host.mmdebstrap else remedies.BOOTSTRAP_TOOLS
    return "no registry answers the engine", remedy


def containers_trust_the_ca(case: Case) -> Finding | None:
    host = case.host
    if host.own_cas is None:
        return unknown("ca", "whether this machine has CAs of its own is unknown")
    if not host.own_cas:
        return None
    return warning(
        "ca",
        f"this machine trusts a CA of its own, and containers do not: {', '.join(host.own_cas)}",
        "builds get it as a secret; a run that downloads fails with `certificate verify failed`",
        remedies.CONTAINER_CA,
    )


def builds_trust_the_ca(case: Case) -> Finding | None:
    if case.host.ca is None:
        return unknown("build-ca", "which CAs a build would trust is unknown")
    if case.host.ca == "":
        return note(
            "build-ca", "no CA bundle is here: builds trust the public CAs only", "", ours("doctor --ca-bundle FILE")
        )
    return fine("build-ca", f"builds get {case.host.ca} as a secret")


def bases_can_be_made(case: Case) -> Finding | None:
    if case.host.mmdebstrap is None:
        return unknown("bootstrap", "whether mmdebstrap is here is unknown")
    if not case.host.mmdebstrap:
        why = "it makes a base from Debian's packages where no registry answers"
        return note(
            "bootstrap", "mmdebstrap is not here: bases come from a registry only", why, remedies.BOOTSTRAP_TOOLS
        )
    return fine("bootstrap", "bases can be made from Debian's packages")
