"""What an image says of the wheels that were compiled in its build: /opt/envbuilder/compiled.json, and its label."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from envbuilder.errors import UsageError
from envbuilder.grammar import Numbers, Project, Sha256, Size, VersionText, WheelFile
from envbuilder.model import Lock
from envbuilder.render.context import COMPILED_LABEL

REPORT = "compiled.json"
_MOST_WHEELS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWheel:
    """One wheel, as the build of the image made it."""

    name: Project
    version: VersionText
    wheel: WheelFile
    sha256: Sha256
    size: Size  # bytes
    capabilities: tuple[Numbers, ...]
    nvcc: Numbers


_Rows = Annotated[tuple[CompiledWheel, ...], msgspec.Meta(max_length=_MOST_WHEELS)]


def read_report(content: bytes | None) -> tuple[CompiledWheel, ...]:
    """The wheels of a report; none without one. Raises `UsageError` for an invalid one."""
    if content is None:
        return ()
    try:
        return msgspec.json.decode(content, type=_Rows)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{REPORT} is invalid: {error}") from error


def label_of(wheels: tuple[CompiledWheel, ...]) -> str:
    """`torch-scatter==2.1.2@sha256:…`, one after the other."""
    words = [f"{wheel.name}=={wheel.version}@sha256:{wheel.sha256}" for wheel in wheels]
    return " ".join(words)


def compiled_problems(
    lock: Lock, files: Mapping[str, bytes], labels: Mapping[str, str]
) -> Iterator[str]:
    """Where report, label and lock disagree. An image built without envbuilder has an empty label."""
    if not lock.compiled:
        return
    try:
        wheels = read_report(files.get(REPORT))
    except UsageError as error:
        yield error.message
        return
    expected = [source.name for source in lock.compiled]
    found = [wheel.name for wheel in wheels]
    if sorted(found) != sorted(expected):
        yield f"{REPORT} has {', '.join(found) or 'nothing'}; the lock has {', '.join(expected)} to be compiled"
    label = labels.get(COMPILED_LABEL, "")
    if label and label != label_of(wheels):
        yield f"the label {COMPILED_LABEL} says {label}; {REPORT} says {label_of(wheels)}"
