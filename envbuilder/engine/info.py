"""What an engine reports about its machine (`docker info`), in the terms of images and receipts."""

import platform as this_machine
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from envbuilder.engine.gpu_access import CDI_ALL, GpuSupport
from envbuilder.errors import UsageError
from envbuilder.files import read_text
from envbuilder.grammar import JsonObject

_LEAST_MEMORY = 64_000_000  # bytes; Docker refuses a limit below 6 MB
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
}  # as the kernel and as images call them


def gpu_support(info: JsonObject) -> GpuSupport:
    """How its containers can get GPUs, by its own report and, if it runs here, by this host's device nodes."""
    runtimes = info.get("Runtimes") or ()
    runs_here = info.get("Name") == this_machine.node()
    return GpuSupport(
        runtimes=tuple(sorted(runtimes)),
        cdi_devices=tuple(_cdi_devices(info)),
        device_nodes=runs_here and Path("/dev/nvidiactl").exists(),
    )


def _cdi_devices(info: JsonObject) -> list[str]:
    """The CDI devices that the engine lists; an older one lists none, and still uses the specifications."""
    discovered = info.get("DiscoveredDevices") or ()
    devices = [device["ID"] for device in discovered if device.get("Source") == "cdi"]
    if devices:
        return devices
    folders = info.get("CDISpecDirs") or ()
    return _devices_in_files(folders)


def facts(info: JsonObject) -> dict[str, Any]:
    """The machine as a receipt describes it; no names, no addresses."""
    return {
        "engine": info.get("ServerVersion"),
        "kernel": info.get("KernelVersion"),
        "os": info.get("OperatingSystem"),
        "architecture": info.get("Architecture"),
        "cpus": info.get("NCPU"),
        "memory": info.get("MemTotal"),
    }


def has_containerd_store(info: JsonObject) -> bool:
    """Whether its images are in containerd's store, which keeps them as a registry has them."""
    for pair in info.get("DriverStatus") or ():
        if "io.containerd.snapshotter.v1" in pair:
            return True
    return False


def platform(info: JsonObject) -> str:
    """What the machine runs without emulation: `linux/amd64`."""
    machine = info.get("Architecture", "")
    return f"{info.get('OSType', 'linux')}/{_MACHINES.get(machine, machine)}"


def maps_users(info: JsonObject) -> bool:
    """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
    options = info.get("SecurityOptions") or ()
    return any(word in option for option in options for word in ("rootless", "userns"))


def memory_to_give(info: JsonObject) -> int:
    """Bytes that a container may use, so that too much ends the container and not the machine; 0 for no limit."""
    total = info.get("MemTotal")
    if not info.get("MemoryLimit", True):
        return 0
    if not isinstance(total, int) or total < _LEAST_MEMORY:
        return 0
    return total * 9 // 10


def _devices_in_files(folders: Sequence[str]) -> list[str]:
    """The CDI device of all GPUs, if this host's specifications in these folders have it."""
    for folder in folders:
        for path in Path(folder).glob("*"):
            if _names_all_gpus(path):
                return [CDI_ALL]
    return []


def _names_all_gpus(path: Path) -> bool:
    with suppress(UsageError):
        text = read_text(path, errors="replace")
        return "nvidia.com/gpu" in text and bool(re.search(r"name\W{1,4}all\b", text))
    return False
