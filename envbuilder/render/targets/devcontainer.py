"""`.devcontainer/` for VS Code, PyCharm and the devcontainer CLI: the accepted image plus what an editor needs.

It starts from the image's tag, not from its Dockerfile: a tag means that the image has been accepted. The thin
Dockerfile on top exists because editors start processes without the entrypoint, and a volume's folder needs an owner.
"""

import re

from envbuilder.errors import UsageError
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

SETTINGS = {"shm-size": "shared memory of the dev container, e.g. 2g"}
EXECUTABLE = (".devcontainer/check",)
_SHM_SIZE = "2g"  # two workers pass batches of some hundred MB; the suite needs 1 GiB
_SIZE = re.compile(r"[1-9][0-9]*[bkmg]?")


def files(project: Project) -> dict[str, str]:
    """devcontainer.json, the Dockerfile on top of the image, and the check that runs after creation."""
    shm_size = project.settings.get("shm-size", _SHM_SIZE)
    if not _SIZE.fullmatch(shm_size):
        raise UsageError(
            f"shm-size {shm_size!r} is not a size",
            hint='write it as Docker does: `shm-size = "2g"`',
        )
    values = {
        "notice": NOTICE,
        "stack": project.lock.stack.name,
        "cuda": project.lock.stack.cuda is not None,
        "image": project.image,
        "lock": project.lock_file,
        "shm_size": shm_size,
    }
    return {
        f".devcontainer/{name}": fill(f"devcontainer/{name}.j2", values)
        for name in ("devcontainer.json", "Dockerfile", "check")
    }
