"""Whether every locked wheel allows the stack's Python: uv ignores upper bounds of Requires-Python, pip does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from envbuilder.errors import LockError, NoStackError
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.wheel_metadata import (
    MetadataAnswer,
    WheelPlace,
    read_metadata,
    wheel_addresses,
)
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Layer, Stack, Wheel

_PATCHES = range(1, 40)
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonClash:
    """A locked wheel that does not allow the stack's Python."""

    wheel: Wheel
    bounds: SpecifierSet

    @property
    def text(self) -> str:
        """`vllm 0.10.1.1 needs Python <3.13,>=3.9`."""
        return f"{self.wheel.name} {self.wheel.version} needs Python {self.bounds}"


def metadata_of(
    wheels: tuple[Wheel, ...],
    document: JsonObject,
    client: IndexClient,
    built: Mapping[str, Path],
) -> MetadataAnswer:
    """The metadata of the wheels that can be installed on several Pythons, without NVIDIA's, which have no Python."""
    addresses = wheel_addresses(document)
    places = []
    for wheel in wheels:
        if wheel.layer is Layer.NVIDIA or _is_of_one_python(wheel):
            continue
        place = WheelPlace(
            name=wheel.name,
            url=addresses.get(wheel.file, ""),
            path=built.get(wheel.name),
        )
        places.append(place)
    return read_metadata(places, client.network)


def _is_of_one_python(wheel: Wheel) -> bool:
    """Whether the file is for one Python alone (cp311-cp311): then uv has compared it already."""
    tags = parse_wheel_filename(wheel.file)[3]
    return all(
        tag.interpreter.startswith("cp") and tag.abi.startswith(tag.interpreter)
        for tag in tags
    )


def python_clashes(
    wheels: tuple[Wheel, ...], answer: MetadataAnswer, python: Version
) -> Iterator[PythonClash]:
    """The wheels that no patch release of a Python satisfies."""
    for wheel in wheels:
        metadata = answer.by_package.get(wheel.name)
        if metadata is None or allows_python(metadata.requires_python, python):
            continue
        yield PythonClash(wheel=wheel, bounds=metadata.requires_python)


def allows_python(bounds: SpecifierSet, python: Version) -> bool:
    """Whether some patch release of a Python is within bounds; X.Y.0 alone, as in `<=3.12`, is nobody's Python."""
    if not str(bounds):
        return True
    return any(
        bounds.contains(f"{python}.{patch}", prereleases=True) for patch in _PATCHES
    )


def all_allow_python(
    document: JsonObject, stack: Stack, client: IndexClient | None
) -> bool:
    """Whether no wheel of uv's answer refuses the stack's Python, as far as can be read."""
    if client is None:
        return True
    try:
        wheels = select_wheels(document, stack)
    except LockError:  # such as a wheel that was built here, which has no size
        return True
    answer = metadata_of(
        wheels,
        document,
        client,
        {},
    )
    return not list(python_clashes(wheels, answer, stack.python))


def python_error(
    clashes: list[PythonClash], stack: Stack, suggestion: str
) -> NoStackError:
    """The packages, the Pythons that they allow, and what to request instead."""
    texts = [clash.text for clash in clashes]
    names = {clash.wheel.name for clash in clashes}
    lines = []
    for line in stack.extras:
        if canonicalize_name(Requirement(line).name) in names:
            lines.append(line)
    advice = ""
    if not suggestion:
        advice = "choose another torch, or another version of the package"
    conflict = [("python", str(stack.python))]
    conflict += [("package", line) for line in lines]
    return NoStackError(
        f"{' and '.join(texts[:_MOST_NAMED])}, and the stack has Python {stack.python}",
        conflict=conflict,
        reasons=texts,
        problems=texts[_MOST_NAMED:],
        suggestions=[suggestion] if suggestion else [],
        advice=advice,
    )
