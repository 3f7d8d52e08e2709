"""docker-bake.hcl: every image of the repository, for `docker buildx bake`, a registry cache and remote builders."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envbuilder.errors import UsageError
from envbuilder.model import BaseSource, Lock
from envbuilder.render.context import place_of
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

WHOLE = True
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")  # nothing that HCL or a shell reads as more than itself
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One target: the image of one lock."""

    name: str  # "cu117-torch2.0.1-…", the tag
    target: str  # the same as bake takes it, without dots
    dockerfile: str  # relative to the build context
    platform: str
    line: str  # "cu117"
    base: str  # what a builder elsewhere cannot have by itself; "" where a registry has it


def files(project: Project) -> Mapping[str, str]:
    """The one file. Raises `UsageError` for a value that cannot stand in it."""
    found = {**project.images, project.lock.stack.name: project.lock}
    images = [_image(found[name]) for name in sorted(found)]
    values = {
        "notice": NOTICE,
        "repository": _plain("image", project.image.rpartition(":")[0]),
        "context": _plain("context", project.context),
        "images": images,
        "groups": dict(_groups(images)),
        "bootstrapped": any(image.base for image in images),
        "proxies": _PROXIES,
    }
    return {"docker-bake.hcl": fill("bake/docker-bake.hcl.j2", values)}


def _image(lock: Lock) -> Image:
    stack = lock.stack
    return Image(
        name=_plain("tag", stack.name),
        target=stack.name.replace(".", "_"),
        dockerfile=_plain("Dockerfile", f"{place_of(stack)}/Dockerfile"),
        platform=stack.platform,
        line=stack.cuda_tag,
        base=_plain("base", stack.base.reference) if stack.base.source is BaseSource.BOOTSTRAP else "",
    )


def _groups(images: Sequence[Image]) -> Iterator[tuple[str, list[str]]]:
    """Everything; then one group for each CUDA and, if there are several, for each platform."""
    yield "default", [image.target for image in images]
    for line in sorted({image.line for image in images}):
        yield line, [image.target for image in images if image.line == line]
    platforms = sorted({image.platform for image in images})
    for platform in platforms if len(platforms) > 1 else ():
        yield platform.split("/")[1], [image.target for image in images if image.platform == platform]


def _plain(what: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise UsageError(f"the {what} would be {value!r}: that cannot stand in a bake file")
    return value
