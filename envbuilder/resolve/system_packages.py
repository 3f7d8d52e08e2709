"""`--apt`: which of the distribution's packages an image can have, as far as that is known before a build."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from envbuilder.catalog.observations import GonePackage
from envbuilder.errors import NoStackError
from envbuilder.model import Request, Stack
from envbuilder.resolve.command_line import command

_REFUSED = (  # pattern → why no image should have it
    (
        r"nvidia-(driver|utils|settings|smi|kernel).*|libnvidia-.*|libcuda1|cuda-(drivers|compat).*",
        "the GPU's driver belongs to the host, and one of another version in the image hides it",
    ),
    (
        r"nvidia-cuda-(toolkit|dev).*|cuda(-.*)?|libcudnn[0-9].*|libcublas.*|libnccl.*",
        "CUDA's libraries are in the stack's wheels already; `--flavor devel` adds nvcc",
    ),
)
_SYSTEM_PYTHON = re.compile(
    r"python3-(?!dev$|venv$|pip$|tk$|distutils$|minimal$)([a-z0-9.+-]+)"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an image cannot have a package, and which one to take instead."""

    text: str
    instead: str = ""


def check_system_packages(
    request: Request,
    stack: Stack,
    gone: Sequence[GonePackage],
    *,
    verb: str,
    flags: Sequence[str],
) -> None:
    """Raise `NoStackError` for a package that the base is known not to have, or that breaks an image."""
    for name in request.apt:
        refusal = _refusal(name, stack.base.os, gone)
        if refusal is None:
            continue
        others = [other for other in request.apt if other != name]
        if refusal.instead:
            others.append(refusal.instead)
        changed = replace(request, apt=tuple(sorted(set(others))))
        raise NoStackError(
            refusal.text,
            conflict=[("apt", name)],
            suggestions=[command(changed, verb, instead_of=request, flags=flags)],
        )


def _refusal(name: str, os: str, gone: Sequence[GonePackage]) -> Refusal | None:
    for pattern, reason in _REFUSED:
        if re.fullmatch(pattern, name):
            return Refusal(f"--apt {name}: {reason}")
    for row in gone:
        if row.package == name and os in row.gone:
            return Refusal(
                f"--apt {name}: {os} no longer has it; {row.instead} replaced it",
                row.instead,
            )
    return None


def system_package_notes(names: Sequence[str]) -> Iterator[str]:
    """What people may not expect of the packages that they request."""
    for name in names:
        if _SYSTEM_PYTHON.fullmatch(name):
            yield (
                f"{name} is for the system's Python, which the image does not use: "
                "packages of the image's own Python are installed with `--package`"
            )
