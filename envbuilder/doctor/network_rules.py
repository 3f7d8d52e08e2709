"""Rules about the network: clock, proxy, CA, index and registry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from envbuilder.doctor import remedies
from envbuilder.doctor.finding import (
    Case,
    Finding,
    error,
    fine,
    note,
    own_command,
    unknown,
    warning,
)
from envbuilder.doctor.remedies import Remedy
from envbuilder.host.records import ConnectionFailure, Host, Reachability
from envbuilder.model import BASE_BOOTSTRAP, Request
from envbuilder.resolve.command_line import command, context_flags

_TOLERANCE = 120  # seconds between two clocks that are asked one after the other
_EARLIER = timedelta(days=1)  # the catalog's date is a day, in some time zone
_NOT_CONNECTED = (ConnectionFailure.NAME, ConnectionFailure.CONNECT)


def clock_is_right(case: Case) -> Finding | None:
    machine, network = case.host.machine, case.host.network
    if machine.clock is None:
        return unknown("clock", "the time of this machine's clock is unknown")
    remedy = remedies.SET_WSL_CLOCK if machine.wsl else remedies.SET_CLOCK
    why = "every TLS certificate looks expired or not yet valid: nothing can be downloaded"
    now = datetime.fromtimestamp(machine.clock, UTC)
    day = case.catalog.date
    if now < datetime(day.year, day.month, day.day, tzinfo=UTC) - _EARLIER:
        message = f"the clock is wrong: it shows {now:%Y-%m-%d}, before the date of the catalog, {day}"
        return error("clock", message, why, remedy)
    if ConnectionFailure.CLOCK in (_failure(network.index), _failure(network.registry)):
        message = f"the clock shows {now:%Y-%m-%d %H:%M} UTC, when a server's certificate is not valid"
        return error("clock", message, why, remedy)
    apart = _seconds_apart(case.host)
    if apart is not None and apart > _TOLERANCE:
        why = "containers get the wrong time: TLS and apt reject what is not yet valid"
        return error(
            "clock",
            f"the engine's clock is {apart:.0f} s from this machine's",
            why,
            remedy,
        )
    return fine("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _seconds_apart(host: Host) -> float | None:
    """Between the clocks of this machine and of the engine; None if one is unknown."""
    here = host.machine.clock
    daemon = host.engine.daemon
    if here is None or daemon is None:
        return None
    there = daemon.clock
    if there is None:
        return None
    return abs(there - here)


def _failure(server: Reachability | None) -> ConnectionFailure | None:
    return server.failure if server else None


def network_is_up(case: Case) -> Finding | None:
    if not _is_offline(case.host):
        return None
    return error(
        "network",
        "there is no network connection",
        "neither an index nor a registry answers; with a lock, a base image and a warm cache builds still work",
        remedies.SHOW_ROUTES
        if case.host.network.route is False
        else remedies.SHOW_NAMES,
    )


def _is_offline(host: Host) -> bool:
    """Whether nothing was reached; without a default route the index alone tells."""
    if _failure(host.network.index) not in _NOT_CONNECTED:
        return False
    return (
        host.network.route is False or _failure(host.network.registry) in _NOT_CONNECTED
    )


def proxy_reaches_the_engine(case: Case) -> Finding | None:
    network, daemon = case.host.network, case.host.engine.daemon
    if not network.proxies or daemon is None:
        return None
    names = " and ".join(network.proxies)
    if daemon.proxied:
        return fine("proxy", f"{names} set, and the engine has its own proxy")
    verb = "is" if len(network.proxies) == 1 else "are"
    message = f"{names} {verb} set, but the engine has no proxy"
    if network.registry and network.registry.failure:
        why = f"the engine pulls without a proxy, which fails (error: {network.registry.message})"
        return error("proxy", message, why, remedies.ENGINE_PROXY)
    why = "the engine pulls by itself: proxy variables of a shell do not reach it"
    return warning("proxy", message, why, remedies.ENGINE_PROXY)


def index_answers(case: Case) -> Finding | None:
    index = case.host.network.index
    if index is None:
        return unknown("index", "whether the package index answers is unknown")
    if index.failure is None:
        return fine("index", "the package index answers")
    if index.failure is ConnectionFailure.CLOCK or _is_offline(case.host):
        return None  # fixing the clock, or the network, comes first
    message, remedy = _index_failure(index)
    return error(
        "index",
        message,
        f"`lock` and `build` download wheels from it (error: {index.message})",
        remedy,
    )


def _index_failure(index: Reachability) -> tuple[str, Remedy]:
    match index.failure:
        case ConnectionFailure.ISSUER:
            message = (
                "the package index has a certificate of a CA that is not trusted here"
            )
            return message, own_command("doctor --ca-bundle FILE")
        case ConnectionFailure.PROXY:
            return "the proxy blocks the package index", own_command(
                "doctor --index-url URL"
            )
        case ConnectionFailure.DENIED:
            return "the package index denies access", own_command(
                "doctor --index-url URL"
            )
    return "the package index does not answer", own_command("doctor --index-url URL")


def registry_answers(case: Case) -> Finding | None:
    host = case.host
    registry, daemon = host.network.registry, host.engine.daemon
    if registry is None or daemon is None:
        return unknown("registry", "whether the engine can reach a registry is unknown")
    if registry.failure is None:
        return fine("registry", "the engine can reach a registry")
    if registry.failure is ConnectionFailure.CLOCK or _is_offline(host):
        return None
    if host.network.proxies and not daemon.proxied:
        return None  # the rule about the proxy has said so
    message, remedy = _registry_failure(case, registry)
    if host.network.mmdebstrap:
        why = f"base images will be built from Debian packages (error: {registry.message})"
        return note("registry", message, why, remedy)
    return error(
        "registry",
        message,
        f"base images are pulled from it (error: {registry.message})",
        remedy,
    )


def _registry_failure(case: Case, registry: Reachability) -> tuple[str, Remedy]:
    host = case.host
    match registry.failure:
        case ConnectionFailure.ISSUER:
            return (
                "the engine does not trust the CA of the registry's certificate",
                remedies.engine_ca(host),
            )
        case ConnectionFailure.DENIED:
            return "the registry denies the engine access", remedies.LOGIN
    if host.network.mmdebstrap:
        request = replace(case.request or Request(), base=BASE_BOOTSTRAP)
        build = command(request, "build", flags=context_flags(case.catalog))
        remedy = Remedy(command=build, source="envbuilder")
        return "the engine cannot reach a registry", remedy
    return "the engine cannot reach a registry", remedies.BOOTSTRAP_TOOLS


def containers_trust_the_ca(case: Case) -> Finding | None:
    paths = case.host.network.private_cas
    if paths is None:
        return unknown("ca", "whether this machine trusts a private CA is unknown")
    if not paths:
        return None
    return warning(
        "ca",
        f"this machine trusts a private CA that containers do not: {', '.join(paths)}",
        "builds get it as a secret; a run that downloads fails with `certificate verify failed`",
        remedies.CONTAINER_CA,
    )


def builds_trust_the_ca(case: Case) -> Finding | None:
    ca = case.host.network.ca
    if ca is None:
        return unknown("build-ca", "which CAs a build trusts is unknown")
    if ca == "":
        message = "no CA bundle was found: builds trust public CAs only"
        return note("build-ca", message, "", own_command("doctor --ca-bundle FILE"))
    return fine("build-ca", f"builds get {ca} as a secret")


def bases_can_be_bootstrapped(case: Case) -> Finding | None:
    mmdebstrap = case.host.network.mmdebstrap
    if mmdebstrap is None:
        return unknown("bootstrap", "whether mmdebstrap is installed is unknown")
    if mmdebstrap:
        return fine("bootstrap", "base images can be built from Debian packages")
    message = "mmdebstrap is not installed: base images come from a registry only"
    why = "it builds a base image from Debian packages when no registry answers"
    return note("bootstrap", message, why, remedies.BOOTSTRAP_TOOLS)
