"""What an installer inside the image would see: its platform for uv, its wheel tags and its markers.

None of it is read from the machine that envbuilder runs on, which may be a Mac with another Python.
"""

from collections.abc import Iterator
from functools import cache
from typing import cast

from packaging import tags
from packaging.markers import Environment, default_environment

from envbuilder.model import Stack

_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_UV_GLIBC_MINORS = range(28, 41)  # the manylinux_2_* platforms uv has a name for
_OLDEST_UV_PLATFORM = 17
_LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def uv_platform(stack: Stack) -> str:
    """`x86_64-manylinux_2_31`: the newest platform that uv knows and that the base image can run."""
    newest = min(stack.base.glibc.minor, _UV_GLIBC_MINORS[-1])
    minor = newest if newest in _UV_GLIBC_MINORS else _OLDEST_UV_PLATFORM
    return f"{machine_of(stack)}-manylinux_2_{minor}"


def wheel_tags(stack: Stack) -> tuple[tags.Tag, ...]:
    """What pip inside the image would accept, best first (PEP 425, 600)."""
    return _tags_of(
        stack.python.major,
        stack.python.minor,
        stack.base.glibc.minor,
        machine_of(stack),
    )


def accepted_tags(stack: Stack) -> frozenset[tags.Tag]:
    """The same without order, to look up many wheels: there are a thousand tags."""
    return _tag_set_of(
        stack.python.major,
        stack.python.minor,
        stack.base.glibc.minor,
        machine_of(stack),
    )


@cache
def _tag_set_of(
    major: int, minor: int, glibc_minor: int, machine: str
) -> frozenset[tags.Tag]:
    return frozenset(_tags_of(major, minor, glibc_minor, machine))


@cache
def _tags_of(
    major: int, minor: int, glibc_minor: int, machine: str
) -> tuple[tags.Tag, ...]:
    version = (major, minor)
    interpreter = f"cp{major}{minor}"
    platforms = list(_platforms(glibc_minor, machine))
    binary = tags.cpython_tags(version, platforms=platforms)
    pure = tags.compatible_tags(version, interpreter=interpreter, platforms=platforms)
    return (*binary, *pure)


def _platforms(glibc_minor: int, machine: str) -> Iterator[str]:
    for number in range(glibc_minor, 4, -1):
        yield f"manylinux_2_{number}_{machine}"
        if number in _LEGACY_TAGS:
            yield f"{_LEGACY_TAGS[number]}_{machine}"
    yield f"linux_{machine}"


def markers(stack: Stack) -> Environment:
    """PEP 508 markers as they will be inside the image, not as they are here."""
    environment = cast("dict[str, str]", dict(default_environment()))
    environment |= {
        "python_version": str(stack.python),
        "python_full_version": f"{stack.python}.0",
        "implementation_version": f"{stack.python}.0",
        "platform_machine": machine_of(stack),
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    return cast("Environment", environment)


def machine_of(stack: Stack) -> str:
    """`x86_64`, as `uname -m` and the names of wheels have it."""
    return _MACHINES[stack.platform]
