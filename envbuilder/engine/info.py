"""What an engine says about its machine (`docker info`), in the words that images and receipts use."""

import platform as this_machine
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from envbuilder.engine.gpu_access import CDI_ALL, Offers
from envbuilder.errors import UsageError
from envbuilder.files import read_text

_LEAST_MEMORY = 64_000_000  # bytes; Docker refuses a limit below 6 MB
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as the kernel and as images call them


def offers(info: Mapping[str, Any]) -> Offers:
    """What there is for GPUs, as the engine reports and, if it runs here, by this host's device nodes."""
    discovered = info.get("DiscoveredDevices") or ()
    devices = [item["ID"] for item in discovered if item.get("Source") == "cdi"]
    if not devices:
        devices = list(_cdi_files(info.get("CDISpecDirs") or ()))
    runs_here = info.get("Name") == this_machine.node()
    return Offers(
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        cdi_devices=tuple(devices),
        device_nodes=runs_here and Path("/dev/nvidiactl").exists(),
    )


def facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """What a receipt says of the machine; no names, no addresses."""
    return {
        "engine": info.get("ServerVersion"),
        "kernel": info.get("KernelVersion"),
        "os": info.get("OperatingSystem"),
        "architecture": info.get("Architecture"),
        "cpus": info.get("NCPU"),
        "memory": info.get("MemTotal"),
    }


def platform(info: Mapping[str, Any]) -> str:
    """What the machine runs without emulation: `linux/amd64`."""
    machine = info.get("Architecture", "")
    return f"{info.get('OSType', 'linux')}/{_MACHINES.get(machine, machine)}"


def maps_users(info: Mapping[str, Any]) -> bool:
    """Whether a user of a container is another one on the host: rootless, or with `userns-remap`."""
    options = info.get("SecurityOptions") or ()
    return any(word in option for option in options for word in ("rootless", "userns"))


def memory_to_give(info: Mapping[str, Any]) -> int:
    """Bytes that a container may have, so that what it takes too much of is its own end; 0 where nothing limits it."""
    total = info.get("MemTotal")
    if not info.get("MemoryLimit", True):
        return 0
    if not isinstance(total, int) or total < _LEAST_MEMORY:
        return 0
    return total * 9 // 10


def _cdi_files(folders: Sequence[str]) -> list[str]:
    """What this host's CDI specifications call all GPUs, for engines that read them and do not list them."""
    for path in (path for name in folders for path in Path(name).glob("*")):
        with suppress(UsageError):
            text = read_text(path, errors="replace")
            if "nvidia.com/gpu" in text and re.search(r"name\W{1,4}all\b", text):
                return [CDI_ALL]
    return []
