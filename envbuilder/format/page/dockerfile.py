"""A stack's Dockerfile: complete if there is a lock, else as far as the stack alone determines it."""

import re

from envbuilder.model import SCHEMA, Lock, Stack
from envbuilder.render.context import dockerfile

UNCOUNTED = "counted when it is locked"
UNLOCKED = "known when it is locked"
_COUNTS = re.compile(r"^(# --- .*: )0 wheels, 0 MB to download -*$", re.MULTILINE)
_LOCK = re.compile(r'(dev\.envbuilder\.lock=")sha256:[0-9a-f]{64}(")')


def text_of(stack: Stack, lock: Lock | None, day: str) -> str:
    """The Dockerfile by the catalog of `day`; without a lock the wheels' number and the lock's digest are left open."""
    if lock is not None:
        return dockerfile(lock)
    unlocked = Lock(
        schema=SCHEMA,
        catalog=day,
        stack=stack,
        base_digest=None,
        wheels=(),
    )
    text = dockerfile(unlocked)
    text = _COUNTS.sub(_uncounted, text)
    return _LOCK.sub(rf"\g<1>{UNLOCKED}\g<2>", text)


def _uncounted(heading: re.Match[str]) -> str:
    """The heading of a layer, as wide as it was."""
    return f"{heading[1]}{UNCOUNTED} ".ljust(119, "-")
