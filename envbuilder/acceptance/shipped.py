"""The files in /opt/envbuilder, read from outside: no program of the image takes part, so none can lie about them."""

from collections.abc import Iterator, Mapping, Set
from functools import cache, partial
from hashlib import sha256

from envbuilder import resources
from envbuilder.acceptance.compiled_wheels import compiled_problems
from envbuilder.errors import UsageError
from envbuilder.files import read_bytes
from envbuilder.grammar import JsonObject
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


def check_shipped(
    files: Mapping[str, bytes], labels: Mapping[str, str], facts: JsonObject
) -> Check:
    """Whether lock, requirements and labels agree with each other, and with what the suite has read inside.

    A training job that differs from this envbuilder's is a warning: another version may have built the image.
    """
    check = partial(Check, id="identity.shipped", title=TITLE, bound={"max": 0})
    problems = list(_problems(files, labels, facts))
    if not problems:
        warnings = tuple(_differences(files))
        return check(status=Status.PASSED, value=0, findings=warnings)
    detail = "; ".join(problems)
    remedy = "do not use this image; render its context and build it again: `envbuilder build`"
    return check(
        status=Status.FAILED, value=len(problems), detail=detail, remedy=remedy
    )


def _problems(
    files: Mapping[str, bytes], labels: Mapping[str, str], facts: JsonObject
) -> Iterator[str]:
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
    lock: Lock,
    text: str,
    files: Mapping[str, bytes],
    labels: Mapping[str, str],
    facts: JsonObject,
) -> Iterator[str]:
    for name, expected in labels_of(lock, text).items():
        value = labels.get(name)
        if value != expected:
            yield f"the label {name} says {value}; the lock says {expected}"
    requirements = requirements_text(lock).encode()
    if files.get(_REQUIREMENTS) != requirements:
        yield f"{FOLDER}/{_REQUIREMENTS} is not the lock's"
    yield from compiled_problems(lock, files, labels)
    size = lock.download_size
    size_inside = facts.get("wheel_bytes", size)
    if size_inside != size:
        yield f"Python in the image has read wheels of {size_inside} bytes; the lock has {size}"


def _differences(files: Mapping[str, bytes]) -> Iterator[str]:
    """How the image's training job differs from this envbuilder's."""
    ours = payload()
    theirs = _payload_in(files)
    changed = set()
    for path in ours.keys() & theirs.keys():
        if ours[path] != theirs[path]:
            changed.add(path)
    missing = ours.keys() - theirs.keys()
    added = theirs.keys() - ours.keys()
    yield from _named(changed, "differs from this envbuilder's")
    yield from _named(missing, "is not in this image")
    yield from _named(added, "is not this envbuilder's")


def _payload_in(files: Mapping[str, bytes]) -> dict[str, bytes]:
    payload_files = {}
    for path, content in files.items():
        if path.startswith(_PAYLOAD) and "__pycache__" not in path:
            payload_files[path] = content
    return payload_files


def _named(paths: Set[str], words: str) -> Iterator[str]:
    if not paths:
        return
    names = sorted(paths)
    line = ", ".join(names[:_MOST])
    if len(names) > _MOST:
        line += f" and {len(names) - _MOST} more"
    yield f"{line} {words}"


@cache
def payload() -> Mapping[str, bytes]:
    """The training job and the suite as this envbuilder ships them: path below /opt/envbuilder → content."""
    folder = resources.folder("payload")
    files = {}
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            files[f"{_PAYLOAD}{path.relative_to(folder)}"] = read_bytes(path)
    return files
