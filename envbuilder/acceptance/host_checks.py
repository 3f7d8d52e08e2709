"""Checks that only the host can make: containers of their own, and what lies in the image's layers."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from envbuilder.acceptance.verdict import SECRET
from envbuilder.console import size_text
from envbuilder.engine.container_spec import Job
from envbuilder.engine.protocol import Engine
from envbuilder.errors import EngineError
from envbuilder.files import temporary_folder
from envbuilder.model import Check, Status

FOREIGN = "this image is not ours and promises nothing here"
_STRANGER = 12345  # a user id that no image knows
_PLACE = "/mnt/work"
_SMALL_JOB = ("train", "--rows", "64", "--held-out", "16", "--epochs", "1", "--output", f"{_PLACE}/run")
_JOB_SECONDS = 900  # against a hang: it takes some, on a busy machine many times as long
_WAIT_SECONDS = 5  # less than Docker's ten, after which it kills


# --- any user, a read-only root, a folder of the host's ------------------------------------------------------------


def check_any_user(engine: Engine, image: str) -> Check:
    """The training job runs under a user that the image does not know, read-only, and its files belong to that user."""
    check = partial(Check, id="contract.any_user", title="any user can train, on a read-only root")
    remedy = "start it through the image's entrypoint: it gives such a user a home and caches"
    with temporary_folder("any-user") as folder:
        user = _stranger(folder)
        job = Job(command=_SMALL_JOB, user=user, read_only=True, folder=(folder, _PLACE))
        code, last = _outcome(engine, image, job)
        if code != 0:
            failed = f"as user {user} `train` ended with exit code {code}: {last}"
            return check(status=Status.FAILED, value=code, bound=0, detail=failed, remedy=remedy)
        written = [path for path in folder.rglob("*") if path.is_file()]
        if not written:
            return check(status=Status.NOT_RUN, detail="the engine is on another machine: its folders are not these")
        strange = [path for path in written if path.stat().st_uid != folder.stat().st_uid]
        if strange and not engine.maps_users():
            wrong = f"{strange[0].name} belongs to user {strange[0].stat().st_uid}, not to {user}"
            return check(status=Status.FAILED, value=len(strange), bound=0, detail=wrong, remedy=remedy)
    return check(status=Status.PASSED, value=0, bound=0)


def _outcome(engine: Engine, image: str, job: Job) -> tuple[int, str]:
    """A job's exit code and its last words; 126 if it cannot even start."""
    with engine.container(image, job) as container:
        try:
            said = list(container.lines(_JOB_SECONDS))
        except EngineError as error:
            return 126, error.message
        return container.wait()[0], (container.errors() or said or ["no word"])[-1][:300]


def _stranger(folder: Path) -> str:
    """`UID:GID` of somebody who may write the folder: a stranger if we may give it away, else ourselves."""
    with suppress(PermissionError):
        os.chown(folder, _STRANGER, _STRANGER)
    found = folder.stat()
    return f"{found.st_uid}:{found.st_gid}"


# --- signals -------------------------------------------------------------------------------------------------------


def check_signals(engine: Engine, image: str) -> Check:
    """SIGTERM reaches the training job, and it ends with 130 before Docker would kill it."""
    check = partial(Check, id="contract.signals", title="the job hears SIGTERM and ends promptly")
    remedy = "let the entrypoint `exec` the job, so that it is process 1 and hears its signals"
    bound = {"max": _WAIT_SECONDS}
    check = partial(check, unit="s")
    with engine.container(image, Job(command=("train", "--epochs", "1000"), read_only=True)) as container:
        asked: float | None = None
        for line in container.lines(_JOB_SECONDS):
            if asked is None and line.startswith("device"):
                asked = time.monotonic()
                container.signal("TERM")
                container.limit(_WAIT_SECONDS)
        if asked is None:
            last = (container.errors() or ["no word"])[-1][:300]
            return check(status=Status.FAILED, bound=bound, detail=f"`train` did not start: {last}", remedy=remedy)
        seconds = round(time.monotonic() - asked, 2)
        code, _ = container.wait()
        if container.late:
            deaf = f"it still ran {_WAIT_SECONDS} s after SIGTERM"
            return check(status=Status.FAILED, value=seconds, bound=bound, detail=deaf, remedy=remedy)
        if code != 130:
            other = f"it ended with exit code {code}, not 130"
            return check(status=Status.FAILED, value=seconds, bound=bound, detail=other, remedy=remedy)
    return check(status=Status.PASSED, value=seconds, bound=bound)


# --- layers --------------------------------------------------------------------------------------------------------

_SECRET_NAMES = re.compile(
    r"/(\.netrc|\.git-credentials|\.pypirc|\.env|id_(rsa|dsa|ecdsa|ed25519)|\.(bash|python|zsh)_history)$|/\.git/HEAD$"
)
_SYSTEM = re.compile(r"/(usr|lib|lib64|bin|sbin|boot|proc|sys|dev|var/lib|var/cache|opt/(venv|conda|nvidia))/")
_CACHES = re.compile(
    r"/\.cache/(pip|uv|huggingface)/|/var/cache/apt/.*\.(deb|bin)$|/var/lib/apt/lists/.|/conda/pkgs/.*\.(conda|bz2)$"
)


_MOST_PLACES, _ELSEWHERE = 10_000, "many other folders"  # an image can have any number of them
_MOST_SECRETS = 1000  # are enough to refuse an image


@dataclass(slots=True)
class Layers:
    """What was found in the layers: files with secrets, and bytes of caches."""

    secrets: list[str]
    caches: dict[str, int]


def is_telling(path: str) -> bool:
    """Whether a layer's file is worth a look: it may be a secret, or is a cache."""
    return bool(_SECRET_NAMES.search(path) or _CACHES.search(path) or not _SYSTEM.match(path))


def read_layers(engine: Engine, image: str) -> Layers:
    """Look into every layer; a file that a later layer deletes is still there for anybody who has the image."""
    found = Layers([], {})
    for path, size, content in engine.layer_files(image, is_telling):
        if _CACHES.search(path):
            place = path.rsplit("/", 1)[0]
            place = place if len(found.caches) < _MOST_PLACES else _ELSEWHERE
            found.caches[place] = found.caches.get(place, 0) + size
        elif size and (_SECRET_NAMES.search(path) or SECRET.search(content.decode(errors="replace"))):
            found.secrets.append(path)
            if len(found.secrets) >= _MOST_SECRETS:
                break
    return found


def judge_caches(layers: Layers, bound: dict[str, float]) -> Check:
    """Whether the layers are free of what only a build needs."""
    total = sum(layers.caches.values())
    check = partial(Check, id="contract.caches", title="no cache is in a layer", value=total, bound=bound, unit="B")
    if total <= bound["max"]:
        return check(status=Status.PASSED)
    place, most = max(layers.caches.items(), key=lambda pair: pair[1])
    remedy = "use cache mounts (`RUN --mount=type=cache,…`); deleting it in a later layer does not help"
    return check(status=Status.FAILED, detail=f"{size_text(most)} are in {place}", remedy=remedy)


# --- running them --------------------------------------------------------------------------------------------------


def attempt(title: str, identifier: str, make: Callable[[], Check]) -> Check:
    """A check, with its seconds; what breaks it is an error that says why."""
    started = time.monotonic()
    try:
        check = make()
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"[:500]
        check = Check(id=identifier, title=title, status=Status.ERROR, detail=detail, remedy="run it again")
    return replace(check, seconds=round(time.monotonic() - started, 2))
