"""Packages that have their CUDA part in an extra: without it `transformer-engine` installs, and raises at import."""

import re
from collections.abc import Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envbuilder.lock.cuda_clash import NAME_TAG
from envbuilder.lock.wheel_metadata import MetadataAnswer
from envbuilder.model import Lock
from envbuilder.versions import listed

_EXTRA = re.compile(r"""extra == ["']([A-Za-z0-9._-]{1,60})["']""")
_OF_CUDA = re.compile(r"(?:[a-z]+-)?(?:cu|cuda)(1[0-9])")


def extra_notes(lock: Lock, answer: MetadataAnswer) -> Iterator[str]:
    """A sentence for each of the user's packages whose CUDA part was not requested, with the extra that brings it."""
    stack = lock.stack
    if stack.cuda is None:
        return
    versions = {wheel.name: wheel.version for wheel in lock.wheels}
    for line in stack.extras:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        metadata = answer.by_package.get(name)
        if metadata is None:
            continue
        parts = cuda_parts(metadata.requires)
        packages = {package for _, package in parts.values()}
        if not parts or packages & versions.keys():
            continue
        text = f"{name} {versions[name]} has its CUDA part in an extra"
        part = parts.get(stack.cuda.major)
        if part:
            extra = f"{name}[{part[0]}]"
            yield f"{text}: add it with `--package '{extra}'`"
            continue
        majors = [str(major) for major in sorted(parts)]
        yield f"{text}, for CUDA {listed(majors)} and not for the stack's {stack.cuda_line}"


def cuda_parts(requires: Sequence[str]) -> dict[int, tuple[str, str]]:
    """CUDA major → the extra for it, and the package that it brings: `core-cu13`, `transformer-engine-cu13`."""
    parts: dict[int, tuple[str, str]] = {}
    for line in requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        package = canonicalize_name(requirement.name)
        tag = NAME_TAG.search(package)
        if tag is None:
            continue
        major = int(tag[2])
        for extra in _EXTRA.findall(str(requirement.marker)):
            match = _OF_CUDA.fullmatch(extra)
            if match and int(match[1]) == major:
                parts.setdefault(major, (extra, package))
    return parts
