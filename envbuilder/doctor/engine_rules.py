"""Rules about the container engine and its client."""

import re

from packaging.version import InvalidVersion, Version

from envbuilder.catalog.rows import LeastVersion
from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning
from envbuilder.doctor.remedies import Remedy
from envbuilder.host.records import EngineFailure, Host

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")  # of 26.1.5+dfsg1 and 0.15.1-desktop.1
_NEEDED = "nothing can be built or run without one"


def engine_answers(case: Case) -> Finding | None:
    engine = case.host.engine
    if engine.daemon:
        return fine(
            "engine", f"{engine.daemon.program.title()} {engine.daemon.version} answers"
        )
    if engine.failure is None:
        return unknown("engine", "whether a container engine is running is unknown")
    message, remedy = _failure(case.host)
    why = _NEEDED
    if engine.message:
        why = f"{_NEEDED} (error: {engine.message})"
    return error("engine", message, why, remedy)


def _failure(host: Host) -> tuple[str, Remedy]:
    """What is wrong with the engine, and what fixes it."""
    match host.engine.failure:
        case EngineFailure.MISSING:
            return "no `docker` command was found", remedies.docker(host)
        case EngineFailure.DENIED:
            return (
                "the container engine is running, but this user may not connect to it",
                remedies.JOIN_DOCKER,
            )
        case EngineFailure.STOPPED if host.engine.docker_host:
            return "no container engine answers at DOCKER_HOST", remedies.FORGET_HOST
        case EngineFailure.STOPPED:
            return "the container engine is not running", _start(host)
        case EngineFailure.SILENT:
            return (
                "the container engine does not answer in time",
                remedies.DOCKER_CONTEXTS,
            )
    return "no container engine answers", remedies.DOCKER_CONTEXTS


def _start(host: Host) -> Remedy:
    if host.machine.wsl:
        return remedies.START_DESKTOP
    return remedies.START_DOCKER


def engine_is_local(case: Case) -> Finding | None:
    if not case.host.engine.is_remote:
        return None
    why = (
        "containers run on that machine, not on this one: "
        "run `envbuilder doctor --json > host.json` there and `envbuilder doctor --target host.json` here"
    )
    return unknown(
        "remote",
        "the engine runs on another machine, whose disk, driver and GPUs are unknown",
        why,
    )


def engine_is_docker(case: Case) -> Finding | None:
    daemon = case.host.engine.daemon
    if daemon is None or daemon.program == "docker":
        return None
    return error(
        "engine",
        f"`docker` is Podman {daemon.version}",
        "images are built by Docker's BuildKit; Podman can stay, and can run them",
        remedies.DOCKER_PAGE,
    )


def engine_is_new_enough(case: Case) -> Finding | None:
    host = case.host
    daemon = host.engine.daemon
    if daemon is None:
        return None
    if daemon.program != "docker":
        return None
    least = _least(case, "docker", daemon.version)
    if least is None:
        return None
    message = f"Docker {daemon.version} is older than {least.version}"
    return error("engine", message, least.says, remedies.docker(host))


def buildkit_is_on(case: Case) -> Finding | None:
    if not case.host.engine.buildkit_off or not _is_docker(case.host):
        return None
    why = (
        "`docker compose build` and `docker build` fail with `Unknown flag: link` in the Dockerfile; "
        "`envbuilder build` uses BuildKit anyway"
    )
    return warning(
        "buildkit", "DOCKER_BUILDKIT=0 turns BuildKit off", why, remedies.BUILDKIT_ON
    )


def engine_is_no_snap(case: Case) -> Finding | None:
    daemon = case.host.engine.daemon
    if daemon is None or not daemon.root.startswith("/var/snap/"):
        return None
    return warning(
        "snap",
        "Docker is installed as a snap",
        "it cannot read folders outside your home, and `nvidia-ctk` cannot configure it; "
        "install Docker's own packages instead",
        remedies.NO_SNAP,
    )


def buildx_is_installed(case: Case) -> Finding | None:
    host = case.host
    if not _is_docker(host):
        return None
    if host.engine.buildx is None:
        return unknown("buildx", "whether `docker buildx` is installed is unknown")
    if host.engine.buildx == "":
        return error(
            "buildx",
            "`docker buildx` is not installed",
            "images are built with it",
            remedies.buildx(host),
        )
    least = _least(case, "buildx", host.engine.buildx)
    if least:
        message = f"buildx {host.engine.buildx} is older than {least.version}"
        return error("buildx", message, least.says, remedies.buildx(host))
    return fine("buildx", f"buildx {host.engine.buildx}")


def _is_docker(host: Host) -> bool:
    """Whether there is a client, and no other engine's."""
    if host.engine.failure is EngineFailure.MISSING:
        return False
    return host.engine.daemon is None or host.engine.daemon.program == "docker"


def compose_is_v2(case: Case) -> Finding | None:
    host = case.host
    version = host.engine.compose
    if host.engine.failure is EngineFailure.MISSING:
        return None
    if version is None:
        return unknown("compose", "whether Docker Compose is installed is unknown")
    remedy = remedies.compose(host)
    if version == "":
        return note(
            "compose",
            "Docker Compose is not installed",
            "`docker compose up train` needs it",
            remedy,
        )
    if _is_before(version, "2"):
        why = "it cannot read envbuilder's `compose.yaml`, and has not been maintained since 2023"
        return warning("compose", f"Docker Compose {version} is version 1", why, remedy)
    least = _least(case, "compose", version)
    if least:
        message = f"Docker Compose {version} is older than {least.version}"
        return warning("compose", message, least.says, remedy)
    return fine("compose", f"Compose {version}")


def _least(case: Case, program: str, version: str) -> LeastVersion | None:
    """What the catalog says of a program that is too old; None for one that is not, or of which it says nothing."""
    number = _NUMBER.match(version)
    if number is None:
        return None
    found = Version(number[0])
    for row in case.catalog.least_versions:
        if row.program != program:
            continue
        if found < row.version:
            return row
    return None


def _is_before(version: str, bound: str) -> bool:
    try:
        return Version(version) < Version(bound)
    except InvalidVersion:
        return False


def files_belong_to_the_user(case: Case) -> Finding | None:
    daemon, uid = case.host.engine.daemon, case.host.machine.uid
    if daemon is None or uid is None:
        return unknown("user", "who owns files that containers write is unknown")
    if daemon.rootless:
        why = (
            "root in a container is you on the host; any other user in it is a subordinate id, "
            "whose files are not yours: train with `--user 0`"
        )
        return note("user", f"{daemon.program.title()} is rootless", why)
    if daemon.remaps_users:
        why = (
            "files that containers write to your folders are owned by a subordinate id"
        )
        return note("user", "the engine maps users to other ids (userns-remap)", why)
    if uid == 0:
        return fine("user", "you are root; with `--user $(id -u)` files belong to root")
    return fine("user", f"you are user {uid}; with `--user $(id -u)` files are yours")


def control_groups_are_current(case: Case) -> Finding | None:
    daemon = case.host.engine.daemon
    if daemon is None or daemon.cgroups is None:
        return unknown("cgroups", "the version of the control groups is unknown")
    if daemon.cgroups != 1:
        return fine("cgroups", "control groups are version 2")
    why = "memory limits work; systemd and new engines are dropping it"
    if daemon.rootless:
        why = "a rootless engine ignores memory and CPU limits with it; systemd and new engines are dropping it"
    return note("cgroups", "control groups are version 1", why)
