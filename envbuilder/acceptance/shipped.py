"""What lies in /opt/envbuilder, read from outside: no program of the image takes part, so none can lie about it."""

from collections.abc import Iterator, Mapping, Set
from functools import cache, partial
from hashlib import sha256
from typing import Any

from envbuilder import resources
from envbuilder.errors import UsageError
from envbuilder.files import read_bytes
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.model import Check, Lock, Status
from envbuilder.render.context import LABEL_PREFIX, labels_of

FOLDER = "/opt/envbuilder"
TITLE = "lock and labels, read from outside, are what was locked"
_LOCK_LABEL = f"{LABEL_PREFIX}lock"
_REQUIREMENTS = "requirements.txt"
_PAYLOAD = "payload/"
_MOST = 5  # names in one line


def check_shipped(files: Mapping[str, bytes], labels: Mapping[str, str], facts: Mapping[str, Any]) -> Check:
    """Whether lock, requirements and labels agree with each other, and with what the suite has read inside.

    A training job that is not this envbuilder's is named and decides nothing: another version may have built the image.
    """
    check = partial(Check, id="identity.shipped", title=TITLE, bound={"max": 0})
    wrong = list(_problems(files, labels, facts))
    if wrong:
        remedy = "do not use this image: render its context again and build it, `envbuilder build`"
        return check(status=Status.FAILED, value=len(wrong), detail="; ".join(wrong), remedy=remedy)
    return check(status=Status.PASSED, value=0, findings=tuple(_differences(files)))


def _problems(files: Mapping[str, bytes], labels: Mapping[str, str], facts: Mapping[str, Any]) -> Iterator[str]:
    content = files.get(LOCK_FILE)
    if content is None:
        yield f"there is no {FOLDER}/{LOCK_FILE}"
        return
    digest = f"sha256:{sha256(content).hexdigest()}"
    if facts.get("lock", digest) != digest:
        yield f"Python in the image has read another lock ({facts['lock']}) than lies there ({digest})"
    try:
        text = content.decode()
        lock = parse_lock(text, source=f"{FOLDER}/{LOCK_FILE}")
    except (UsageError, UnicodeError) as error:
        yield str(error)
        return
    if labels.get(_LOCK_LABEL) != digest:
        yield f"the label {_LOCK_LABEL} says {labels.get(_LOCK_LABEL)}; the lock is {digest}"
        return
    yield from _of_lock(lock, text, files, labels, facts)


def _of_lock(
    lock: Lock, text: str, files: Mapping[str, bytes], labels: Mapping[str, str], facts: Mapping[str, Any]
) -> Iterator[str]:
    for name, value in labels_of(lock, text).items():
        if labels.get(name) != value:
            yield f"the label {name} says {labels.get(name)}; the lock says {value}"
    if files.get(_REQUIREMENTS) != requirements_text(lock).encode():
        yield f"{FOLDER}/{_REQUIREMENTS} is not the lock's"
    size = sum(wheel.size for wheel in lock.wheels)
    if facts.get("wheel_bytes", size) != size:
        yield f"Python in the image has read wheels of {facts['wheel_bytes']} bytes; the lock has {size}"


def _differences(files: Mapping[str, bytes]) -> Iterator[str]:
    """What is other in the image's training job than in the one of this envbuilder."""
    ours = payload()
    theirs = {path: content for path, content in files.items() if path.startswith(_PAYLOAD)}
    changed = {path for path in ours.keys() & theirs.keys() if ours[path] != theirs[path]}
    more = {path for path in theirs.keys() - ours.keys() if "__pycache__" not in path}
    yield from _named(changed, "differs from this envbuilder's")
    yield from _named(ours.keys() - theirs.keys(), "is not in this image")
    yield from _named(more, "is not this envbuilder's")


def _named(paths: Set[str], words: str) -> Iterator[str]:
    names = sorted(paths)
    if names:
        rest = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        yield f"{', '.join(names[:_MOST])}{rest} {words}"


@cache
def payload() -> Mapping[str, bytes]:
    """The training job and the suite as this envbuilder ships them: path below /opt/envbuilder → content."""
    folder = resources.folder("payload")
    files = {}
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            files[f"{_PAYLOAD}{path.relative_to(folder)}"] = read_bytes(path)
    return files
