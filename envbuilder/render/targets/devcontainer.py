"""`.devcontainer/` for VS Code, PyCharm and the devcontainer CLI: the accepted image plus what an editor needs.

It starts from the image's tag, not from its Dockerfile: a tag means that the image has been accepted. The thin
Dockerfile on top exists because editors start processes without the entrypoint, and a volume's folder needs an owner.
"""

import re

from envbuilder.errors import UsageError
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

SETTINGS = {"shm-size": "shared memory of the dev container, e.g. 2g"}
EXECUTABLE = (".devcontainer/check", ".devcontainer/image")
_SHM_SIZE = "2g"  # two workers pass batches of some hundred MB; the suite needs 1 GiB
_ALIAS = "envbuilder-devcontainer"
"""Repository of the name that `.devcontainer/image` gives the image it selects."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+$-]*")
_SIZE = re.compile(r"[1-9][0-9]*[bkmg]?")


def files(project: Project) -> dict[str, str]:
    """devcontainer.json, what selects the image, the Dockerfile on top, and the check that runs after creation."""
    shm_size = project.settings.get("shm-size", _SHM_SIZE)
    if not _SIZE.fullmatch(shm_size):
        raise UsageError(
            f"shm-size {shm_size!r} is not a size",
            hint='write it as Docker does: `shm-size = "2g"`',
        )
    stack = project.lock.stack
    values = {
        "notice": NOTICE,
        "stack": stack.name,
        "cuda": stack.cuda is not None,
        "image": _plain(project.image_on("$base")),
        "alias": f"{_ALIAS}:{stack.name}",
        "base_name": stack.base_name,
        "lock": project.lock_file,
        "locks": project.lock_file.replace(stack.name, stack.name_on("*")),
        "shm_size": shm_size,
        # Both `debian` and `debian-security` are below it.
        "archives": project.mirrors.get("debian", "").removesuffix("debian"),
    }
    return {
        f".devcontainer/{name}": fill(f"devcontainer/{name}.j2", values)
        for name in ("devcontainer.json", "image", "Dockerfile", "check")
    }


def _plain(image: str) -> str:
    """An image's name that a shell takes as it is, but for `$base`."""
    if not _PLAIN.fullmatch(image) or image.count("$") > 1:
        raise UsageError(
            f"the image would be {image!r}: that cannot be used in a dev container"
        )
    return image
