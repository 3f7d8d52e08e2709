"""A stack's Dockerfile: whole where a lock is at hand; else as far as the stack alone decides it."""

import re
from collections.abc import Mapping

from envbuilder import render
from envbuilder.model import SCHEMA, Lock, Stack

UNCOUNTED = "counted when it is locked"
UNLOCKED = "known when it is locked"
_COUNTS = re.compile(r"^(# --- .*: )0 wheels, 0 MB to download -*$", re.MULTILINE)
_LOCK = re.compile(r'(dev\.envbuilder\.lock=")sha256:[0-9a-f]{64}(")')


def text_of(stack: Stack, locks: Mapping[str, Lock], day: str) -> str:
    """The Dockerfile; without a lock, wheels are not counted, and the digests of lock and base are left open."""
    lock = locks.get(stack.name)
    if lock is not None and lock.stack == stack:
        return render.render(lock).files["Dockerfile"]
    empty = Lock(schema=SCHEMA, catalog=day, stack=stack, base_digest=None, wheels=())
    text = render.render(empty).files["Dockerfile"]
    text = _COUNTS.sub(lambda found: f"{found[1]}{UNCOUNTED} ".ljust(119, "-"), text)
    return _LOCK.sub(rf"\g<1>{UNLOCKED}\g<2>", text)
