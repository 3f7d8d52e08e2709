"""Rules about the container engine and its client."""

from packaging.version import InvalidVersion, Version

from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning
from envbuilder.doctor.remedies import Remedy
from envbuilder.host.records import EngineTrouble, Host

_NEEDED = "nothing can be built or run without one"


def engine_answers(case: Case) -> Finding | None:
    host = case.host
    if host.engine:
        return fine("engine", f"{host.engine.program.title()} {host.engine.version} answers")
    if host.engine_trouble is None:
        return unknown("engine", "whether a container engine answers is unknown")
    message, remedy = _trouble(host)
    why = f"{_NEEDED}; it says: {host.engine_said}" if host.engine_said else _NEEDED
    return error("engine", message, why, remedy)


def _trouble(host: Host) -> tuple[str, Remedy]:
    match host.engine_trouble:
        case EngineTrouble.MISSING:
            return "there is no `docker` command", remedies.docker(host)
        case EngineTrouble.DENIED:
            return "the container engine runs, but this user may not speak to it", remedies.JOIN_DOCKER
        case EngineTrouble.STOPPED if host.docker_host:
            return "no container engine answers where DOCKER_HOST points", remedies.FORGET_HOST
        case EngineTrouble.STOPPED:
            return "no container engine answers", _start(host)
        case EngineTrouble.SILENT:
            return "the container engine does not answer in time", remedies.DOCKER_CONTEXTS
    return "no container engine answers", remedies.DOCKER_CONTEXTS


def _start(host: Host) -> Remedy:
    if host.wsl:
        return remedies.START_DESKTOP
    return remedies.ENGINE_UP if host.distribution == "debian" else remedies.START_DOCKER


def engine_is_here(case: Case) -> Finding | None:
    if not case.host.engine_is_elsewhere:
        return None
    why = "what this machine has does not count; `envbuilder doctor --json` there, and `--target` here"
    return unknown("elsewhere", "the engine runs on another machine: its disk, driver and GPUs are unknown", why)


def engine_is_docker(case: Case) -> Finding | None:
    engine = case.host.engine
    if engine is None or engine.program == "docker":
        return None
    return error(
        "engine",
        f"`docker` is Podman {engine.version}",
        "images are built with BuildKit and its `--metadata-file`, which Podman does not have",
        remedies.by_distribution(case.host, remedies.NO_PODMAN_APT, remedies.NO_PODMAN_DNF),
    )


def engine_is_no_snap(case: Case) -> Finding | None:
    engine = case.host.engine
    if engine is None or not engine.root.startswith("/var/snap/"):
        return None
    return warning(
        "snap",
        "Docker is a snap",
        "it sees no folder outside your home, and `nvidia-ctk` does not configure it; "
        "install Docker's own packages instead",
        remedies.NO_SNAP,
    )


def buildx_is_there(case: Case) -> Finding | None:
    host = case.host
    if host.engine_trouble is EngineTrouble.MISSING or (host.engine and host.engine.program != "docker"):
        return None
    if host.buildx is None:
        return unknown("buildx", "whether `docker buildx` is there is unknown")
    if host.buildx == "":
        remedy = remedies.UBUNTU_BUILDX if host.distribution == "ubuntu" else remedies.docker(host)
        return error("buildx", "`docker buildx` is not there", "images are built with it", remedy)
    return fine("buildx", f"buildx {host.buildx}")


def compose_is_v2(case: Case) -> Finding | None:
    host = case.host
    if host.engine_trouble is EngineTrouble.MISSING:
        return None
    if host.compose is None:
        return unknown("compose", "whether Docker Compose is there is unknown")
    remedy = remedies.UBUNTU_COMPOSE if host.distribution == "ubuntu" else remedies.docker(host)
    if host.compose == "":
        return note("compose", "Docker Compose is not there", "`docker compose up train` needs it", remedy)
    if _is_before(host.compose, "2"):
        why = "it does not read `compose.yaml` as we write it, and nobody has maintained it since 2023"
        return warning("compose", f"Docker Compose is {host.compose}: the old one", why, remedy)
    return fine("compose", f"Compose {host.compose}")


def _is_before(version: str, bound: str) -> bool:
    try:
        return Version(version) < Version(bound)
    except InvalidVersion:
        return False


def files_belong_to_the_user(case: Case) -> Finding | None:
    host = case.host
    if host.engine is None or host.uid is None:
        return unknown("user", "who owns the files that containers write is unknown")
    if host.engine.rootless:
        return note(
            "user",
            f"{host.engine.program.title()} is rootless",
            "root in a container is you on the host; any other user in it is a subordinate id, and files it writes are "
            "not yours: train with `--user 0`",
        )
    if host.engine.remaps_users:
        why = "files that containers write to a folder of yours are owned by a subordinate id"
        return note("user", "the engine maps users to others (userns-remap)", why)
    if host.uid == 0:
        return fine("user", "you are root; files of `--user $(id -u)` are root's")
    return fine("user", f"you are {host.uid}; files of `--user $(id -u)` are yours")


def control_groups_are_current(case: Case) -> Finding | None:
    engine = case.host.engine
    if engine is None or engine.cgroups is None:
        return unknown("cgroups", "the version of the control groups is unknown")
    if engine.cgroups == 1:
        why = "memory limits work; systemd and new engines are dropping it"
        if engine.rootless:
            why = "a rootless engine ignores memory and CPU limits with it; systemd and new engines are dropping it"
        return note("cgroups", "control groups are version 1", why)
    return fine("cgroups", "control groups are version 2")
