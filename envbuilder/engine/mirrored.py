"""The same image or package from a mirror. Pure."""

from dataclasses import replace

from envbuilder.engine.registry import HUB, host_of
from envbuilder.model import Base, BaseSource

# The archives of Debian, on whichever of Debian's own hosts. A snapshot has another path, and stays what it is.
_ARCHIVES = "https?:/+[^/ ]*debian[.]org/(debian-security|debian)"
APT_VARIABLE = "ENVBUILDER_APT_MIRROR"
APT_CA_VARIABLE = "ENVBUILDER_APT_CA"
"""For the hooks of mmdebstrap: the address of the mirror, and a CA bundle."""


def mirrored_base(base: Base, mirror: str | None) -> Base:
    """A base of Docker Hub as the mirror has it; every other base is what it was."""
    if not mirror or base.source is not BaseSource.REGISTRY:
        return base
    return replace(base, reference=mirrored_image(base.reference, mirror))


def mirrored_image(reference: str, mirror: str) -> str:
    """`python:3.10` → `mirror/library/python:3.10`; an image of another registry is what it was."""
    if host_of(reference) != HUB:
        return reference
    path = reference.removeprefix(f"{HUB}/")
    if "/" not in path:
        path = f"library/{path}"
    return f"{mirror}/{path}"


def apt_hooks() -> list[str]:
    """Options of mmdebstrap: apt asks the mirror of `APT_VARIABLE` while the base is made, and Debian in the base.

    The address is not in the command: it may hold a password.
    """
    folder = 'cd "$1"/etc/apt &&'
    settings = "apt.conf.d/99mirror"
    to_mirror = f"s,{_ARCHIVES},${{{APT_VARIABLE}%debian}}\\1,"
    ca = f'Acquire::https::CAInfo \\"${APT_CA_VARIABLE}\\";'
    return [
        f"--setup-hook={folder} mkdir kept && cp -r sources.list* kept",
        f'--setup-hook={folder} find sources.list* -type f -exec sed -Ei "{to_mirror}" {{}} +',
        f'--setup-hook={folder} if [ -n "${APT_CA_VARIABLE}" ]; then echo "{ca}" >{settings}; fi',
        f"--customize-hook={folder} cp -r kept/. . && rm -r kept && rm -f {settings}",
    ]
