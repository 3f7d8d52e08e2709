"""The driver and the GPUs of this host: what a stack is chosen by when nothing is asked for."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from envbuilder import process
from envbuilder.errors import EngineError

_QUERY = ("nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What is known of this host's GPUs; nothing is known of those it does not show."""

    driver: str | None = None
    capabilities: tuple[str, ...] = ()  # oldest first


def ask() -> Gpus:
    """Ask the driver's own tool, else the kernel module's version."""
    if shutil.which(_QUERY[0]):
        with suppress(EngineError):  # a driver that hangs is the doctor's to tell
            done = process.run(_QUERY, env=os.environ, timeout=20)
            found = parse(done.stdout) if done.returncode == 0 else Gpus()
            if found.driver:
                return found
    try:
        return Gpus(driver=Path("/sys/module/nvidia/version").read_text().strip())
    except OSError:
        return Gpus()


def parse(text: str) -> Gpus:
    """`535.104.05, 8.9`, a line for each GPU."""
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.count(",") == 1]
    drivers = [driver for driver, _ in rows if _is_version(driver)]
    capabilities = {Version(capability) for _, capability in rows if _is_version(capability)}
    return Gpus(driver=drivers[0] if drivers else None, capabilities=tuple(map(str, sorted(capabilities))))


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def request_options_for(gpus: Gpus) -> tuple[dict[str, str], str]:
    """The options of a request that this host makes, and the sentence that says so."""
    found = {}
    if gpus.driver:
        found["driver"] = gpus.driver
    if gpus.capabilities:
        found["gpu"] = gpus.capabilities[0]
    if not found:
        return {}, "nothing is asked for, and no NVIDIA driver is seen here: the best stack by policy"
    told = " and ".join([f"--{name} {value}" for name, value in found.items()])
    return found, f"nothing is asked for: the best stack for this host, by {told}{_others(gpus.capabilities)}"


def _others(capabilities: Sequence[str]) -> str:
    if len(capabilities) <= 1:
        return ""
    return f"; its GPUs differ ({', '.join(capabilities)}): this is for the oldest, `--gpu` chooses another"
