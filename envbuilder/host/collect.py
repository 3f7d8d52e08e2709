"""Asking a machine: `ask(probe) → Host`. What it asks with is a parameter; what it is told, `host.answers` reads.

Nothing is changed on the machine and nothing is started in a container. A question without an answer leaves None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from envbuilder.engine.gpu_access import CDI_ALL
from envbuilder.grammar import printable
from envbuilder.host import parse
from envbuilder.host.parse import NOT_FOUND
from envbuilder.host.records import Engine, EngineTrouble, Host
from envbuilder.processes import Completed

INDEX = ("index",)  # does the package index answer the client that locks? its exit code and words
REGISTRY = ("registry",)  # does a registry answer the engine?
CUDA = ("cuda",)  # cuInit and cuDriverGetVersion: "0 12080"
_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
_QUERY = "--query-gpu=name,driver_version,compute_cap,mig.mode.current"
_OLD_QUERY = "--query-gpu=name,driver_version"  # drivers before R510 know no compute_cap
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
_OWN_CAS = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors")
_HIDING = {"NVIDIA_VISIBLE_DEVICES": ("void", "none", ""), "CUDA_VISIBLE_DEVICES": ("-1", "none", "")}
_PCI = "/sys/bus/pci/devices"
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_DEFAULT_SHM = 64 * 2**20  # Docker's, without default-shm-size


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The ways to ask: run a command (127 if there is none, 124 if it takes too long), read a file, list a folder."""

    run: Callable[[Sequence[str]], Completed]
    read: Callable[[str], str | None]  # None: there is none, or it may not be read
    names: Callable[[str], Sequence[str]]  # () if there is none
    environ: Mapping[str, str]
    ca: str | None  # the CA bundle that builds get; "" for none


def ask(probe: Probe) -> Host:
    """Everything that a host's diagnosis rests on."""
    host: Host = _printable(Host(**_machine(probe), **_engine(probe), **_gpus(probe), **_network(probe)))
    return host


def _printable(value: Any) -> Any:
    """The same value with every text fit for a terminal and a document: programs write what they like."""
    if type(value) is str:  # not the words of an enumeration
        return printable(value)
    if isinstance(value, tuple):
        return tuple(map(_printable, value))
    if is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: _printable(getattr(value, field.name)) for field in fields(value)}
        return type(value)(**changed)
    return value


def ask_gpus(probe: Probe) -> Host:
    """What a stack must fit: GPUs, driver and platform. Starts nothing but `nvidia-smi` and `uname`."""
    return Host(machine=_processor(probe), **_driven(probe))


def _said(done: Completed) -> str:
    return parse.last_line(done.stderr) or parse.last_line(done.stdout)


def _machine(probe: Probe) -> dict[str, Any]:
    release = parse.os_release(probe.read("/etc/os-release") or "")
    kernel = probe.read("/proc/version")
    uid, now = probe.run(["id", "-u"]), probe.run(["date", "-u", "+%s"])
    model = (probe.read("/proc/device-tree/model") or "").strip("\0\n ")
    return {
        "os": release.get("PRETTY_NAME"),
        "distribution": release.get("ID"),
        "machine": _processor(probe),
        "uid": int(uid.stdout) if uid.stdout.strip().isdigit() else None,
        "wsl": None if kernel is None else "microsoft" in kernel.lower(),
        "jetson": model if probe.read("/etc/nv_tegra_release") else "",
        "container": any(probe.read(path) is not None for path in ("/.dockerenv", "/run/.containerenv")),
        "clock": float(now.stdout) if now.stdout.strip().isdigit() else None,
        "shm": parse.total_bytes(probe.run(["df", "-PB1", "/dev/shm"]).stdout),  # noqa: S108  (asked, not used)
    }


def _processor(probe: Probe) -> str | None:
    return probe.run(["uname", "-m"]).stdout.strip() or None


# --- the engine ----------------------------------------------------------------------------------------------------


def _engine(probe: Probe) -> dict[str, Any]:
    version = probe.run(["docker", "version", "--format", "{{json .}}"])
    facts: dict[str, Any] = {"docker_host": bool(probe.environ.get("DOCKER_HOST"))}
    if version.returncode != NOT_FOUND:
        facts["compose"] = _compose(probe)
        buildx = probe.run(["docker", "buildx", "version"])
        facts["buildx"] = (parse.version_in(buildx.stdout) or "") if buildx.returncode == 0 else ""
    if version.returncode != 0:
        trouble = parse.engine_trouble(version.returncode, version.stderr)
        return facts | {"engine_trouble": trouble, "engine_said": _said(version)}
    info = parse.read_json(probe.run(["docker", "info", "--format", "{{json .}}"]).stdout)
    try:
        engine = _podman(info) if "host" in info else _docker(info, probe)
    except (AttributeError, KeyError, TypeError, ValueError):
        engine = None  # an engine that we do not know
    if engine is None:
        said = "`docker info` has no answer that can be understood"
        return facts | {"engine_trouble": EngineTrouble.OTHER, "engine_said": said}
    facts |= {"engine": engine, "shm_default": _shm_default(probe) if engine.local else None}
    if engine.local and engine.root:
        facts["disk_free"] = parse.free_bytes(probe.run(["df", "-PB1", engine.root]).stdout)
    return facts


def _compose(probe: Probe) -> str:
    plugin = probe.run(["docker", "compose", "version"])
    if plugin.returncode == 0 and "ompose" in plugin.stdout:
        return parse.version_in(plugin.stdout) or ""
    return parse.version_in(probe.run(["docker-compose", "--version"]).stdout) or ""


def _docker(info: Mapping[str, Any], probe: Probe) -> Engine | None:
    if not info.get("ServerVersion"):
        return None
    node = (probe.read("/proc/sys/kernel/hostname") or "").strip()
    features = parse.read_json(probe.read("/etc/docker/daemon.json") or "").get("features") or {}
    discovered = [row["ID"] for row in info.get("DiscoveredDevices") or () if row.get("Source") == "cdi"]
    cdi = bool(info.get("CDISpecDirs")) or features.get("cdi") is True
    return Engine(
        program="docker",
        version=info["ServerVersion"],
        local=info.get("Name") == node,
        system=info.get("OperatingSystem") or "",
        root=info.get("DockerRootDir") or "",
        rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
        remaps_users=any("userns" in option for option in info.get("SecurityOptions") or ()),
        cgroups=int(info["CgroupVersion"]) if str(info.get("CgroupVersion")).isdigit() else None,
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        default_runtime=info.get("DefaultRuntime") or "",
        cdi=cdi,
        cdi_devices=tuple(discovered) or ((CDI_ALL,) if cdi and _cdi_specs(probe) else ()),
        proxied=bool(info.get("HttpProxy") or info.get("HttpsProxy")),
        clock=_seconds(info.get("SystemTime")),
    )


def _podman(info: Mapping[str, Any]) -> Engine:
    host, store = info["host"], info.get("store") or {}
    return Engine(
        program="podman",
        version=str((info.get("version") or {}).get("Version") or ""),
        local=not host.get("serviceIsRemote"),
        system=str((host.get("distribution") or {}).get("distribution") or ""),
        root=store.get("graphRoot") or "",
        rootless=bool((host.get("security") or {}).get("rootless")),
        cgroups={"v1": 1, "v2": 2}.get(host.get("cgroupVersion")),
        cdi=True,
    )


def _seconds(moment: object) -> float | None:
    try:
        return datetime.fromisoformat(str(moment)[:19] + "+00:00").timestamp() if str(moment).endswith("Z") else None
    except ValueError:
        return None


def _shm_default(probe: Probe) -> int | None:
    said = parse.read_json(probe.read("/etc/docker/daemon.json") or "").get("default-shm-size")
    return _DEFAULT_SHM if said is None else parse.size(said)


# --- GPUs ----------------------------------------------------------------------------------------------------------


def _gpus(probe: Probe) -> dict[str, Any]:
    listed = probe.names(_PCI)
    modules = probe.read("/proc/modules")
    facts: dict[str, Any] = {
        "cards": sum(_is_nvidia_display(probe, name) for name in listed) if listed else None,
        "nouveau": None if modules is None else any(line.startswith("nouveau ") for line in modules.splitlines()),
        "device_nodes": "nvidiactl" in probe.names("/dev"),
        "compat": "/cuda/compat" in probe.environ.get("LD_LIBRARY_PATH", ""),
        "hidden_by": _hidden_by(probe.environ),
    }
    facts |= _driven(probe) | _toolkit(probe)
    facts["cuda_init"], facts["cuda_newest"] = parse.cuda(probe.run(CUDA).stdout)
    return facts


def _driven(probe: Probe) -> dict[str, Any]:
    """The driver and its GPUs."""
    module = (probe.read("/sys/module/nvidia/version") or "").strip()
    facts = _smi(probe)
    facts["driver"] = module or facts.get("driver", "")
    if module and not facts["gpus"] and not facts.get("smi_said"):
        facts["gpus"] = None  # a driver, and no nvidia-smi to say of what
    return facts


def _is_nvidia_display(probe: Probe, name: str) -> bool:
    vendor, kind = (probe.read(f"{_PCI}/{name}/{part}") or "" for part in ("vendor", "class"))
    return vendor.strip() == _NVIDIA and kind.startswith(_DISPLAY)


def _hidden_by(environ: Mapping[str, str]) -> str:
    for name, hiding in _HIDING.items():
        if environ.get(name, "all").lower() in hiding:
            return f"{name}={environ[name]}"
    return ""


def _smi(probe: Probe) -> dict[str, Any]:
    for program in _SMI:
        done = probe.run([program, _QUERY, "--format=csv,noheader"])
        if "is not a valid field" in done.stdout + done.stderr:
            done = probe.run([program, _OLD_QUERY, "--format=csv,noheader"])
        if done.returncode == NOT_FOUND:
            continue
        if done.returncode != 0:
            return {"gpus": (), "smi_said": " ".join((done.stdout + done.stderr).split())[:300]}
        found, driver = parse.gpus(done.stdout)
        facts: dict[str, Any] = {"gpus": found, "driver": driver}
        if any(gpu.mig for gpu in found):
            listed = probe.run([program, "-L"]).stdout
            facts["mig_instances"] = sum(line.strip().startswith("MIG ") for line in listed.splitlines())
        return facts
    return {"gpus": (), "smi_said": ""}


def _toolkit(probe: Probe) -> dict[str, Any]:
    asked = (probe.run([name, "--version"]) for name in ("nvidia-ctk", "nvidia-container-cli"))
    version = next((parse.version_in(done.stdout) or "" for done in asked if done.returncode == 0), "")
    settings = probe.read("/etc/nvidia-container-runtime/config.toml")
    specs = _cdi_specs(probe)
    drivers = [found for text in specs.values() if (found := parse.version_in(text.partition("libcuda.so.")[2]))]
    return {
        "toolkit": version,
        "toolkit_cgroups": None if settings is None else not _switched_on(settings, "no-cgroups"),
        "cdi_files": tuple(specs),
        "cdi_driver": drivers[0] if drivers else "",
    }


def _switched_on(settings: str, name: str) -> bool:
    return any(line.replace(" ", "") == f"{name}=true" for line in settings.splitlines())


def _cdi_specs(probe: Probe) -> dict[str, str]:
    """The CDI specifications that name NVIDIA GPUs, with their text."""
    paths = [f"{folder}/{name}" for folder in _CDI_FOLDERS for name in probe.names(folder)]
    texts = {path: probe.read(path) or "" for path in paths}
    return {path: text for path, text in texts.items() if "nvidia.com/gpu" in text}


# --- the network ---------------------------------------------------------------------------------------------------


def _network(probe: Probe) -> dict[str, Any]:
    environ = probe.environ
    table = probe.read("/proc/net/route")
    index, registry = probe.run(INDEX), probe.run(REGISTRY)
    return {
        "route": None if table is None else parse.has_default_route(table),
        "proxies": tuple(name for name in _PROXIES if environ.get(name) or environ.get(name.lower())),
        "ca": probe.ca,
        "own_cas": tuple(f"{folder}/{name}" for folder in _OWN_CAS for name in probe.names(folder)),
        "index": parse.reach(index.returncode, index.stderr),
        "registry": parse.reach(registry.returncode, registry.stderr),
        "mmdebstrap": probe.run(["mmdebstrap", "--version"]).returncode == 0,
    }
