"""What the index says of one package by itself: whether its newest release can go with a stack, and if not, why.

A page and the METADATA of one wheel: nothing is resolved. `envbuilder lock` finds out what really can be installed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from envbuilder.errors import EngineError
from envbuilder.lock.project_page import ProjectFile, ProjectPage, project_page
from envbuilder.lock.python_bounds import allows_python
from envbuilder.lock.target_platform import markers
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import WheelMetadata, WheelPlace, read_metadata
from envbuilder.model import Stack
from envbuilder.versions import listed

_PYTHONS = range(6, 20)  # 3.6 to 3.19
_MOST_LOOKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLook:
    """The newest release of a package as of a day, and why it does not go with a stack."""

    name: str
    version: Version | None  # None: there is none
    day: date | None
    clash: str  # "" if nothing speaks against it

    @property
    def text(self) -> str:
        """`vllm 0.33.0 needs torch==2.14.0, and this is torch 2.15.0`; "" if nothing speaks against it."""
        if not self.clash:
            return ""
        release = self.name
        if self.version:
            release += f" {self.version}"
        return f"{release} {self.clash}"


def look_notes(
    uv: Uv, stack: Stack, requirements: Sequence[Requirement], *, seconds: float
) -> Iterator[str]:
    """What speaks against the newest release of each package, and which could not be looked at in time."""
    deadline = time.monotonic() + seconds
    names = []
    reason = "the index is too slow"
    for requirement in requirements[:_MOST_LOOKS]:
        left = deadline - time.monotonic()
        if left <= 0:
            names.append(requirement.name)
            continue
        try:
            page = project_page(uv, requirement.name, seconds=left)
        except EngineError as error:
            names.append(requirement.name)
            reason = error.message
            # The others are on the same index.
            deadline = time.monotonic()
            continue
        look = look_at(uv, stack, requirement, page) if page else None
        if look and look.text:
            yield look.text
    names += [requirement.name for requirement in requirements[_MOST_LOOKS:]]
    if names:
        yield f"{listed(names)} not looked at: {reason}"


def look_at(
    uv: Uv, stack: Stack, requirement: Requirement, page: ProjectPage
) -> PackageLook | None:
    """What its page and its wheel say of a package; None if no release is within its bounds."""
    if not page.files:
        return PackageLook(
            name=page.name, version=None, day=None, clash="is not on the index"
        )
    version = page.newest(requirement.specifier, stack.as_of)
    if version is None:
        return None
    return PackageLook(
        name=page.name,
        version=version,
        day=page.released(version),
        clash=_clash(uv, stack, page.files_of(version)),
    )


def _clash(uv: Uv, stack: Stack, files: list[ProjectFile]) -> str:
    for file in files:
        if not allows_python(file.python, stack.python):
            return f"needs Python {file.python}, and this is Python {stack.python}"
    wheels = [file for file in files if file.is_wheel]
    if not wheels:
        return "has no wheel, only a source package"
    fitting = [file for file in wheels if file.fits(stack)]
    if not fitting:
        others = _others(wheels, stack)
        place = f"Python {stack.python} on {stack.platform}"
        return f"has no wheel for {place}{others}"
    metadata = _metadata_of(fitting[0], uv)
    return unmet_pin(metadata, stack)


def _metadata_of(file: ProjectFile, uv: Uv) -> WheelMetadata:
    """What a wheel says of itself; nothing, if it cannot be read."""
    nothing = WheelMetadata()
    if uv.client is None or not file.url:
        return nothing
    place = WheelPlace(name="wheel", url=file.url)
    answer = read_metadata([place], uv.client.network)
    return answer.by_package.get("wheel", nothing)


def _others(wheels: list[ProjectFile], stack: Stack) -> str:
    """`: they are for Python 3.8 to 3.12`; "" if the Python is not what is wrong with them."""
    minors = set()
    for file in wheels:
        for tag in parse_wheel_filename(file.name)[3]:
            minor = tag.interpreter.removeprefix("cp3")
            if minor != tag.interpreter and minor.isdigit():
                minors.add(int(minor))
    minors &= set(_PYTHONS)
    if not minors or stack.python.minor in minors:
        return ""
    first = min(minors)
    last = max(minors)
    if first == last:
        return f": it is for Python 3.{first}"
    return f": they are for Python 3.{first} to 3.{last}"


def unmet_pin(metadata: WheelMetadata, stack: Stack) -> str:
    """What a wheel needs and a stack pins to something else: torch and its family; "" if there is nothing."""
    if not allows_python(metadata.requires_python, stack.python):
        return f"needs Python {metadata.requires_python}, and this is Python {stack.python}"
    pins = dict(_pins_of(stack))
    environment = {**markers(stack), "extra": ""}
    for line in metadata.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name not in pins or requirement.specifier.contains(
            pins[name], prereleases=True
        ):
            continue
        if requirement.marker and not requirement.marker.evaluate(environment):  # type: ignore[arg-type]
            continue
        return f"needs {name}{requirement.specifier}, and this is {name} {pins[name].public}"
    return ""


def _pins_of(stack: Stack) -> Iterator[tuple[str, Version]]:
    """The packages that a stack has in one version."""
    for line in stack.requirements:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        for clause in requirement.specifier:
            if clause.operator != "==":
                continue
            if clause.version.endswith(".*"):
                continue
            yield name, Version(clause.version)
