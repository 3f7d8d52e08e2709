"""docker-bake.hcl: every image of the repository for `docker buildx bake`, a registry cache, remote builders."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envbuilder.errors import UsageError
from envbuilder.model import PYPI, BaseSource, Lock
from envbuilder.render.context import place_of
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

WHOLE = True
Groups = dict[str, list[str]]
_PLAIN = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*"
)  # nothing that HCL or a shell reads as more than itself
_PROXIES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BakeImage:
    """One target: the image of one lock."""

    name: str  # "cu117-torch2.0.1-…", the tag
    target: str  # the same without dots, which bake does not allow
    dockerfile: str  # relative to the build context
    platform: str
    line: str  # "cu117"
    base: str  # what a remote builder cannot pull; "" if a registry has it


def files(project: Project) -> Mapping[str, str]:
    """The one file. Raises `UsageError` for a value that cannot be used in it."""
    locks = {**project.images, project.lock.stack.name: project.lock}
    images = [_image(locks[name]) for name in sorted(locks)]
    values = {
        "notice": NOTICE,
        "repository": _plain("image", project.image.rpartition(":")[0]),
        "context": _plain("context", project.context),
        "images": images,
        "groups": dict(_groups(images)),
        "bootstrapped": any(image.base for image in images),
        "own_index": any(lock.stack.index != PYPI for lock in locks.values()),
        "proxies": _PROXIES,
    }
    return {"docker-bake.hcl": fill("bake/docker-bake.hcl.j2", values)}


def _image(lock: Lock) -> BakeImage:
    stack = lock.stack
    return BakeImage(
        name=_plain("tag", stack.name),
        target=stack.name.replace(".", "_"),
        dockerfile=_plain("Dockerfile", f"{place_of(stack)}/Dockerfile"),
        platform=stack.platform,
        line=stack.cuda_tag,
        base=_plain("base", stack.base.reference)
        if stack.base.source is BaseSource.BOOTSTRAP
        else "",
    )


def _groups(images: Sequence[BakeImage]) -> Iterator[tuple[str, list[str]]]:
    """Everything; then one group for each CUDA and, if there are several, for each platform."""
    everything = []
    by_line: Groups = defaultdict(list)
    by_machine: Groups = defaultdict(list)
    for image in images:
        _, machine = image.platform.split("/")
        target = image.target
        everything.append(target)
        by_line[image.line].append(target)
        by_machine[machine].append(target)
    yield "default", everything
    yield from sorted(by_line.items())
    if len(by_machine) > 1:
        yield from sorted(by_machine.items())


def _plain(what: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise UsageError(
            f"the {what} would be {value!r}: that cannot be used in a bake file"
        )
    return value
