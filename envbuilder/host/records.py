"""What is known of a machine: `Host` and the four records in it.

`host.collect` fills them by asking; `envbuilder doctor --json` writes them for another machine to judge.
In every field None means unknown; `""`, `()` and False mean that it was looked for and does not exist.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from packaging.version import InvalidVersion, Version

from envbuilder.grammar import Count, Prose, Seconds

DESKTOP = "Docker Desktop"
"""What it calls the operating system of its virtual machine, which gets this machine's GPUs."""

_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}


class EngineFailure(StrEnum):
    """Why no container engine answers."""

    MISSING = "missing"  # there is no `docker` command
    STOPPED = "stopped"  # nothing listens on its socket
    DENIED = "denied"  # it listens, and this user may not connect
    SILENT = "silent"  # it listens, and does not answer in time
    OTHER = "other"


class ConnectionFailure(StrEnum):
    """Why a server was not reached."""

    NAME = "name"  # its name does not resolve
    CONNECT = "connect"  # refused, unreachable, timed out
    CLOCK = (
        "clock"  # a certificate that is not valid at the time of this machine's clock
    )
    ISSUER = "issuer"  # a certificate signed by a CA that is not trusted
    PROXY = "proxy"  # the proxy in between refuses
    DENIED = "denied"  # the server itself refuses: credentials, rate limit
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """Whether a server answered; `failure` is None if it did."""

    failure: ConnectionFailure | None = None
    message: Prose = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """One NVIDIA GPU as its driver describes it."""

    name: Prose
    capability: Version | None = None  # compute capability: 8.6
    mig: bool | None = None  # split into instances (Multi-Instance GPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A container engine as it describes itself."""

    program: Prose  # "docker" or "podman"
    version: Prose
    local: bool  # it runs on this machine: what this machine has is what containers get
    system: Prose = ""  # the operating system it runs on: "Docker Desktop"
    root: Prose = ""  # where it keeps its images
    rootless: bool = False
    remaps_users: bool = (
        False  # userns-remap: root in a container is another user on the host
    )
    cgroups: Count | None = None  # version of the control groups: 1 or 2
    cgroup_driver: Prose = ""  # who sets them up: "systemd" or "cgroupfs"
    runtimes: tuple[Prose, ...] = ()
    default_runtime: Prose = ""
    cdi: bool | None = None  # whether `--device vendor/class=name` is on
    cdi_devices: tuple[Prose, ...] = ()
    proxied: bool = False  # it pulls through a proxy
    clock: Seconds | None = None  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """The machine itself."""

    os: Prose | None = None  # "Debian GNU/Linux 12 (bookworm)"
    distribution: Prose | None = (
        None  # "debian", "ubuntu", "fedora": /etc/os-release, ID
    )
    like: tuple[Prose, ...] = ()  # the distributions that it is made from: ID_LIKE
    processor: Prose | None = None  # "x86_64", "aarch64"
    uid: Count | None = None
    wsl: bool | None = None
    jetson: Prose | None = None  # the model, if it is one
    container: bool | None = None  # the answers come from inside a container
    clock: Seconds | None = None  # seconds since 1970
    shm: Count | None = None  # bytes of its own /dev/shm

    @property
    def platform(self) -> str | None:
        """The platform as images name it: `linux/amd64`."""
        return _PLATFORMS.get(self.processor or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The container engine and its client."""

    daemon: Daemon | None = None
    failure: EngineFailure | None = None
    message: Prose = ""  # what its client printed when it failed
    docker_host: bool | None = None  # DOCKER_HOST says where the engine is
    buildkit_off: bool | None = None  # by DOCKER_BUILDKIT=0
    buildx: Prose | None = None  # version
    compose: Prose | None = None  # version
    disk_free: Count | None = None  # bytes, where the engine keeps its images
    shm_default: Count | None = (
        None  # bytes of /dev/shm that a container gets without --shm-size
    )

    @property
    def is_remote(self) -> bool:
        """Whether containers run on another machine than this one; Docker Desktop's run for this one."""
        if self.daemon is None or self.daemon.local:
            return False
        return self.daemon.system != DESKTOP


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """NVIDIA's driver, its GPUs, and the tools that give them to containers."""

    cards: Count | None = None  # NVIDIA display devices on the PCI bus
    nouveau: bool | None = None  # the kernel's free driver is loaded
    driver: Prose | None = None  # NVIDIA's driver: "550.54.15"
    devices: tuple[GpuDevice, ...] | None = None
    mig_instances: Count | None = None
    nvidia_smi_error: Prose = ""
    device_nodes: bool | None = None  # /dev/nvidiactl exists
    cuda_init: Count | None = None  # what cuInit returned: 0, 803, 804, …
    cuda_newest: Version | None = (
        None  # the newest CUDA that the driver supports by itself
    )
    compat: bool | None = (
        None  # a forward-compatibility libcuda is first in LD_LIBRARY_PATH
    )
    hidden_by: Prose | None = None  # "NVIDIA_VISIBLE_DEVICES=void"
    toolkit: Prose | None = None  # version of the NVIDIA Container Toolkit
    toolkit_cgroups: bool | None = (
        None  # it is configured to set up device control groups
    )
    cdi_files: tuple[Prose, ...] | None = None  # specifications that name NVIDIA GPUs
    cdi_driver: Prose | None = None  # the driver whose files they name

    @property
    def capabilities(self) -> tuple[Version, ...]:
        """The compute capabilities of the GPUs, each once, in the order of the GPUs."""
        capabilities = [
            gpu.capability for gpu in self.devices or () if gpu.capability is not None
        ]
        return tuple(dict.fromkeys(capabilities))

    @property
    def driver_version(self) -> Version | None:
        """The driver's version, for comparisons; None if there is none or it is unknown."""
        try:
            return Version(self.driver) if self.driver else None
        except InvalidVersion:
            return None

    @property
    def has_mig(self) -> bool:
        """Whether a GPU is in MIG mode."""
        return any(gpu.mig for gpu in self.devices or ())

    @property
    def lost_in_container(self) -> bool:
        """Whether a container that had GPUs has lost them: NVML is there and may not open the devices."""
        text = self.nvidia_smi_error.lower()
        return "initialize nvml" in text and "unknown error" in text

    @property
    def libraries_differ(self) -> bool:
        """Whether the driver in the kernel and the libraries on disk are of different versions."""
        return "version mismatch" in self.nvidia_smi_error.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkState:
    """The ways to an index and a registry."""

    route: bool | None = None  # there is a default route
    proxies: tuple[Prose, ...] | None = (
        None  # names of the proxy variables that are set
    )
    ca: Prose | None = None  # the CA bundle that builds get
    private_cas: tuple[Prose, ...] | None = None  # CAs that were added to this machine
    index: Reachability | None = None
    registry: Reachability | None = None
    mmdebstrap: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything that was asked of one machine."""

    machine: MachineState = field(default_factory=MachineState)
    engine: EngineState = field(default_factory=EngineState)
    gpu: GpuState = field(default_factory=GpuState)
    network: NetworkState = field(default_factory=NetworkState)
