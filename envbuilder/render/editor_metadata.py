"""The image label `devcontainer.metadata`: with it `"image": "…"` is a whole devcontainer.json.

By the Development Containers specification, an editor merges the objects in this label into the project's own file. A
volume for caches and the size of the shared memory cannot be in it: those, and git, come with the target devcontainer.
"""

import json
import re

from envbuilder.errors import UsageError
from envbuilder.model import Stack

LABEL = "devcontainer.metadata"
_EXTENSIONS = (
    "ms-python.python",
    "ms-python.vscode-pylance",
    "ms-toolsai.jupyter",
    "charliermarsh.ruff",
)
_SETTINGS = {
    "python.defaultInterpreterPath": "/opt/venv/bin/python",
    "python.terminal.activateEnvironment": False,
}
# Between single quotes a Dockerfile takes everything but these as it is.
_UNQUOTED = re.compile(r"[^'\\\x00-\x1f\x7f]+")


def editor_metadata(stack: Stack) -> str:
    """The value of the label, for a Dockerfile between single quotes."""
    entry: dict[str, object] = {
        "init": True,
        # The image's own command would end at once.
        "overrideCommand": True,
        "remoteUser": "trainer",
        "updateRemoteUserUID": True,
        # An editor asks a login shell for its environment, which resets PATH.
        "remoteEnv": {"PATH": "${containerEnv:PATH}"},
        "customizations": {
            "vscode": {"extensions": list(_EXTENSIONS), "settings": _SETTINGS},
            "jetbrains": {"backend": "PyCharm"},
        },
    }
    if stack.cuda is not None:
        entry["hostRequirements"] = {"gpu": "optional"}
    text = json.dumps([entry], separators=(",", ":"))
    if not _UNQUOTED.fullmatch(text):
        raise UsageError(f"{LABEL} would be {text!r}: that cannot be in a Dockerfile")
    return text
