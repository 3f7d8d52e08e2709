"""Which g++ an nvcc takes on a system: nvcc refuses one that is newer than itself."""

from envbuilder.catalog.rows import Devel, ToolkitImage


def is_taken(image: ToolkitImage, system: str, devel: Devel) -> bool:
    """Whether a system has a g++ that the nvcc of an image takes."""
    majors = devel.host_compilers.get(system, ())
    return not majors or min(majors) <= image.newest_gxx


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
