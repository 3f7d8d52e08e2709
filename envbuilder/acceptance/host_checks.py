"""Checks that only the host can make: separate containers, and the files in the image's layers."""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from envbuilder.acceptance.verdict import SECRET
from envbuilder.console import size_text
from envbuilder.engine.container_spec import ContainerSpec
from envbuilder.engine.protocol import Engine
from envbuilder.errors import EngineError
from envbuilder.files import temporary_folder
from envbuilder.model import Check, Status

FOREIGN = "this image is not ours and promises nothing here"
_UNKNOWN_USER = 12345  # no image knows this user id
_INTERRUPTED = 130  # exit code of a job that a signal ended in an orderly way
_PLACE = "/mnt/work"
_SMALL_JOB = (
    "train",
    "--rows",
    "64",
    "--held-out",
    "16",
    "--epochs",
    "1",
    "--output",
    f"{_PLACE}/run",
)
_JOB_SECONDS = (
    900  # against a hang: it takes seconds, on a busy machine many times as long
)
_WAIT_SECONDS = 5  # less than the ten after which Docker kills
_LONGEST_REASON = 500  # characters of an unexpected error
_LONGEST_QUOTE = 300  # characters of a container's last line


# --- any user, a read-only root, a folder of the host ------------------------------------------------------------


def check_any_user(engine: Engine, image: str) -> Check:
    """The training job runs under a user that the image does not know, read-only, and its files belong to that user."""
    check = partial(
        Check, id="contract.any_user", title="any user can train, on a read-only root"
    )
    remedy = "start it through the image's entrypoint: it gives such a user a home and caches"
    with temporary_folder("any-user") as folder:
        user = _give_away(folder)
        spec = ContainerSpec(
            command=_SMALL_JOB, user=user, read_only=True, folder=(folder, _PLACE)
        )
        code, last_line = _run(engine, image, spec)
        if code != 0:
            failed = f"as user {user} `train` ended with exit code {code}: {last_line}"
            return check(
                status=Status.FAILED, value=code, bound=0, detail=failed, remedy=remedy
            )
        written = _files_below(folder)
        if not written:
            return check(
                status=Status.NOT_RUN,
                detail="the engine is on another machine and cannot use our folders",
            )
        foreign = _of_other_users(written, folder.stat().st_uid)
        if foreign and not engine.maps_users():
            first = foreign[0]
            wrong = f"{first.name} belongs to user {first.stat().st_uid}, not to {user}"
            return check(
                status=Status.FAILED,
                value=len(foreign),
                bound=0,
                detail=wrong,
                remedy=remedy,
            )
    return check(status=Status.PASSED, value=0, bound=0)


def _run(engine: Engine, image: str, spec: ContainerSpec) -> tuple[int, str]:
    """A container's exit code and its last line; 126 if it cannot even start."""
    with engine.container(image, spec) as container:
        try:
            output = list(container.lines(_JOB_SECONDS))
        except EngineError as error:
            return 126, error.message
        code, _ = container.wait()
        return code, _last_line(container.errors() or output)


def _last_line(lines: Sequence[str]) -> str:
    return lines[-1][:_LONGEST_QUOTE] if lines else "no output"


def _files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _of_other_users(paths: Sequence[Path], user: int) -> list[Path]:
    return [path for path in paths if path.stat().st_uid != user]


def _give_away(folder: Path) -> str:
    """`UID:GID` of a user who may write the folder: one that no image knows, or ourselves if we may not change it."""
    with suppress(PermissionError):
        os.chown(folder, _UNKNOWN_USER, _UNKNOWN_USER)
    owner = folder.stat()
    return f"{owner.st_uid}:{owner.st_gid}"


# --- signals -------------------------------------------------------------------------------------------------------


def check_signals(engine: Engine, image: str) -> Check:
    """SIGTERM reaches the training job, and it ends with 130 before Docker would kill it."""
    bound = {"max": _WAIT_SECONDS}
    title = "the job hears SIGTERM and ends promptly"
    check = partial(Check, id="contract.signals", title=title, bound=bound, unit="s")
    remedy = "let the entrypoint `exec` the job, so that it is process 1 and receives the signals"
    long_job = ContainerSpec(command=("train", "--epochs", "1000"), read_only=True)
    with engine.container(image, long_job) as container:
        signalled: float | None = None
        for line in container.lines(_JOB_SECONDS):
            # From this line on, the job handles signals.
            if signalled is None and line.startswith("device"):
                signalled = time.monotonic()
                container.signal("TERM")
                container.limit(_WAIT_SECONDS)
        if signalled is None:
            not_started = f"`train` did not start: {_last_line(container.errors())}"
            return check(status=Status.FAILED, detail=not_started, remedy=remedy)
        seconds = round(time.monotonic() - signalled, 2)
        code, _ = container.wait()
        if container.late:
            deaf = f"it still ran {_WAIT_SECONDS} s after SIGTERM"
            return check(
                status=Status.FAILED, value=seconds, detail=deaf, remedy=remedy
            )
        if code != _INTERRUPTED:
            other = f"it ended with exit code {code}, not {_INTERRUPTED}"
            return check(
                status=Status.FAILED, value=seconds, detail=other, remedy=remedy
            )
    return check(status=Status.PASSED, value=seconds)


# --- layers --------------------------------------------------------------------------------------------------------

_SECRET_NAMES = re.compile(
    r"/(\.netrc|\.git-credentials|\.pypirc|\.env|id_(rsa|dsa|ecdsa|ed25519)|\.(bash|python|zsh)_history)$|/\.git/HEAD$"
)
_SYSTEM = re.compile(
    r"/(usr|lib|lib64|bin|sbin|boot|proc|sys|dev|var/lib|var/cache|opt/(venv|conda|nvidia))/"
)
_CACHES = re.compile(
    r"/\.cache/(pip|uv|huggingface)/|/var/cache/apt/.*\.(deb|bin)$|/var/lib/apt/lists/.|/conda/pkgs/.*\.(conda|bz2)$"
)


_MOST_PLACES = 10_000  # folders with caches: an image can have any number of them
_ELSEWHERE = "many other folders"
_MOST_SECRETS = 1000  # more need not be listed to refuse an image


@dataclass(slots=True)
class Layers:
    """Files with secrets in the layers, and folder → bytes of caches."""

    secrets: list[str]
    caches: dict[str, int]


def is_suspect(path: str) -> bool:
    """Whether a layer's file is worth reading: it may be a secret, or is a cache."""
    return bool(
        _SECRET_NAMES.search(path) or _CACHES.search(path) or not _SYSTEM.match(path)
    )


def read_layers(engine: Engine, image: str) -> Layers:
    """Look into every layer: whoever has the image also has the files that a later layer deletes."""
    layers = Layers([], {})
    for path, size, content in engine.layer_files(image, is_suspect):
        if _CACHES.search(path):
            _add_cache(layers.caches, path, size)
        elif size and _has_secret(path, content):
            layers.secrets.append(path)
            if len(layers.secrets) >= _MOST_SECRETS:
                break
    return layers


def _has_secret(path: str, content: bytes) -> bool:
    if _SECRET_NAMES.search(path):
        return True
    return bool(SECRET.search(content.decode(errors="replace")))


def _add_cache(caches: dict[str, int], path: str, size: int) -> None:
    place, _, _ = path.rpartition("/")
    if len(caches) >= _MOST_PLACES:
        place = _ELSEWHERE
    earlier = caches.get(place, 0)
    caches[place] = earlier + size


def judge_caches(layers: Layers, bound: dict[str, float]) -> Check:
    """Whether the layers are free of caches, which only a build needs."""
    caches = layers.caches
    total = sum(caches.values())
    title = "no cache is in a layer"
    check = partial(
        Check, id="contract.caches", title=title, value=total, bound=bound, unit="B"
    )
    if total <= bound["max"]:
        return check(status=Status.PASSED)
    place = max(caches, key=caches.__getitem__)
    most = caches[place]
    remedy = "use cache mounts (`RUN --mount=type=cache,…`); deleting it in a later layer does not help"
    return check(
        status=Status.FAILED, detail=f"{size_text(most)} are in {place}", remedy=remedy
    )


# --- running them --------------------------------------------------------------------------------------------------


def attempt(title: str, identifier: str, make: Callable[[], Check]) -> Check:
    """A check, with its seconds; an exception becomes a check that ended in an error."""
    started = time.monotonic()
    try:
        check = make()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        detail = reason[:_LONGEST_REASON]
        check = Check(
            id=identifier,
            title=title,
            status=Status.ERROR,
            detail=detail,
            remedy="run it again",
        )
    seconds = time.monotonic() - started
    return replace(check, seconds=round(seconds, 2))
