"""What programs and files answer → values. Pure; every parser takes what it does not understand for unknown."""

import json
import re
from collections.abc import Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from envbuilder.host.records import EngineTrouble, Gpu, Reach, Trouble

NOT_FOUND, TIMED_OUT = 127, 124  # as a shell and timeout(1) have it
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}

_ENGINE_TROUBLES = (
    ("permission denied", EngineTrouble.DENIED),
    ("cannot connect to the docker daemon", EngineTrouble.STOPPED),
    ("failed to connect to the docker api", EngineTrouble.STOPPED),
    ("connection refused", EngineTrouble.STOPPED),
    ("deadline exceeded", EngineTrouble.SILENT),
)
_TROUBLES = (
    ("not yet valid", Trouble.CLOCK),
    ("not valid yet", Trouble.CLOCK),
    ("has expired", Trouble.CLOCK),
    ("notvalidyet", Trouble.CLOCK),
    ("certificate expired", Trouble.CLOCK),
    ("invalid peer certificate: expired", Trouble.CLOCK),
    ("unknown authority", Trouble.ISSUER),
    ("unknownissuer", Trouble.ISSUER),
    ("self-signed", Trouble.ISSUER),
    ("unable to get local issuer", Trouble.ISSUER),
    ("tunnel error", Trouble.PROXY),
    ("proxyconnect", Trouble.PROXY),
    ("407 proxy", Trouble.PROXY),
    ("no such host", Trouble.NAME),
    ("dns error", Trouble.NAME),
    ("name or service not known", Trouble.NAME),
    ("temporary failure in name resolution", Trouble.NAME),
    ("server misbehaving", Trouble.NAME),
    ("toomanyrequests", Trouble.DENIED),
    ("unauthorized", Trouble.DENIED),
    ("403 forbidden", Trouble.DENIED),
    ("429 too many", Trouble.DENIED),
    ("refused", Trouble.CONNECT),
    ("unreachable", Trouble.CONNECT),
    ("timed out", Trouble.CONNECT),
    ("timeout", Trouble.CONNECT),
    ("deadline exceeded", Trouble.CONNECT),
)


def read_json(text: str) -> Mapping[str, Any]:
    """The first JSON object in what a program wrote, or an empty one."""
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def engine_trouble(code: int, said: str) -> EngineTrouble:
    if code == NOT_FOUND:
        return EngineTrouble.MISSING
    if code == TIMED_OUT:
        return EngineTrouble.SILENT
    low = said.lower()
    return next((trouble for sign, trouble in _ENGINE_TROUBLES if sign in low), EngineTrouble.OTHER)


def reach(code: int, said: str) -> Reach | None:
    """Whether a client reached its server; None if the client itself is missing."""
    if code == 0:
        return Reach()
    if code == NOT_FOUND:
        return None
    low = said.lower()
    trouble = next((trouble for sign, trouble in _TROUBLES if sign in low), None)
    return Reach(trouble=trouble or (Trouble.CONNECT if code == TIMED_OUT else Trouble.OTHER), said=last_line(said))


def last_line(text: str) -> str:
    """The line nearest to the cause: programs name it last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("cause: ")[-200:] if lines else ""


def version_in(text: str) -> str | None:
    """The first dotted version in a program's answer: `NVIDIA Container Toolkit CLI version 1.17.8`."""
    found = re.search(r"[0-9]+(?:\.[0-9]+)+", text)
    return found[0] if found else None


def free_bytes(df: str) -> int | None:
    """The `Available` column of `df -PB1 FOLDER`."""
    words = df.splitlines()[-1].split() if df.strip() else []
    return int(words[3]) if len(words) >= 6 and words[3].isdigit() else None


def total_bytes(df: str) -> int | None:
    words = df.splitlines()[-1].split() if df.strip() else []
    return int(words[1]) if len(words) >= 6 and words[1].isdigit() else None


def size(text: str) -> int | None:
    """Bytes of a size as Docker's configuration has it: `64M`, `1g`, `67108864`."""
    found = re.fullmatch(r"([0-9]+)([bkmg]?)(?:i?b)?", str(text).strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found else None


def gpus(csv: str) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs and the driver in `nvidia-smi --query-gpu=name,driver_version,compute_cap,mig.mode.current`."""
    found, driver = [], ""
    for line in csv.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) < 2:
            continue
        driver = words[1]
        mig = {"enabled": True, "disabled": False, "[n/a]": False}.get(words[3].lower()) if len(words) > 3 else None
        found.append(Gpu(name=words[0], capability=_capability(words[2]) if len(words) > 2 else None, mig=mig))
    return tuple(found), driver


def _capability(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def cuda(answer: str) -> tuple[int | None, Version | None]:
    """`804 12000`: what cuInit returned, and the newest CUDA that the driver knows, as cuDriverGetVersion counts."""
    words = answer.split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None, None
    newest = int(words[1])
    return int(words[0]), Version(f"{newest // 1000}.{newest % 1000 // 10}") if newest else None


def os_release(text: str) -> dict[str, str]:
    """os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip().strip('"') for name, _, value in pairs}


def has_default_route(table: str) -> bool:
    """/proc/net/route: a line whose destination and mask are zero."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return any(len(row) > 7 and row[1] == row[7] == "00000000" for row in rows)
