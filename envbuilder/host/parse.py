"""Parsers for what programs and files answer. Pure: whatever a parser does not understand is unknown."""

import json
import re
from collections.abc import Sequence

from packaging.version import InvalidVersion, Version

from envbuilder.grammar import JsonObject
from envbuilder.host.records import (
    ConnectionFailure,
    EngineFailure,
    GpuDevice,
    Reachability,
)

NOT_FOUND, TIMED_OUT = 127, 124  # exit codes as a shell and timeout(1) use them
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_MIG_MODES = {"enabled": True, "disabled": False, "[n/a]": False}
_DF_COLUMNS = 6
_LONGEST_LINE = 200
_MOST_DIGITS = 18  # of a number: it fits 64 bits

_ENGINE_FAILURES = (
    ("permission denied", EngineFailure.DENIED),
    ("cannot connect to the docker daemon", EngineFailure.STOPPED),
    ("failed to connect to the docker api", EngineFailure.STOPPED),
    ("connection refused", EngineFailure.STOPPED),
    ("deadline exceeded", EngineFailure.SILENT),
)
_CONNECTION_FAILURES = (
    ("not yet valid", ConnectionFailure.CLOCK),
    ("not valid yet", ConnectionFailure.CLOCK),
    ("has expired", ConnectionFailure.CLOCK),
    ("notvalidyet", ConnectionFailure.CLOCK),
    ("certificate expired", ConnectionFailure.CLOCK),
    ("invalid peer certificate: expired", ConnectionFailure.CLOCK),
    ("unknown authority", ConnectionFailure.ISSUER),
    ("unknownissuer", ConnectionFailure.ISSUER),
    ("self-signed", ConnectionFailure.ISSUER),
    ("unable to get local issuer", ConnectionFailure.ISSUER),
    ("tunnel error", ConnectionFailure.PROXY),
    ("proxyconnect", ConnectionFailure.PROXY),
    ("407 proxy", ConnectionFailure.PROXY),
    ("no such host", ConnectionFailure.NAME),
    ("dns error", ConnectionFailure.NAME),
    ("name or service not known", ConnectionFailure.NAME),
    ("temporary failure in name resolution", ConnectionFailure.NAME),
    ("server misbehaving", ConnectionFailure.NAME),
    ("toomanyrequests", ConnectionFailure.DENIED),
    ("unauthorized", ConnectionFailure.DENIED),
    ("403 forbidden", ConnectionFailure.DENIED),
    ("429 too many", ConnectionFailure.DENIED),
    ("refused", ConnectionFailure.CONNECT),
    ("unreachable", ConnectionFailure.CONNECT),
    ("timed out", ConnectionFailure.CONNECT),
    ("timeout", ConnectionFailure.CONNECT),
    ("deadline exceeded", ConnectionFailure.CONNECT),
)


def read_json(text: str) -> JsonObject:
    """The first JSON object in a program's output, or an empty one."""
    try:
        document = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def engine_failure(code: int, stderr: str) -> EngineFailure:
    """Why a Docker client failed, from its exit code and what it printed."""
    if code == NOT_FOUND:
        return EngineFailure.MISSING
    if code == TIMED_OUT:
        return EngineFailure.SILENT
    text = stderr.lower()
    for phrase, failure in _ENGINE_FAILURES:
        if phrase in text:
            return failure
    return EngineFailure.OTHER


def reachability(code: int, stderr: str) -> Reachability | None:
    """Whether a client reached its server; None if the client itself is missing."""
    if code == 0:
        return Reachability()
    if code == NOT_FOUND:
        return None
    return Reachability(
        failure=_connection_failure(code, stderr.lower()), message=last_line(stderr)
    )


def _connection_failure(code: int, text: str) -> ConnectionFailure:
    for phrase, failure in _CONNECTION_FAILURES:
        if phrase in text:
            return failure
    return ConnectionFailure.CONNECT if code == TIMED_OUT else ConnectionFailure.OTHER


def last_line(text: str) -> str:
    """The last line that is not empty: programs name the cause last."""
    for line in reversed(text.splitlines()):
        line_text = line.strip().removeprefix("cause: ")
        if line_text:
            return line_text[-_LONGEST_LINE:]
    return ""


def version_in(text: str) -> str | None:
    """The first dotted version in a program's output: `NVIDIA Container Toolkit CLI version 1.17.8`."""
    match = re.search(r"[0-9]+(?:\.[0-9]+)+", text)
    return match[0] if match else None


def free_bytes(df: str) -> int | None:
    """The `Available` column of `df -PB1 FOLDER`."""
    return _column_of_df(df, 3)


def total_bytes(df: str) -> int | None:
    """The size column of `df -PB1 FOLDER`."""
    return _column_of_df(df, 1)


def _column_of_df(df: str, number: int) -> int | None:
    if not df.strip():
        return None
    columns = df.splitlines()[-1].split()
    if len(columns) < _DF_COLUMNS:
        return None
    return whole_number(columns[number])


def whole_number(text: str) -> int | None:
    """A number without a sign, or None if it is none or absurdly large."""
    text = text.strip()
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        return None
    return int(text)


def size(text: str) -> int | None:
    """Bytes of a size as Docker's configuration writes it: `64M`, `1g`, `67108864`."""
    match = re.fullmatch(r"([0-9]+)([bkmg]?)(?:i?b)?", str(text).strip().lower())
    return int(match[1]) * _UNITS[match[2]] if match else None


def gpus(csv: str) -> tuple[tuple[GpuDevice, ...], str]:
    """The GPUs and the driver in `nvidia-smi --query-gpu=name,driver_version,compute_cap,mig.mode.current`."""
    devices: list[GpuDevice] = []
    driver = ""
    for line in csv.splitlines():
        columns = [column.strip() for column in line.split(",")]
        if len(columns) < 2:
            continue
        driver = columns[1]
        devices.append(_gpu(columns))
    return tuple(devices), driver


def _gpu(columns: Sequence[str]) -> GpuDevice:
    """One row; old drivers leave out the compute capability and the MIG mode."""
    capability = None
    if len(columns) > 2:
        capability = _version(columns[2])
    mig = None
    if len(columns) > 3:
        mig = _MIG_MODES.get(columns[3].lower())
    return GpuDevice(name=columns[0], capability=capability, mig=mig)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def cuda(output: str) -> tuple[int | None, Version | None]:
    """`804 12000`: what cuInit returned, and the newest CUDA of the driver in the form of cuDriverGetVersion."""
    words = output.split()
    if len(words) != 2:
        return None, None
    code = whole_number(words[0])
    encoded = whole_number(words[1])
    if code is None or encoded is None:
        return None, None
    if encoded == 0:
        return code, None
    major = encoded // 1000
    minor = encoded % 1000 // 10
    return code, Version(f"{major}.{minor}")


def os_release(text: str) -> dict[str, str]:
    """os-release(5)."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values[name] = value.strip().strip('"')
    return values


def has_default_route(table: str) -> bool:
    """/proc/net/route: a line whose destination and mask are zero."""
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7 and columns[1] == columns[7] == "00000000":
            return True
    return False
