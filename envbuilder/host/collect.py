"""Asking a machine: `collect(probe) → Host`. What it asks with is a parameter; `host.parse` reads the answers.

Nothing is changed on the machine and no container is started. A question without an answer leaves None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any

from envbuilder.engine.gpu_access import CDI_ALL
from envbuilder.grammar import JsonObject, printable
from envbuilder.host import parse
from envbuilder.host.parse import NOT_FOUND
from envbuilder.host.records import (
    Daemon,
    EngineFailure,
    EngineState,
    GpuState,
    Host,
    MachineState,
    NetworkState,
)
from envbuilder.processes import Completed

_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
_QUERY = "--query-gpu=name,driver_version,compute_cap,mig.mode.current"
_OLD_QUERY = (
    "--query-gpu=name,driver_version"  # drivers before R510 know no compute_cap
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
_CA_FOLDERS = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors")
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_HIDING = {
    "NVIDIA_VISIBLE_DEVICES": ("void", "none", ""),
    "CUDA_VISIBLE_DEVICES": ("-1", "none", ""),
}
_PCI = "/sys/bus/pci/devices"
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_DAEMON_SETTINGS = "/etc/docker/daemon.json"
_DEFAULT_SHM = 64 * 2**20  # Docker's, without default-shm-size
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The ways to ask: run a command (127: not found, 124: timed out), read a file, list a folder, reach a server."""

    run: Callable[[Sequence[str]], Completed]
    read: Callable[[str], str | None]  # None: it does not exist, or may not be read
    names: Callable[[str], Sequence[str]]  # () if it does not exist
    reach_index: Callable[
        [], Completed
    ]  # as uv reaches the package index when it locks
    reach_registry: Callable[
        [], Completed
    ]  # as the engine reaches a registry when it pulls
    start_cuda: Callable[[], Completed]  # cuInit and cuDriverGetVersion: "0 12080"
    environ: Mapping[str, str]
    ca: str | None  # the CA bundle that builds get; "" for none

    def output(self, *argv: str) -> str:
        """What a command prints on stdout."""
        return self.run(argv).stdout

    def succeeds(self, *argv: str) -> bool:
        """Whether a command exits with 0."""
        return self.run(argv).returncode == 0

    def text(self, path: str) -> str:
        """The content of a file; empty if it cannot be read."""
        return self.read(path) or ""


def collect(probe: Probe) -> Host:
    """Everything that a diagnosis of a machine rests on."""
    host = Host(
        machine=_machine(probe),
        engine=_engine(probe),
        gpu=_gpu(probe),
        network=_network(probe),
    )
    sanitized: Host = _sanitize(host)
    return sanitized


def collect_gpus(probe: Probe) -> Host:
    """What a stack must fit: GPUs, driver and platform. Starts nothing but `nvidia-smi` and `uname`."""
    return Host(
        machine=MachineState(
            processor=_processor(probe),
            jetson=_jetson_model(probe),
        ),
        gpu=_driver_and_gpus(probe),
    )


def _sanitize(value: Any) -> Any:
    """The same value with every text fit for a terminal and a document: programs may print anything."""
    if type(value) is str:  # not the words of an enumeration
        return printable(value)
    if isinstance(value, tuple):
        return tuple(_sanitize(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in fields(value):
            changed[field.name] = _sanitize(getattr(value, field.name))
        return type(value)(**changed)
    return value


# --- the machine ---------------------------------------------------------------------------------------------------


def _machine(probe: Probe) -> MachineState:
    release = parse.os_release(probe.text("/etc/os-release"))
    kernel = probe.read("/proc/version")
    now = parse.whole_number(probe.output("date", "-u", "+%s"))
    return MachineState(
        os=release.get("PRETTY_NAME"),
        distribution=release.get("ID"),
        like=tuple(release.get("ID_LIKE", "").split()),
        processor=_processor(probe),
        uid=parse.whole_number(probe.output("id", "-u")),
        wsl=None if kernel is None else "microsoft" in kernel.lower(),
        jetson=_jetson_model(probe),
        container=any(probe.read(path) is not None for path in _CONTAINER_MARKS),
        clock=None if now is None else float(now),
        shm=parse.total_bytes(probe.output("df", "-PB1", "/dev/shm")),  # noqa: S108  (asked, not used)
    )


def _processor(probe: Probe) -> str | None:
    return probe.output("uname", "-m").strip() or None


def _jetson_model(probe: Probe) -> str:
    if not probe.read("/etc/nv_tegra_release"):
        return ""
    return probe.text("/proc/device-tree/model").strip("\0\n ")


# --- the engine ----------------------------------------------------------------------------------------------------


def _engine(probe: Probe) -> EngineState:
    version = probe.run(["docker", "version", "--format", "{{json .}}"])
    state = EngineState(
        docker_host=bool(probe.environ.get("DOCKER_HOST")),
        buildkit_off=probe.environ.get("DOCKER_BUILDKIT") in ("0", "false"),
    )
    if version.returncode != NOT_FOUND:
        state = replace(state, compose=_compose(probe), buildx=_buildx(probe))
    if version.returncode != 0:
        failure = parse.engine_failure(version.returncode, version.stderr)
        message = parse.last_line(version.stderr) or parse.last_line(version.stdout)
        return replace(state, failure=failure, message=message)
    daemon = _daemon(probe)
    if daemon is None:
        message = "the output of `docker info` was not understood"
        return replace(state, failure=EngineFailure.OTHER, message=message)
    if not daemon.local:
        return replace(state, daemon=daemon)
    disk_free = (
        parse.free_bytes(probe.output("df", "-PB1", daemon.root))
        if daemon.root
        else None
    )
    return replace(
        state, daemon=daemon, shm_default=_shm_default(probe), disk_free=disk_free
    )


def _buildx(probe: Probe) -> str:
    """Its version; "" if the client has no buildx."""
    done = probe.run(["docker", "buildx", "version"])
    if done.returncode != 0:
        return ""
    version = parse.version_in(done.stdout)
    return version or ""


def _compose(probe: Probe) -> str:
    """The plugin's version, else that of the old `docker-compose`; "" if there is neither."""
    plugin = probe.run(["docker", "compose", "version"])
    output = plugin.stdout
    # A client without the plugin may print its own version and exit with 0.
    has_plugin = plugin.returncode == 0 and "ompose" in output
    if not has_plugin:
        output = probe.output("docker-compose", "--version")
    version = parse.version_in(output)
    return version or ""


def _daemon(probe: Probe) -> Daemon | None:
    """The engine's own description; None if it is of a kind that is not known."""
    info = parse.read_json(probe.output("docker", "info", "--format", "{{json .}}"))
    try:
        if "host" in info:
            return _podman(info)
        if info.get("ServerVersion"):
            return _docker(info, probe)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return None


def _docker(info: JsonObject, probe: Probe) -> Daemon:
    host_name = probe.text("/proc/sys/kernel/hostname").strip()
    security = info.get("SecurityOptions") or ()
    cdi = _has_cdi(info, probe)
    return Daemon(
        program="docker",
        version=info["ServerVersion"],
        local=info.get("Name") == host_name,
        system=info.get("OperatingSystem") or "",
        root=info.get("DockerRootDir") or "",
        rootless=any("rootless" in option for option in security),
        remaps_users=any("userns" in option for option in security),
        cgroups=parse.whole_number(str(info.get("CgroupVersion"))),
        cgroup_driver=info.get("CgroupDriver") or "",
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        default_runtime=info.get("DefaultRuntime") or "",
        cdi=cdi,
        cdi_devices=_cdi_devices(info, probe, cdi=cdi),
        proxied=bool(info.get("HttpProxy") or info.get("HttpsProxy")),
        clock=_seconds(info.get("SystemTime")),
    )


def _has_cdi(info: JsonObject, probe: Probe) -> bool:
    features = _daemon_settings(probe).get("features") or {}
    return bool(info.get("CDISpecDirs")) or features.get("cdi") is True


def _cdi_devices(info: JsonObject, probe: Probe, *, cdi: bool) -> tuple[str, ...]:
    """The devices that the engine has discovered; older engines read the specifications without listing them."""
    devices = []
    for row in info.get("DiscoveredDevices") or ():
        if row.get("Source") == "cdi":
            devices.append(row["ID"])
    if not devices and cdi and _cdi_specs(probe):
        devices.append(CDI_ALL)
    return tuple(devices)


def _podman(info: JsonObject) -> Daemon:
    host = info["host"]
    store = info.get("store") or {}
    version = info.get("version") or {}
    distribution = host.get("distribution") or {}
    security = host.get("security") or {}
    return Daemon(
        program="podman",
        version=str(version.get("Version") or ""),
        local=not host.get("serviceIsRemote"),
        system=str(distribution.get("distribution") or ""),
        root=store.get("graphRoot") or "",
        rootless=bool(security.get("rootless")),
        cgroups={"v1": 1, "v2": 2}.get(host.get("cgroupVersion")),
        cdi=True,
    )


def _seconds(moment: object) -> float | None:
    """Seconds since 1970 of `2026-11-24T21:55:09.123456789Z`; the engine's clock is always in UTC."""
    text = str(moment)
    if not text.endswith("Z"):
        return None
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return None


def _shm_default(probe: Probe) -> int | None:
    configured = _daemon_settings(probe).get("default-shm-size")
    return _DEFAULT_SHM if configured is None else parse.size(configured)


def _daemon_settings(probe: Probe) -> JsonObject:
    return parse.read_json(probe.text(_DAEMON_SETTINGS))


# --- GPUs ----------------------------------------------------------------------------------------------------------


def _gpu(probe: Probe) -> GpuState:
    specs = _cdi_specs(probe)
    cuda_init, cuda_newest = parse.cuda(probe.start_cuda().stdout)
    return replace(
        _driver_and_gpus(probe),
        cards=_count_cards(probe),
        nouveau=_has_nouveau(probe),
        device_nodes="nvidiactl" in probe.names("/dev"),
        cuda_init=cuda_init,
        cuda_newest=cuda_newest,
        compat="/cuda/compat" in probe.environ.get("LD_LIBRARY_PATH", ""),
        hidden_by=_hidden_by(probe.environ),
        toolkit=_toolkit_version(probe),
        toolkit_cgroups=_toolkit_cgroups(probe),
        cdi_files=tuple(specs),
        cdi_driver=_cdi_driver(specs),
    )


def _driver_and_gpus(probe: Probe) -> GpuState:
    module = probe.text("/sys/module/nvidia/version").strip()
    state = _nvidia_smi(probe)
    driver = module or state.driver or ""
    devices = state.devices
    if module and not devices and not state.nvidia_smi_error:
        devices = None  # the driver is loaded, and without nvidia-smi nothing says for which GPUs
    return replace(state, driver=driver, devices=devices)


def _nvidia_smi(probe: Probe) -> GpuState:
    for program in _SMI:
        done = probe.run([program, _QUERY, "--format=csv,noheader"])
        if "is not a valid field" in done.stdout + done.stderr:
            done = probe.run([program, _OLD_QUERY, "--format=csv,noheader"])
        if done.returncode == NOT_FOUND:
            continue
        if done.returncode != 0:
            message = " ".join((done.stdout + done.stderr).split())
            return GpuState(devices=(), nvidia_smi_error=message[:_LONGEST_MESSAGE])
        devices, driver = parse.gpus(done.stdout)
        state = GpuState(devices=devices, driver=driver)
        if state.has_mig:
            state = replace(state, mig_instances=_count_mig_instances(probe, program))
        return state
    return GpuState(devices=())


def _count_mig_instances(probe: Probe, program: str) -> int:
    count = 0
    for line in probe.output(program, "-L").splitlines():
        if line.strip().startswith("MIG "):
            count += 1
    return count


def _count_cards(probe: Probe) -> int | None:
    """NVIDIA's display devices on the PCI bus; None where there is no bus to be read."""
    names = probe.names(_PCI)
    if not names:
        return None
    count = 0
    for name in names:
        vendor = probe.text(f"{_PCI}/{name}/vendor").strip()
        kind = probe.text(f"{_PCI}/{name}/class")
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            count += 1
    return count


def _has_nouveau(probe: Probe) -> bool | None:
    modules = probe.read("/proc/modules")
    if modules is None:
        return None
    return any(line.startswith("nouveau ") for line in modules.splitlines())


def _hidden_by(environ: Mapping[str, str]) -> str:
    for name, values in _HIDING.items():
        value = environ.get(name)
        if value is not None and value.lower() in values:
            return f"{name}={value}"
    return ""


def _toolkit_version(probe: Probe) -> str:
    """The version of the NVIDIA Container Toolkit; "" if it is not installed."""
    for program in ("nvidia-ctk", "nvidia-container-cli"):
        done = probe.run([program, "--version"])
        if done.returncode == 0:
            return parse.version_in(done.stdout) or ""
    return ""


def _toolkit_cgroups(probe: Probe) -> bool | None:
    settings = probe.read("/etc/nvidia-container-runtime/config.toml")
    if settings is None:
        return None
    lines = []
    for line in settings.splitlines():
        lines.append(line.replace(" ", ""))
    return "no-cgroups=true" not in lines


def _cdi_specs(probe: Probe) -> dict[str, str]:
    """The CDI specifications that name NVIDIA GPUs, with their text."""
    specs = {}
    for folder in _CDI_FOLDERS:
        for name in probe.names(folder):
            path = f"{folder}/{name}"
            text = probe.text(path)
            if "nvidia.com/gpu" in text:
                specs[path] = text
    return specs


def _cdi_driver(specs: Mapping[str, str]) -> str:
    """The version of the driver whose libcuda a specification mounts."""
    for text in specs.values():
        after = text.partition("libcuda.so.")[2]
        version = parse.version_in(after)
        if version:
            return version
    return ""


# --- the network ---------------------------------------------------------------------------------------------------


def _network(probe: Probe) -> NetworkState:
    routes = probe.read("/proc/net/route")
    index, registry = probe.reach_index(), probe.reach_registry()
    return NetworkState(
        route=None if routes is None else parse.has_default_route(routes),
        proxies=_proxies(probe.environ),
        ca=probe.ca,
        private_cas=_private_cas(probe),
        index=parse.reachability(index.returncode, index.stderr),
        registry=parse.reachability(registry.returncode, registry.stderr),
        mmdebstrap=probe.succeeds("mmdebstrap", "--version"),
    )


def _proxies(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that are set, in either case; their values may hold passwords and are not kept."""
    names = []
    for name in _PROXIES:
        if environ.get(name) or environ.get(name.lower()):
            names.append(name)
    return tuple(names)


def _private_cas(probe: Probe) -> tuple[str, ...]:
    paths = []
    for folder in _CA_FOLDERS:
        for name in probe.names(folder):
            paths.append(f"{folder}/{name}")
    return tuple(paths)
