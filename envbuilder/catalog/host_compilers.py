"""Whether an nvcc compiles on a system: it refuses a g++, and contradicts a C library, that is newer than itself."""

from packaging.version import Version

from envbuilder.catalog.rows import Devel, ToolkitImage
from envbuilder.model import Base
from envbuilder.versions import listed


def system_problem(image: ToolkitImage, base: Base, devel: Devel) -> str:
    """Why an image's nvcc compiles nothing on a base, as the rest of a sentence; "" if it does."""
    if base.glibc > Version(image.newest_glibc):
        return f"does not compile with glibc {base.glibc} of {base.os}, only up to {image.newest_glibc}"
    majors = devel.host_compilers.get(base.os, ())
    if majors and min(majors) > image.newest_gxx:
        return f"takes g++ up to {image.newest_gxx}; {base.os} has {listed(majors)}"
    return ""


def host_compiler(image: ToolkitImage, system: str, devel: Devel) -> str | None:
    """The package with the newest g++ that an nvcc takes; None if it takes the system's own one."""
    majors = devel.host_compilers.get(system, ())
    newest = 0
    for major in majors:
        if major <= image.newest_gxx:
            newest = major
    if newest == 0:
        return None
    if newest == majors[-1]:
        return None
    return f"g++-{newest}"
