"""The noun `Host`: what a machine is, as its own answers tell.

`host.ask` fills it by asking; the document that `envbuilder doctor --json` writes carries it to another machine.
In every field None is what could not be found out; `""`, `()` and False are what was looked for and is not there.
"""

from dataclasses import dataclass
from enum import StrEnum

from packaging.version import InvalidVersion, Version

from envbuilder.grammar import Count, Prose, Seconds

DESKTOP = "Docker Desktop"
"""What it calls the operating system of its virtual machine, which gets this machine's GPUs."""


class EngineTrouble(StrEnum):
    """Why no container engine answers."""

    MISSING = "missing"  # there is no `docker` command
    STOPPED = "stopped"  # nothing listens on its socket
    DENIED = "denied"  # it listens, and this user may not speak to it
    SILENT = "silent"  # it listens, and does not answer in time
    OTHER = "other"


class Trouble(StrEnum):
    """Why a server was not reached."""

    NAME = "name"  # its name does not resolve
    CONNECT = "connect"  # refused, unreachable, timed out
    CLOCK = "clock"  # a certificate that is not valid at the time this machine believes in
    ISSUER = "issuer"  # a certificate signed by a CA that is not trusted
    PROXY = "proxy"  # the proxy between refuses
    DENIED = "denied"  # the server itself refuses: credentials, rate limit
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether a server answered; `trouble` is None if it did."""

    trouble: Trouble | None = None
    said: Prose = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    name: Prose
    capability: Version | None = None  # compute capability: 8.6
    mig: bool | None = None  # cut into instances (Multi-Instance GPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine by its own account."""

    program: Prose  # "docker" or "podman"
    version: Prose
    local: bool  # it runs on this machine: what this machine has is what containers get
    system: Prose = ""  # the operating system it runs on: "Docker Desktop"
    root: Prose = ""  # where it keeps its images
    rootless: bool = False
    remaps_users: bool = False  # userns-remap: root in a container is another user on the host
    cgroups: Count | None = None  # version of the control groups: 1 or 2
    runtimes: tuple[Prose, ...] = ()
    default_runtime: Prose = ""
    cdi: bool | None = None  # whether `--device vendor/class=name` is on
    cdi_devices: tuple[Prose, ...] = ()
    proxied: bool = False  # it pulls through a proxy
    clock: Seconds | None = None  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything that was asked of one machine."""

    # the machine
    os: Prose | None = None  # "Debian GNU/Linux 12 (bookworm)"
    distribution: Prose | None = None  # "debian", "ubuntu", "fedora": /etc/os-release, ID
    machine: Prose | None = None  # "x86_64", "aarch64"
    uid: Count | None = None
    wsl: bool | None = None
    jetson: Prose | None = None  # the model, if it is one
    container: bool | None = None  # the answers come from inside a container
    clock: Seconds | None = None  # seconds since 1970
    # the engine
    engine: Engine | None = None
    engine_trouble: EngineTrouble | None = None
    engine_said: Prose = ""
    docker_host: bool | None = None  # DOCKER_HOST says where the engine is
    buildx: Prose | None = None  # version
    compose: Prose | None = None  # version
    disk_free: Count | None = None  # bytes, where the engine keeps its images
    shm_default: Count | None = None  # bytes of /dev/shm that a container gets without --shm-size
    shm: Count | None = None  # bytes of this machine's own /dev/shm
    # GPUs
    cards: Count | None = None  # NVIDIA display devices on the PCI bus
    nouveau: bool | None = None  # the kernel's free driver has been loaded
    driver: Prose | None = None  # NVIDIA's driver: "550.54.15"
    gpus: tuple[Gpu, ...] | None = None
    mig_instances: Count | None = None
    smi_said: Prose = ""  # what nvidia-smi said instead of an answer
    device_nodes: bool | None = None  # /dev/nvidiactl
    cuda_init: Count | None = None  # what cuInit returned: 0, 803, 804, …
    cuda_newest: Version | None = None  # the newest CUDA that the driver knows by itself
    compat: bool | None = None  # a forward-compatibility libcuda is first in LD_LIBRARY_PATH
    hidden_by: Prose | None = None  # "NVIDIA_VISIBLE_DEVICES=void"
    toolkit: Prose | None = None  # version of the NVIDIA Container Toolkit
    toolkit_cgroups: bool | None = None  # it sets up device control groups, as its configuration has it
    cdi_files: tuple[Prose, ...] | None = None  # specifications that name NVIDIA GPUs
    cdi_driver: Prose | None = None  # the driver whose files they name
    # the network
    route: bool | None = None  # there is a default route
    proxies: tuple[Prose, ...] | None = None  # names of the proxy variables that are set
    ca: Prose | None = None  # the CA bundle that builds get
    own_cas: tuple[Prose, ...] | None = None  # CAs that somebody added to this machine
    index: Reach | None = None
    registry: Reach | None = None
    mmdebstrap: bool | None = None

    @property
    def capabilities(self) -> tuple[Version, ...]:
        """The compute capabilities of its GPUs, each once, in the order of the GPUs."""
        return tuple(dict.fromkeys(gpu.capability for gpu in self.gpus or () if gpu.capability is not None))

    @property
    def driver_version(self) -> Version | None:
        """Its driver, to be compared; None if there is none or it is unknown."""
        try:
            return Version(self.driver) if self.driver else None
        except InvalidVersion:
            return None

    @property
    def engine_is_elsewhere(self) -> bool:
        """Whether containers run on another machine than the one that was asked; Docker Desktop's runs for this one."""
        return bool(self.engine and not self.engine.local and self.engine.system != DESKTOP)

    @property
    def platform(self) -> str | None:
        """As images name it: `linux/amd64`."""
        return {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}.get(self.machine or "")
